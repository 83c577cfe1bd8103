--- Loads scripts/jobs/*.lua: each returns a job, a schedule, or a list of such.

local core = require "perigee.core.app"

local M = {}

local definitions = {}

local FIELDS = {
  queue = "string", name = "string", concurrency = "number", timeout = true,
  run = "function", every = true, cron = "string", tz = "string",
  data = true, opts = "table",
}

local function check(file, definition)
  if type(definition) ~= "table" then
    error(("%s:1: a job is a table, this is a %s"):format(file,
      type(definition)), 0)
  end
  for key, value in pairs(definition) do
    local expected = FIELDS[key]
    if not expected then
      error(("%s:1: unknown field %q"):format(file, tostring(key)), 0)
    end
    if expected ~= true and type(value) ~= expected then
      error(("%s:1: %s is a %s, not a %s"):format(file, key, type(value),
        expected), 0)
    end
  end
  if type(definition.run) ~= "function" then
    error(file .. ":1: a job needs run = function(job)", 0)
  end
  definitions[#definitions + 1] = definition
end

--- For perigee.app.
function M.load()
  for _, file in ipairs(core.files "scripts/jobs/") do
    if file:find "%.lua$" then
      local name = file:gsub("^scripts/", ""):gsub("%.lua$", "")
        :gsub("/", ".")
      local value = require(name)
      if type(value) == "table" and #value > 0 then
        for _, definition in ipairs(value) do check(file, definition) end
      else
        check(file, value)
      end
    end
  end
end

--- All that were loaded.
function M.list()
  return definitions
end

return M
