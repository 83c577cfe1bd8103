--- Regular expressions of ECMA-262 for schemas, in time linear in the text.

local ffi = require "ffi"
local core = require "perigee.core.regex"

local search = ffi.cast("int (*)(void *, const char *, size_t)", core.search)

local M = {}

--- A function that says whether a text matches, or nil and what is wrong.
---@param pattern string
---@return (fun(text: any): boolean)? match
---@return string? fault
function M.new(pattern)
  local owner, address = core.create(pattern)
  if not owner then
    return nil, address
  end
  return function(text)
    -- The owner is named so that it lives as long as the function does.
    return owner ~= nil and type(text) == "string"
      and search(address, text, #text) == 1
  end
end

return M
