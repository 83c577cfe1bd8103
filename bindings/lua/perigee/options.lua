--- Options of calls: one that nobody knows is a mistake in the program, and
--- raises; nothing is overlooked.

local M = {}

local getinfo = debug.getinfo

--- Raises for a mistake in the program, at the line that made it: the nearest
--- one on the way here that is not the library's own.
---@param text string
function M.blame(text)
  local level = 2
  local info = getinfo(level, "S")
  while info and (info.what == "C" or info.source:find "^[@=]perigee[/.]") do
    level = level + 1
    info = getinfo(level, "S")
  end
  error(text, info and level or 0)
end

local blame = M.blame

--- A number that is one, and not below the least; raises for any other value.
---@param value any
---@param least number
---@param what string # "cache: items"
---@return number
function M.number(value, least, what)
  if type(value) ~= "number" or not (value >= least and value < math.huge) then
    blame(("%s must be a number from %g on"):format(what, least))
  end
  return value
end

--- Raises unless the value is nil or of that type.
---@param value any
---@param wanted string
---@param what string
function M.is(value, wanted, what)
  if value ~= nil and type(value) ~= wanted then
    blame(("%s: a %s expected, got %s"):format(what, wanted, type(value)))
  end
end

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

local function refuse(name, known, what)
  blame(("%s: unknown option %s%s"):format(what, tostring(name),
    M.hint(name, known)))
end

--- Raises unless all options are known.
---@param opts any
---@param known table<string, any>
---@param what string # that takes them
function M.check(opts, known, what)
  if type(opts) ~= "table" then
    blame(what .. ": a table of options expected")
  end
  for name in pairs(opts) do
    if known[name] == nil then
      refuse(name, known, what)
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
