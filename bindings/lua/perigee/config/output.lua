--- The effective configuration as text: JSON for Lua, lines for C, and the list
--- that `perigee config` shows, with secrets masked.

local json = require "perigee.json"
local types = require "perigee.config.types"

local M = {}

M.MASK = "******"

-- A key is secret when a word of it is one of these, or it ends in them.
local SECRET_WORDS = { password = true, passwd = true, passphrase = true,
  secret = true, secrets = true, token = true, tokens = true,
  credential = true, credentials = true, apikey = true, passwords = true,
  authorization = true }
local SECRET_ENDINGS = { "api_key", "private_key", "secret_key", "access_key",
  "signing_key", "encryption_key", "auth_key", "api_keys" }

local function has_secret_name(name)
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


local known_names = {}

local function is_secret_name(name)
  local secret = known_names[name]
  if secret == nil then
    secret = has_secret_name(name)
    known_names[name] = secret
  end
  return secret
end

---@class perigee.config.Leaf
---@field path string
---@field value any       # a scalar, a list, or an empty table
---@field source string?  # nil: built in
---@field secret boolean  # by its name, or that of a table around it

local function walk(value, path, inherited, sources, leaves)
  if type(value) ~= "table" or types.is_list(value)
    or next(value) == nil then
    leaves[#leaves + 1] = { path = path, value = value,
      source = inherited.source, secret = inherited.secret }
    return
  end
  for _, key in ipairs(types.sorted_keys(value)) do
    local name = types.join(path, key)
    walk(value[key], name, {
      source = sources[name] or inherited.source,
      secret = inherited.secret or is_secret_name(tostring(key)),
    }, sources, leaves)
  end
end

--- All leaves of the configuration, in the order of their paths.
---@param config table
---@param tree perigee.config.Tree
---@return perigee.config.Leaf[]
function M.leaves(config, tree)
  local leaves = {}
  walk(config, "", { secret = false }, tree.sources, leaves)
  return leaves
end

-- C reads no JSON: of a list of tables each value has a line too, numbered
-- from 1: "http.tls.sni.1.cert".
local function flatten(list, path, lines)
  for i, item in ipairs(list) do
    for _, key in ipairs(types.sorted_keys(item)) do
      local value = item[key]
      local text = type(value) == "string" and value or json.encode(value)
      if not text:find "[\r\n]" then
        lines[#lines + 1] = ("%s.%d.%s\t%s"):format(path, i, key, text)
      end
    end
  end
end

--- core/base/settings.h: "key<TAB>value" a line. Values with a line break and
--- the application's own are left out. `explicit.KEY` marks what somebody set,
--- `note.N` are for the log.
---@param leaves perigee.config.Leaf[]
---@param notes string[]
---@return string
function M.settings(leaves, notes)
  local lines = {}
  for i, note in ipairs(notes) do
    lines[i] = ("note.%03d\t%s"):format(i, (note:gsub("%c", " ")))
  end
  for _, leaf in ipairs(leaves) do
    local path, value = leaf.path, leaf.value
    if path:sub(1, 4) ~= "app." and path ~= "app" then
      local text = type(value) == "string" and value or json.encode(value)
      if not text:find "[\r\n]" then
        lines[#lines + 1] = path .. "\t" .. text
      end
      if type(value) == "table" and type(value[1]) == "table" then
        flatten(value, path, lines)
      end
      if leaf.source and not leaf.source:find "^built%-in" then
        lines[#lines + 1] = "explicit." .. path .. "\ttrue"
      end
    end
  end
  lines[#lines + 1] = ""
  return table.concat(lines, "\n")
end

local function mask_text(text, secrets)
  for secret in pairs(secrets) do
    if #secret > 0 and text:find(secret, 1, true) then
      return M.MASK
    end
  end
  -- The user's name stays: it tells which account is meant.
  if text:find("://", 1, true) then
    text = text:gsub("(%a[%w+.-]*://[^/@%s:]*:)[^/@%s]*@", "%1" .. M.MASK
      .. "@")
  end
  return text
end

local function mask_list(list, secrets)
  local result = {}
  for i, item in ipairs(list) do
    if type(item) == "string" then
      result[i] = mask_text(item, secrets)
    elseif type(item) == "table" then
      result[i] = types.is_list(item) and mask_list(item, secrets)
        or next(item) and M.MASK or item
    else
      result[i] = item
    end
  end
  return types.array(result)
end

local function mask(leaf, secrets)
  local value = leaf.value
  if type(value) == "boolean" or (type(value) == "number"
    and leaf.path:sub(1, 4) ~= "app.") then
    return value
  end
  if leaf.secret and not (type(value) == "table" and next(value) == nil) then
    return M.MASK
  end
  if type(value) == "string" then
    return mask_text(value, secrets)
  elseif type(value) == "table" and types.is_list(value) then
    return mask_list(value, secrets)
  end
  return value
end

--- [{key, value, source}], in the order of the keys.
---@param leaves perigee.config.Leaf[]
---@param secrets table<string, boolean>  # values that came from files
---@return table[]
function M.sources(leaves, secrets)
  local list = {}
  for i, leaf in ipairs(leaves) do
    list[i] = { key = leaf.path, value = mask(leaf, secrets),
      source = leaf.source or "built-in default" }
  end
  return types.array(list)
end

return M
