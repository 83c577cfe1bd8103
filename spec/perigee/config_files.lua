--- Configurations from files that are nowhere but in a spec.

local json = require "perigee.json"
local loader = require "perigee.config.loader"

local M = {}

-- The loader on files that are nowhere but here.
function M.load(options)
  return loader.load {
    dir = options.dir or "/nowhere",
    env = options.env,
    dev = options.dev or false,
    terminal = options.terminal or false,
    overrides = options.overrides or {},
    environ = options.environ or {},
    files = options.files or {},
  }
end

-- The effective value of a key, as C reads it, and where it came from.
function M.effective(options, key)
  local result = M.load(options)
  assert(#result.faults == 0, json.encode(result.faults))
  local value = ("\n" .. result.settings):match("\n" .. key:gsub("%.", "%%.")
    .. "\t([^\n]*)")
  for _, entry in ipairs(json.decode(result.sources)) do
    if entry.key == key then
      return value, entry.source
    end
  end
  return value
end

function M.app_of(result)
  assert(#result.faults == 0, json.encode(result.faults))
  return json.decode(result.config).app
end

function M.faults(options)
  return M.load(options).faults
end

function M.default_lua(text)
  return { ["config/default.lua"] = text }
end

return M
