--- .env files, quoted as the dotenv package of Node reads them: `NAME=value`,
--- `NAME: value`, `export`, comments, values in ', " or ` over several lines,
--- \n and \r in double quotes only. Nothing is interpolated.

local M = {}

---@class perigee.config.EnvEntry
---@field name string
---@field value string
---@field line integer

local NAME = "^([%w_.-]+)"

-- The closing quote that is not behind a backslash; its position.
local function closing(text, quote, from)
  local at = from
  while at <= #text do
    local c = text:sub(at, at)
    if c == "\\" and text:sub(at + 1, at + 1) == quote then
      at = at + 1
    elseif c == quote then
      return at
    end
    at = at + 1
  end
  return nil
end

local function trim(text)
  return (text:match "^%s*(.-)%s*$")
end

local function line_end(text, from)
  return text:find("\n", from, true) or #text + 1
end

-- A quoted value at `at`: value and the position behind its line; nil when what
-- follows the closing quote makes it an ordinary value that begins with one.
local function quoted(text, at)
  local quote = text:sub(at, at)
  local close = closing(text, quote, at + 1)
  if not close then
    return nil, nil, text:sub(at, line_end(text, at) - 1):find(quote, 2, true)
      == nil
  end
  local stop = line_end(text, close)
  local rest = text:sub(close + 1, stop - 1)
  if not rest:find "^%s*$" and not rest:find "^%s*#" then
    return nil
  end
  local value = text:sub(at + 1, close - 1)
  if quote == '"' then
    value = value:gsub("\\n", "\n"):gsub("\\r", "\r")
  end
  return value, stop + 1
end

local function count_lines(text, from, to)
  local count = 0
  for _ in text:sub(from, to):gmatch "\n" do
    count = count + 1
  end
  return count
end

--- Reads the text of a .env file. Lines that mean nothing go to
--- fault(line, message).
---@param text string
---@param fault fun(line: integer, message: string)
---@return perigee.config.EnvEntry[]
function M.parse(text, fault)
  local entries, at, line = {}, 1, 1
  text = text:gsub("^\239\187\191", ""):gsub("\r\n?", "\n")
  while at <= #text do
    local stop = line_end(text, at)
    local content = text:sub(at, stop - 1)
    local next_at = stop + 1
    if not content:find "^%s*$" and not content:find "^%s*#" then
      local lead = #(content:match "^%s*export%s+" or content:match "^%s*")
      local name = content:match(NAME, lead + 1)
      local after = name and lead + #name + 1
      local operator = after and (content:match("^%s*=", after)
        or content:match("^:%f[%s]", after))
      if not operator then
        fault(line, "neither NAME=value nor a comment")
      else
        local start = at + after + #operator - 1
        local skip = #text:match("^[ \t]*", start)
        local value, behind, open
        if text:find("^['\"`]", start + skip) then
          value, behind, open = quoted(text, start + skip)
        end
        if open then
          fault(line, name .. ": a quote is not closed")
        elseif value then
          next_at = behind
        end
        value = value or trim((text:sub(start, stop - 1):gsub("#.*", "")))
        entries[#entries + 1] = { name = name, value = value, line = line }
      end
    end
    line = line + count_lines(text, at, next_at - 1)
    at = next_at
  end
  return entries
end

return M
