--- Queues in Redis: a list of texts that a script has packed. The server spends
--- more on each item of its reply than cmsgpack on all of them.

local M = {}

-- MessagePack's first bytes: items of a list, bytes of a text; how many bytes
-- behind them say how many, where the first one does not.
local LIST, TEXT = { [0xdc] = 2, [0xdd] = 4 },
  { [0xd9] = 1, [0xda] = 2, [0xdb] = 4 }

local function whole(text, at, bytes)
  local n = 0
  for i = at, at + bytes - 1 do
    n = n * 256 + text:byte(i)
  end
  return n
end

-- The number that begins at at, and where what follows begins.
local function header(text, at, kinds, short, mask)
  local first = text:byte(at)
  if first and first >= short and first <= short + mask then
    return first - short, at + 1
  end
  local bytes = kinds[first]
  if not bytes or #text < at + bytes then
    error("a list of texts in MessagePack expected", 0)
  end
  return whole(text, at + 1, bytes), at + 1 + bytes
end

--- The texts; raises where it is no such list.
---@param text string # as cmsgpack.pack has made it
---@return string[]
function M.unpack(text)
  local count, at = header(text, 1, LIST, 0x90, 15)
  local list = {}
  for i = 1, count do
    local length
    length, at = header(text, at, TEXT, 0xa0, 31)
    if #text < at + length - 1 then
      error("a list of texts in MessagePack expected", 0)
    end
    list[i] = text:sub(at, at + length - 1)
    at = at + length
  end
  return list
end

return M
