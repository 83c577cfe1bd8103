--- What exec and repl share: an application that is loaded but serves nothing,
--- text as a chunk, values as text.

local app = require "perigee.app"
local errors = require "perigee.error"
local json = require "perigee.json"

local M = {}

-- Assignments to globals stay here: the VM's own are locked.
local scope = setmetatable({}, { __index = _G })

--- Loads routes, jobs and main, and brings databases up to date. on_start does
--- not run: this is no worker.
---@return boolean? ok, string? faults
function M.load()
  local ok, why = app.inspect()
  if not ok then
    return nil, why
  end
  local core = require "perigee.core.app"
  if #core.files "scripts/data/migrations/" > 0 then
    local migrated, err = require("perigee.sqlite").migrate()
    if not migrated then
      return nil, tostring(err)
    end
  end
  return true
end

local function values(...)
  return ...
end

--- Lua text as a function: an expression's values, or statements.
---@param text string
---@param name string
---@return function? chunk, string? why
function M.compile(text, name)
  -- As arguments, so that a call is no tail call: those have no line.
  local chunk = loadstring("local _ = ... return _(" .. text .. "\n)", name)
  if chunk then
    setfenv(chunk, scope)
    return function()
      return chunk(values)
    end
  end
  local statements, why = loadstring(text, name)
  if not statements then
    return nil, why
  end
  return setfenv(statements, scope)
end

--- A value for the eye: text as it is, tables as JSON where they can be.
---@param value any
---@return string
function M.show(value)
  if errors.is(value) then
    return ("%s: %s"):format(value.kind, value.message)
  elseif type(value) == "table" then
    return (json.encode(value)) or tostring(value)
  end
  return tostring(value)
end

-- The frames down to the chunk; what lies below it is ours.
local function own_frames(trace)
  local kept = {}
  for line in trace:gmatch "[^\n]+" do
    if line:find "perigee/cli/" then
      break
    end
    if not line:find "^\t%[C%]: in function '[er][ru][rn]" then -- error, run
      kept[#kept + 1] = line
    end
  end
  return kept
end

local function traceback(err)
  if errors.is(err) then
    return M.show(err)
  end
  local kept = own_frames(debug.traceback(M.show(err), 2))
  return table.concat(kept, "\n", 1, #kept > 3 and #kept or 1)
end

--- Runs a chunk: true and its values, or false and a text with the traceback.
---@param chunk function
function M.run(chunk)
  return xpcall(chunk, traceback)
end

return M
