--- The effective configuration as text: JSON for Lua, lines for C, and the list
--- that `perigee config` shows, with secrets masked.

local types = require "perigee.config.types"

local M = {}

M.MASK = "******"

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return ESCAPES[c] or ("\\u%04x"):format(c:byte())
end

local function number(value)
  if value == math.floor(value) and math.abs(value) < 2 ^ 53 then
    return ("%d"):format(value)
  end
  local short = ("%.15g"):format(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

--- Plain data as JSON, keys sorted, so that equal configurations give equal
--- text.
---@param value any
---@return string
function M.json(value)
  local kind = type(value)
  if kind == "string" then
    return '"' .. value:gsub('[%c"\\]', escape) .. '"'
  elseif kind == "number" then
    return number(value)
  elseif kind ~= "table" then
    return tostring(value)
  end
  local parts = {}
  if types.is_list(value) then
    for i, item in ipairs(value) do
      parts[i] = M.json(item)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for i, key in ipairs(types.sorted_keys(value)) do
    parts[i] = M.json(tostring(key)) .. ":" .. M.json(value[key])
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- Calls fn(path, value) for every leaf: scalars, lists and empty tables.
local function each_leaf(value, path, fn)
  if type(value) ~= "table" or types.is_list(value)
    or next(value) == nil then
    fn(path, value)
    return
  end
  for _, key in ipairs(types.sorted_keys(value)) do
    each_leaf(value[key], types.join(path, key), fn)
  end
end
M.each_leaf = each_leaf

--- core/base/settings.h: "key<TAB>value" a line. Values with a line break and
--- the application's own are left out. `explicit.KEY` marks what somebody set.
---@param config table
---@param tree perigee.config.Tree
---@return string
function M.settings(config, tree)
  local lines = {}
  each_leaf(config, "", function(path, value)
    if path:find "^app%f[%z.]" then
      return
    end
    local text = type(value) == "string" and value or M.json(value)
    if not text:find "[\r\n]" then
      lines[#lines + 1] = path .. "\t" .. text
    end
    local source = tree:source(path)
    if source and not source:find "^built%-in" then
      lines[#lines + 1] = "explicit." .. path .. "\ttrue"
    end
  end)
  return table.concat(lines, "\n") .. "\n"
end

-- A key is secret when a word of it is one of these, or it ends in them.
local SECRET_WORDS = { password = true, passwd = true, passphrase = true,
  secret = true, secrets = true, token = true, tokens = true,
  credential = true, credentials = true, apikey = true, passwords = true,
  authorization = true }
local SECRET_ENDINGS = { "api_key", "private_key", "secret_key", "access_key",
  "signing_key", "encryption_key", "auth_key", "api_keys" }

local function is_secret_name(name)
  name = name:gsub("(%l)(%u)", "%1_%2"):lower():gsub("-", "_")
  for word in name:gmatch "[^_]+" do
    if SECRET_WORDS[word] then
      return true
    end
  end
  for _, ending in ipairs(SECRET_ENDINGS) do
    if name:sub(-#ending) == ending then
      return true
    end
  end
  return false
end

local function is_secret_path(path)
  for name in path:gmatch "[^.]+" do
    if is_secret_name(name) then
      return true
    end
  end
  return false
end

local function mask_text(text, secrets)
  for secret in pairs(secrets) do
    if #secret > 0 and text:find(secret, 1, true) then
      return M.MASK
    end
  end
  -- The user's name stays: it tells which account is meant.
  return (text:gsub("(%a[%w+.-]*://[^/@%s:]*:)[^/@%s]*@", "%1" .. M.MASK
    .. "@"))
end

local function mask(path, value, secrets)
  if type(value) == "boolean" or type(value) == "number"
    and not path:find "^app%." then
    return value
  end
  if is_secret_path(path) and not (type(value) == "table"
    and next(value) == nil) then
    return M.MASK
  end
  if type(value) == "string" then
    return mask_text(value, secrets)
  end
  if type(value) == "table" then
    local result = {}
    for key, item in pairs(value) do
      result[key] = mask(path .. "." .. key, item, secrets)
    end
    return setmetatable(result, getmetatable(value))
  end
  return value
end

--- [{key, value, source}], sorted by key.
---@param config table
---@param tree perigee.config.Tree
---@param secrets table<string, boolean>  # values that came from files
---@return table[]
function M.sources(config, tree, secrets)
  local list = types.array {}
  each_leaf(config, "", function(path, value)
    list[#list + 1] = { key = path, value = mask(path, value, secrets),
      source = tree:source(path) or "built-in default" }
  end)
  table.sort(list, function(a, b)
    return a.key < b.key
  end)
  return list
end

return M
