--- Where a key stands in a configuration file: Lua's tables do not tell, so the
--- text is scanned for table constructors. A heuristic for messages: what it
--- does not find has no line.

local M = {}

local OPENERS = { ["function"] = true, ["do"] = true, ["if"] = true,
  ["repeat"] = true }
local CLOSERS = { ["end"] = true, ["until"] = true }
local BRACKETS = { ["("] = 1, ["{"] = 1, ["["] = 1, [")"] = -1, ["}"] = -1,
  ["]"] = -1 }

local function count_breaks(text)
  return select(2, text:gsub("\n", ""))
end

local function long_end(text, at)
  local equals = text:match("^%[(=*)%[", at)
  if not equals then
    return nil
  end
  local _, stop = text:find("]" .. equals .. "]", at, true)
  return stop or #text
end

local function short_end(text, at)
  local quote, i = text:sub(at, at), at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == "\\" then
      i = i + 1
    elseif c == quote or c == "\n" then
      return i
    end
    i = i + 1
  end
  return #text
end

-- The end of what begins at `at`, and its kind.
local function token_end(text, at)
  if text:find("^%-%-", at) then
    return long_end(text, at + 2) or (text:find("\n", at, true) or #text + 1)
      - 1, "comment"
  end
  local c = text:sub(at, at)
  if c == '"' or c == "'" then
    return short_end(text, at), "string"
  elseif c == "[" and long_end(text, at) then
    return long_end(text, at), "string"
  elseif c:find "[%a_]" then
    return select(2, text:find("^[%w_]+", at)), "name"
  elseif c:find "%d" then
    return select(2, text:find("^[%w_.]+", at)), "number"
  elseif text:find("^[=~<>]=", at) then
    return at + 1, "operator"
  end
  return at, "operator"
end

---@return table[] # {kind, text, line}
local function tokens(text)
  local list, at, line = {}, 1, 1
  while at <= #text do
    local blank = text:match("^%s+", at)
    if blank then
      line = line + count_breaks(blank)
      at = at + #blank
    else
      local stop, kind = token_end(text, at)
      local piece = text:sub(at, stop)
      if kind ~= "comment" then
        list[#list + 1] = { kind = kind, text = piece, line = line }
      end
      line = line + count_breaks(piece)
      at = stop + 1
    end
  end
  return list
end

-- The key of a field that begins at i, and where its value does.
local function field_key(list, i)
  local first, second, third = list[i], list[i + 1], list[i + 2]
  if first.kind == "name" and second and second.text == "=" then
    return first.text, i + 2
  end
  if first.text == "[" and third and third.text == "]"
    and list[i + 3] and list[i + 3].text == "=" then
    local text = second.text
    return second.kind == "string" and text:sub(2, -2) or text, i + 4
  end
  return nil, i
end

local function skip_value(list, i)
  local depth = 0
  while list[i] do
    local text = list[i].text
    if depth == 0 and (text == "," or text == ";" or text == "}") then
      return i
    end
    if list[i].kind ~= "string" then
      if OPENERS[text] then
        depth = depth + 1
      elseif CLOSERS[text] then
        depth = depth - 1
      else
        depth = depth + (BRACKETS[text] or 0)
      end
    end
    i = i + 1
  end
  return i
end

-- list[i] is behind the brace. Gives the position of the closing one.
local function constructor(list, i, path, found, depth)
  local index = 0
  while list[i] and list[i].text ~= "}" do
    if list[i].text == "," or list[i].text == ";" then
      i = i + 1
    else
      local line = list[i].line
      local key, value = field_key(list, i)
      if not key then
        index = index + 1
        key = tostring(index)
      end
      local name = path == "" and key or path .. "." .. key
      found[name] = found[name] or line
      if list[value] and list[value].text == "{" and depth < 50 then
        value = constructor(list, value + 1, name, found, depth + 1) + 1
      end
      i = skip_value(list, value)
    end
  end
  return i
end

--- Lines of the keys, by dotted path.
---@param text string
---@return table<string, integer>
function M.of(text)
  local list, found, others = tokens(text), {}, {}
  local i = 1
  while list[i] do
    if list[i].text == "{" and list[i].kind == "operator" then
      local before = list[i - 1]
      local returned = before and before.text == "return"
      i = constructor(list, i + 1, "", returned and found or others, 0)
    end
    i = i + 1
  end
  return setmetatable(found, { __index = others })
end

return M
