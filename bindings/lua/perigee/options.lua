--- Options of calls: one that nobody knows is a mistake in the program, and
--- raises; nothing is overlooked.

local M = {}

--- '; did you mean "timeout"?' for a mistyped name, "" when none is near.
---@param name any
---@param known table<string, any>
---@return string
function M.hint(name, known)
  local names = {}
  for candidate in pairs(known) do
    names[#names + 1] = candidate
  end
  local near = require("perigee.config.suggest").nearest(name, names)
  return near and ('; did you mean "%s"?'):format(near) or ""
end

local function refuse(name, known, what, level)
  error(("%s: unknown option %s%s"):format(what, tostring(name),
    M.hint(name, known)), level + 1)
end

--- Raises unless all options are known.
---@param opts any
---@param known table<string, any>
---@param what string # that takes them
---@param level integer # whom to blame, as error() takes it where this is called
function M.check(opts, known, what, level)
  if type(opts) ~= "table" then
    error(what .. ": a table of options expected", level + 1)
  end
  for name in pairs(opts) do
    if known[name] == nil then
      refuse(name, known, what, level + 1)
    end
  end
end

--- Whether two calls were given the same options: what a name stands for is made
--- once, also where a table is written in the call.
---@param a any
---@param b any
---@return boolean
function M.same(a, b)
  if a == b or type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for name, value in pairs(a) do
    if not M.same(value, b[name]) then
      return false
    end
  end
  for name in pairs(b) do
    if a[name] == nil then
      return false
    end
  end
  return true
end

return M
