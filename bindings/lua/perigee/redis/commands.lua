--- Redis commands: what is known of them by name.

local options = require "perigee.options"

local M = {}

local blame = options.blame

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

--- The words that are sent: lists and maps among the arguments are flattened.
---@param ... any
---@return any[]
function M.flatten(...)
  local list = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) ~= "table" then
      list[#list + 1] = value
    elseif #value > 0 then
      for _, item in ipairs(value) do
        list[#list + 1] = item
      end
    else
      for name, item in pairs(value) do
        list[#list + 1] = name
        list[#list + 1] = item
      end
    end
  end
  return list
end

local function last_seconds(words)
  return tonumber(words[#words])
end

local function first_seconds(words)
  return tonumber(words[1])
end

-- Behind GROUP stand names, which may be any word.
local function block_option(from)
  return function(words)
    for i = from, #words do
      local upper = tostring(words[i]):upper()
      if upper == "STREAMS" then
        return nil
      elseif upper == "BLOCK" then
        return (tonumber(words[i + 1]) or 0) / 1000
      end
    end
    return nil
  end
end

local function wait_option(which)
  return function(words)
    return (tonumber(words[which]) or 0) / 1000
  end
end

local WAITS = {
  BLPOP = last_seconds,
  BRPOP = last_seconds,
  BRPOPLPUSH = last_seconds,
  BLMOVE = last_seconds,
  BZPOPMIN = last_seconds,
  BZPOPMAX = last_seconds,
  BLMPOP = first_seconds,
  BZMPOP = first_seconds,
  XREAD = block_option(1),
  XREADGROUP = block_option(4),
  WAIT = wait_option(2),
  WAITAOF = wait_option(3),
}

--- Commands that may wait on the server.
---@type table<string, fun(words: any[]): number?>
M.BLOCKING = WAITS

--- How long a command may wait on the server, in seconds; 0: for ever; nil: it
--- does not wait.
---@param upper string
---@param ... any
---@return number? seconds
function M.waits(upper, ...)
  local of = WAITS[upper]
  return of and of(M.flatten(...))
end

--- The command's name in capitals; raises for what must not be sent.
---@param name string
---@param ... any # its arguments
---@return string upper
function M.check(name, ...)
  if type(name) ~= "string" or name == "" then
    blame "redis: the name of a command expected"
  end
  local upper = name:upper()
  local why = REFUSED[upper]
  if not why and upper == "CLIENT" then
    why = REFUSED["CLIENT " .. tostring(M.flatten(...)[1]):upper()]
  end
  if why then
    blame(("redis: %s cannot be sent: %s"):format(upper, why))
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

-- Its first argument says what it is.
local function checked(method, first)
  return function(self, ...)
    M.check(first, ...)
    return method(self, ...)
  end
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
        blame(("redis: %s cannot be sent: %s"):format(joined, why))
      end
      local method = make(first, second)
      if joined == "CLIENT" then
        method = checked(method, first)
      end
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
