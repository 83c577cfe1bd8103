--- The objects that perigee.http's functions return.

local M = {}

---@class perigee.Answer

M.metatable = {}

--- For perigee.http and perigee.response.
function M.new(form, fields)
  return setmetatable({ form = form, fields = fields }, M.metatable)
end

--- Whether a value is an answer object.
function M.is(value)
  return type(value) == "table" and getmetatable(value) == M.metatable
end

return M
