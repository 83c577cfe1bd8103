--- The effective configuration, read-only.
---
---     local config = require "perigee.config"
---     config.http.request_timeout          -- 30000
---     config.get("app.stripe.secret", "")  -- with a default
---
--- Tables are views: reading goes through, an assignment raises. pairs and
--- ipairs (of this VM) and json.encode see what is in them; next does not.
--- Lists are handed out as copies, so #, ipairs and table.concat just work.

local core = require "perigee.core.config"
local json = require "perigee.json"

local M = {}

local function refuse(_, key)
  error(("perigee.config is read-only: %s cannot be set"):format(
    tostring(key)), 2)
end

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local mt = debug.getmetatable(value)
  local source = mt and mt.__json or value
  local result = {}
  for key, item in next, source do
    result[key] = copy(item)
  end
  -- A list stays one, even when it is empty.
  return mt and not mt.__json and setmetatable(result, mt) or result
end

local function is_list(value)
  return value[1] ~= nil or debug.getmetatable(value) ~= nil
end

local function describe(path, plain)
  return function()
    return ("perigee.config%s: %s"):format(path, (json.encode(plain)))
  end
end

local view

-- What a view's keys lead to: scalars and views are there, lists are copied at
-- each reading, since nothing could guard their elements.
local function contents(plain, path)
  local here, lists = {}, {}
  for key, value in next, plain do
    if type(value) ~= "table" then
      here[key] = value
    elseif is_list(value) then
      lists[key] = value
    else
      here[key] = view(value, path .. "." .. tostring(key))
    end
  end
  return setmetatable(here, { __index = function(_, key)
    return copy(lists[key])
  end })
end

function view(plain, path)
  local here = contents(plain, path)
  local proxy
  local function step(_, key)
    local name = next(plain, key)
    if name ~= nil then
      return name, proxy[name]
    end
    return nil
  end
  proxy = setmetatable({}, {
    __index = here,
    __newindex = refuse,
    __pairs = function(t)
      return step, t, nil
    end,
    __json = plain, -- what json.encode takes instead
    __tostring = describe(path, plain),
  })
  return proxy
end

--- pairs that honours __pairs, as in Lua 5.2; ordinary tables as ever.
local function install_pairs()
  local plain_pairs = pairs
  rawset(_G, "pairs", function(t)
    local mt = getmetatable(t)
    local custom = type(mt) == "table" and mt.__pairs
    if custom then
      return custom(t)
    end
    return plain_pairs(t)
  end)
end

local plain = assert(json.decode(core.text() or "{}"))
local root = view(plain, "")

--- The value at a dotted path, or the default where there is none.
---@param path string
---@param default any
---@return any
function M.get(path, default)
  local value = root
  for key in tostring(path):gmatch "[^.]+" do
    if type(value) ~= "table" then
      return default
    end
    value = value[key]
  end
  if value == nil then
    return default
  end
  return value
end

--- A plain deep copy, for code that changes or iterates what it is given.
---@generic T
---@param value T
---@return T
function M.copy(value)
  return copy(value)
end

install_pairs()

---@class perigee.Config
---@field app table
---@field http table
---@field log table
---@field sqlite table<string, table>
---@field get fun(path: string, default: any): any
---@field copy fun(value: any): any
return setmetatable({}, {
  __index = function(_, key)
    local own = M[key]
    if own ~= nil then
      return own
    end
    return root[key]
  end,
  __newindex = refuse,
  __pairs = function()
    return pairs(root)
  end,
  __json = plain,
  __tostring = describe("", plain),
})
