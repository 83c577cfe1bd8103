--- Loads scripts/jobs/*.lua: each returns a job, a schedule, or a list of such.

local core = require "perigee.core.app"
local scripts = require "perigee.scripts"
local units = require "perigee.units"

local M = {}

---@class perigee.JobDefinition
---@field queue string?         # the file's name unless told
---@field name string?          # only jobs of that name; without: all others
---@field concurrency integer?  # at once in each worker; 1 unless told
---@field weight number?        # of its queue, when queue.concurrency is not enough for all; 1 unless told
---@field timeout string|number|nil # a run may take
---@field run fun(job: perigee.RunningJob): any, perigee.Error?
---@field every string|number|nil # a schedule: so often
---@field cron string?          # a schedule: 5 or 6 fields
---@field tz string?            # of cron
---@field limit integer?        # of a schedule: so many times
---@field backoff fun(failed: integer, err: any, job: perigee.RunningJob): string|number|false|nil # for backoff "custom"; false: not again
---@field data any              # of a schedule's jobs
---@field opts table?           # options of a schedule's jobs
---@field catch_up string?      # of a schedule: "one", "none" or "all" of what was missed

---@type perigee.JobDefinition[]
local definitions = {}

local FIELDS = {
  queue = "string", name = "string", concurrency = "number",
  weight = "number", timeout = true,
  run = "function", every = true, cron = "string", tz = "string",
  data = true, opts = "table", catch_up = "string", limit = "number",
  backoff = "function",
}

local CATCH_UP = { one = true, none = true, all = true }

local function fault(file, text, ...)
  error(("%s:1: "):format(file) .. text:format(...), 0)
end

local function check_values(file, made)
  if made.queue == "" or made.queue:find "[:%c]" then
    fault(file, "queue: %q is no name for a queue", made.queue)
  end
  if made.concurrency and (made.concurrency < 1
    or made.concurrency ~= math.floor(made.concurrency)) then
    fault(file, "concurrency: a whole number from 1 expected")
  end
  if made.weight and not (made.weight > 0 and made.weight <= 1000) then
    fault(file, "weight: a number above 0, up to 1000, expected")
  end
  for _, key in ipairs { "timeout", "every" } do
    if made[key] ~= nil then
      local ms, why = units.duration(made[key])
      if not ms or ms < (key == "every" and 1 or 0) then
        fault(file, "%s: %s", key, why or "more than nothing expected")
      end
      made[key] = math.floor(ms)
    end
  end
  if made.catch_up and not CATCH_UP[made.catch_up] then
    fault(file, 'catch_up: "one", "none" or "all" expected')
  end
  if made.limit and (made.limit < 1 or made.limit % 1 ~= 0) then
    fault(file, "limit: a whole number from 1 expected")
  end
  if made.every and made.cron then
    fault(file, "a schedule has either every or cron")
  elseif made.cron then
    local _, why = require("perigee.queue.cron").parse(made.cron, made.tz)
    if why then
      fault(file, "%s", why)
    end
  end
  if made.opts then
    local ok, why = pcall(require("perigee.queue.options").check, made.opts, 0)
    if not ok then
      fault(file, "opts: %s", why)
    end
  end
end

local function find(queue, key, value)
  for _, other in ipairs(definitions) do
    if other.queue == queue and other[key] == value then
      return other
    end
  end
  return nil
end

-- A schedule has an id in its queue; any other definition runs the jobs of a
-- name, or all that nobody else runs.
local function set_apart(file, made)
  if made.every or made.cron then
    local base, n = made.name or file:match "([^/]+)%.lua$", 1
    made.schedule = base
    while find(made.queue, "schedule", made.schedule) do
      n = n + 1
      made.schedule = ("%s-%d"):format(base, n)
    end
    return
  end
  made.runs = made.name or "*"
  local other = find(made.queue, "runs", made.runs)
  if other then
    fault(file, "jobs %s of queue %q are run by %s already",
      made.name and ("%q"):format(made.name) or "without a definition of their "
      .. "own", made.queue, other.file)
  end
end

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
  local base = file:match "([^/]+)%.lua$"
  local made = {}
  for key, value in pairs(definition) do
    made[key] = value
  end
  made.queue = definition.queue or base
  made.file = file
  check_values(file, made)
  set_apart(file, made)
  definitions[#definitions + 1] = made
end

--- For perigee.app.
function M.load()
  for _, file in ipairs(core.files "scripts/jobs/") do
    if file:find "%.lua$" then
      local value = scripts.load(file)
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
