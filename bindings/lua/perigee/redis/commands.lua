--- Redis commands: what is known of them by name.

local M = {}

-- What a call gives, as bindings/redis_bind.h has it.
M.VALUE, M.MAP, M.LIST, M.EXEC = 0, 1, 2, 3

-- Commands whose reply is a list of names and values.
local MAPS = { HGETALL = true }

-- They would change what others on the same connection get.
local REFUSED = {
  AUTH = "user and password belong into the URL",
  SELECT = "the database belongs into the URL",
  HELLO = "the protocol is RESP2",
  QUIT = "connections are the client's",
  RESET = "connections are the client's",
  MONITOR = "it never ends",
  SYNC = "this is no replica",
  PSYNC = "this is no replica",
  MULTI = "use r:transaction(fn)",
  EXEC = "use r:transaction(fn)",
  DISCARD = "use r:transaction(fn)",
  WATCH = "use r:watch(keys, fn)",
  UNWATCH = "use r:watch(keys, fn)",
  SUBSCRIBE = "use r:subscribe(...)",
  PSUBSCRIBE = "use r:psubscribe(...)",
  SSUBSCRIBE = "use r:ssubscribe(...)",
  UNSUBSCRIBE = "use sub:close()",
  PUNSUBSCRIBE = "use sub:close()",
  SUNSUBSCRIBE = "use sub:close()",
  ASKING = "the client follows a cluster by itself",
  READONLY = "use redis.NAME.read_from",
  READWRITE = "use redis.NAME.read_from",
  ["CLIENT REPLY"] = "every reply is awaited",
  ["CLIENT TRACKING"] = "the connection is shared",
}

local function last_seconds(...)
  return tonumber((select(select("#", ...), ...)))
end

local function first_seconds(seconds)
  return tonumber(seconds)
end

local function block_option(...)
  for i = 1, select("#", ...) do
    local word = select(i, ...)
    if type(word) == "string" then
      local upper = word:upper()
      if upper == "STREAMS" then
        return nil
      elseif upper == "BLOCK" then
        return (tonumber((select(i + 1, ...))) or 0) / 1000
      end
    end
  end
  return nil
end

local function wait_option(which)
  return function(...)
    return (tonumber((select(which, ...))) or 0) / 1000
  end
end

--- How long a command may wait on the server, in seconds; 0: for ever; nil: it
--- does not wait.
---@type table<string, fun(...): number?>
M.BLOCKING = {
  BLPOP = last_seconds,
  BRPOP = last_seconds,
  BRPOPLPUSH = last_seconds,
  BLMOVE = last_seconds,
  BZPOPMIN = last_seconds,
  BZPOPMAX = last_seconds,
  BLMPOP = first_seconds,
  BZMPOP = first_seconds,
  XREAD = block_option,
  XREADGROUP = block_option,
  WAIT = wait_option(2),
  WAITAOF = wait_option(3),
}

--- The command's name in capitals; raises for what must not be sent.
---@param name string
---@param ... any # its arguments
---@return string upper
function M.check(name, ...)
  local upper = name:upper()
  local why = REFUSED[upper]
  if not why and upper == "CLIENT" then
    why = REFUSED["CLIENT " .. tostring((...)):upper()]
  end
  if why then
    error(("redis: %s cannot be sent: %s"):format(upper, why), 3)
  end
  return upper
end

--- MAP or VALUE.
---@param upper string
---@param first any # argument
---@return integer shape
function M.shape_of(upper, first)
  if MAPS[upper] then
    return M.MAP
  elseif upper == "CONFIG" and type(first) == "string"
    and first:upper() == "GET" then
    return M.MAP
  end
  return M.VALUE
end

-- "client_getname" is two words, "eval_ro" one.
local function words_of(method)
  local upper = method:upper()
  if upper:find("_RO$") or not upper:find("_", 1, true) then
    return upper
  end
  local first, second = upper:match "^(.-)_(.*)$"
  return first, (second:gsub("_", "-"))
end

--- Gives a class every command as a method: make(first, second) builds it, second
--- is the subcommand or nil.
---@param class table
---@param make fun(first: string, second: string?): function
function M.with_methods(class, make)
  return setmetatable(class, {
    __index = function(_, name)
      if type(name) ~= "string" or not name:find "^%a[%w_]*$" then
        return nil
      end
      local first, second = words_of(name)
      local joined = second and first .. " " .. second or first
      local why = REFUSED[joined] or REFUSED[first]
      if why then
        error(("redis: %s cannot be sent: %s"):format(joined, why), 2)
      end
      local method = make(first, second)
      class[name] = method
      return method
    end,
  })
end

--- A list of names and values as a table.
---@param list any[]
---@return table
function M.to_map(list)
  local map = {}
  for i = 1, #list, 2 do
    map[list[i]] = list[i + 1]
  end
  return map
end

return M
