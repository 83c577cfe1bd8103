--- Redis: `redis.get "main"` and what it gives.

local core = require "perigee.core.redis"
local errors = require "perigee.error"
local json = require "perigee.json"

local M = {}

local VALUE, MAP, LIST, EXEC = 0, 1, 2, 3

-- Commands whose reply is a list of names and values.
local MAPS = { HGETALL = true, ["CONFIG GET"] = true }

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
  SSUBSCRIBE = "sharded channels are not supported",
  UNSUBSCRIBE = "use sub:close()",
  PUNSUBSCRIBE = "use sub:close()",
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

-- How long a command may wait on the server, in seconds; 0: for ever; nil: it
-- does not wait.
local BLOCKING = {
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

-- Not with others in one write: it may keep them waiting.
local function check_plain(name, ...)
  local upper = name:upper()
  local why = REFUSED[upper]
  if not why and (upper == "CLIENT") then
    why = REFUSED["CLIENT " .. tostring((...)):upper()]
  end
  if why then
    error(("redis: %s cannot be sent: %s"):format(upper, why), 3)
  end
  return upper
end

local function shape_of(upper, first)
  if MAPS[upper] then
    return MAP
  elseif upper == "CONFIG" and type(first) == "string"
    and first:upper() == "GET" then
    return MAP
  end
  return VALUE
end

local function settle(lease, ok, ...)
  if not ok then
    core.give(lease, false)
    error((...), 0)
  end
  local first, err = ...
  -- A server's error leaves the connection as it was.
  core.give(lease, first ~= nil or err == nil)
  return ...
end

local function run_blocking(client, shape, seconds, ...)
  local lease, err = core.take(client.core)
  if not lease then
    return nil, err
  end
  local ms = seconds > 0 and seconds * 1000 + client.timeout_ms or 0
  return settle(lease, pcall(core.on, lease, shape, ms, ...))
end

---@class perigee.redis.Client
---@field core userdata
local Client = {}

local function run(client, upper, ...)
  local waits = BLOCKING[upper]
  local seconds = waits and waits(...)
  if seconds then
    return run_blocking(client, VALUE, seconds, upper, ...)
  end
  return core.command(client.core, shape_of(upper, (...)), upper, ...)
end

--- Sends any command. Arguments: strings, numbers, 64-bit integers; a list or a
--- map among them is flattened. Every command is a method too: `r:get(key)`,
--- `r:config_get(name)`. Null is nil, inside of lists json.null; HGETALL and
--- CONFIG GET give a map.
---@param name string
---@param ... any
---@return any reply
---@return perigee.Error? err # code is the first word of the server's error
function Client:call(name, ...)
  return run(self, check_plain(name, ...), ...)
end

-- "client_getname" is two words, "eval_ro" one.
local function words_of(method)
  local upper = method:upper()
  if upper:find("_RO$") or not upper:find("_", 1, true) then
    return upper
  end
  return upper:match "^(.-)_(.*)$"
end

local function method_of(name)
  local first, second = words_of(name)
  local joined = second and first .. " " .. second:gsub("_", "-") or first
  local why = REFUSED[joined] or REFUSED[first]
  if why then
    error(("redis: %s cannot be sent: %s"):format(joined, why), 3)
  end
  if second then
    second = second:gsub("_", "-")
    return function(self, ...)
      return run(self, first, second, ...)
    end
  end
  if BLOCKING[first] then
    return function(self, ...)
      return run(self, first, ...)
    end
  end
  local shape = MAPS[first] and MAP or VALUE
  local command = core.command
  return function(self, ...)
    return command(self.core, shape, first, ...)
  end
end

local function with_methods(class, make)
  return setmetatable(class, {
    __index = function(_, name)
      if type(name) ~= "string" or not name:find "^%a[%w_]*$" then
        return nil
      end
      local method = make(name)
      class[name] = method
      return method
    end,
  })
end

-- ---- pipelines and transactions ----

---@class perigee.redis.Pipeline
local Pipeline = {}

local function push(self, upper, ...)
  if self.done then
    error("redis: the pipeline has been sent", 3)
  end
  local waits = BLOCKING[upper]
  if waits and not self.blocking and waits(...) then
    error(("redis: %s would keep others waiting in a pipeline"):format(upper),
      3)
  end
  local n = self.count + 1
  self.count = n
  self[n] = core.encode(upper, ...)
  self.maps[n] = shape_of(upper, (...)) == MAP
end

--- Adds a command; every command is a method too.
---@param name string
---@param ... any
function Pipeline:call(name, ...)
  push(self, check_plain(name, ...), ...)
end

with_methods(Pipeline, function(name)
  local first, second = words_of(name)
  local why = REFUSED[second and first .. " " .. second or first]
  if why then
    error(("redis: %s cannot be sent: %s"):format(name, why), 3)
  end
  return function(self, ...)
    if second then
      return push(self, first, (second:gsub("_", "-")), ...)
    end
    return push(self, first, ...)
  end
end)

local function to_map(list)
  local map = {}
  for i = 1, #list, 2 do
    map[list[i]] = list[i + 1]
  end
  return map
end

local function finish_list(p, list, err)
  if not list then
    return nil, err
  end
  for i = 1, p.count do
    if p.maps[i] and type(list[i]) == "table" and not errors.is(list[i]) then
      list[i] = to_map(list[i])
    end
  end
  return list
end

local function collect(fn, blocking)
  if type(fn) ~= "function" then
    error("a function expected, got " .. type(fn), 3)
  end
  -- No field may be nil: it would be taken for a command.
  local p = setmetatable({
    count = 0,
    maps = {},
    blocking = blocking,
    done = false,
  }, { __index = Pipeline })
  local first, err = fn(p)
  p.done = true
  if first == nil and err ~= nil then
    return nil, err
  end
  return p
end

local function send_transaction(to, fn)
  local p, err = collect(fn, true)
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  local text = core.encode "MULTI" .. table.concat(p, "", 1, p.count)
    .. core.encode "EXEC"
  return finish_list(p, core.many(to, EXEC, text, p.count + 2))
end

--- Sends what fn adds to its argument in one go.
---@param fn fun(p: perigee.redis.Pipeline)
---@return any[]? replies # errors as values, null as json.null
---@return perigee.Error? err # when it could not be sent, or fn gave one
function Client:pipeline(fn)
  local p, err = collect(fn, false)
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  return finish_list(p, core.many(self.core, LIST,
    table.concat(p, "", 1, p.count), p.count))
end

--- The same between MULTI and EXEC: all of it, with nothing of others between.
---@param fn fun(p: perigee.redis.Pipeline)
---@return any[]? replies # errors of single commands as values
---@return perigee.Error? err # also when a command was refused: nothing is done
function Client:transaction(fn)
  return send_transaction(self.core, fn)
end

---@class perigee.redis.Watch
local Watch = {}

--- Any command, on the connection that watches. Methods too.
---@param name string
---@param ... any
---@return any reply
---@return perigee.Error? err
function Watch:call(name, ...)
  local upper = check_plain(name, ...)
  return core.on(self.lease, shape_of(upper, (...)), self.timeout_ms, upper,
    ...)
end

with_methods(Watch, function(name)
  local first, second = words_of(name)
  return function(self, ...)
    if second then
      return Watch.call(self, first, (second:gsub("_", "-")), ...)
    end
    return Watch.call(self, first, ...)
  end
end)

--- As r:transaction, done only if no watched key has changed since.
---@param fn fun(p: perigee.redis.Pipeline)
---@return any[]? replies
---@return perigee.Error? err # kind "conflict", code "WATCH": a key changed
function Watch:transaction(fn)
  self.executed = true
  return send_transaction(self.lease, fn)
end

local function end_watch(w, ok, ...)
  if not ok then
    core.give(w.lease, false)
    error((...), 0)
  end
  local clean = w.executed
  if not clean then
    clean = core.on(w.lease, VALUE, w.timeout_ms, "UNWATCH")
  end
  core.give(w.lease, clean ~= nil)
  return ...
end

--- Watches keys while fn reads and decides: `w:get(key)`, then
--- `return w:transaction(function(p) ... end)`. Gives what fn gives.
---@generic T
---@param keys string|string[]
---@param fn fun(w: perigee.redis.Watch): T?, any
---@return T? value
---@return perigee.Error? err # kind "conflict", code "WATCH": a key changed
function Client:watch(keys, fn)
  if type(fn) ~= "function" then
    error("a function expected, got " .. type(fn), 2)
  end
  local lease, err = core.take(self.core)
  if not lease then
    return nil, err
  end
  local w = setmetatable({
    lease = lease,
    timeout_ms = self.timeout_ms,
    executed = false,
  }, { __index = Watch })
  local ok, watched, why = pcall(core.on, lease, VALUE, self.timeout_ms,
    "WATCH", keys)
  if not ok or not watched then
    core.give(lease, false)
    if not ok then
      error(watched, 0)
    end
    return nil, why
  end
  return end_watch(w, pcall(fn, w))
end

-- ---- scripts ----

local NONE = {}

--- A Lua script for the server: a function(keys, args) that runs it, by its
--- hash; the server gets the source when it does not know it (any more).
---@param source string
---@return fun(keys: string[]?, args: any[]?): any, perigee.Error?
function Client:script(source)
  local sha = core.sha1_hex(source)
  local handle = self.core
  return function(keys, args)
    keys, args = keys or NONE, args or NONE
    local function eval(name, what)
      if #args == 0 then
        if #keys == 0 then
          return core.command(handle, VALUE, name, what, 0)
        end
        return core.command(handle, VALUE, name, what, #keys, keys)
      elseif #keys == 0 then
        return core.command(handle, VALUE, name, what, 0, args)
      end
      return core.command(handle, VALUE, name, what, #keys, keys, args)
    end
    local reply, err = eval("EVALSHA", sha)
    if reply == nil and err and err.code == "NOSCRIPT" then
      return eval("EVAL", source)
    end
    return reply, err
  end
end

-- ---- subscriptions ----

---@class perigee.redis.Message
---@field channel string
---@field pattern string? # that it matched, of psubscribe
---@field message string

---@class perigee.redis.Subscription
---@field err perigee.Error? # why it ended
local Subscription = {}
Subscription.__index = Subscription

--- The next message; nil when the subscription has ended (see err).
---@return perigee.redis.Message? message
---@return perigee.Error? err
function Subscription:next()
  while true do
    local channel, message, pattern = core.event(self.core)
    if channel == nil then
      self.err = message
      return nil, message
    elseif channel ~= true and channel ~= false then
      return { channel = channel, pattern = pattern, message = message }
    end
  end
end

Subscription.__call = Subscription.next

--- Ends it; a loop over it ends.
function Subscription:close()
  core.unsubscribe(self.core)
end

local function subscribe(client, command, ...)
  local count = select("#", ...)
  if count == 0 then
    error("redis: no channel to subscribe to", 3)
  end
  local handle = core.subscribe(client.core, count,
    core.encode(command, ...))
  local live, err = core.event(handle)
  if not live then
    core.unsubscribe(handle)
    return nil, err
  end
  return setmetatable({ core = handle }, Subscription)
end

--- Messages of channels: `for m in r:subscribe("a", "b") do`. It has a
--- connection of its own that comes back when it is lost; what was published
--- meanwhile is lost.
---@param ... string
---@return perigee.redis.Subscription? subscription # also callable: next
---@return perigee.Error? err
function Client:subscribe(...)
  return subscribe(self, "SUBSCRIBE", ...)
end

--- The same for patterns.
---@param ... string
---@return perigee.redis.Subscription? subscription
---@return perigee.Error? err
function Client:psubscribe(...)
  return subscribe(self, "PSUBSCRIBE", ...)
end

-- ---- scans ----

---@class perigee.redis.ScanOptions
---@field match string?
---@field count integer?
---@field type string? # of keys

local function scan(client, step, name, key, options)
  options = options or {}
  local arguments = {}
  for _, word in ipairs { "match", "count", "type" } do
    if options[word] ~= nil then
      arguments[#arguments + 1] = word:upper()
      arguments[#arguments + 1] = options[word]
    end
  end
  local cursor, items, at = "0", nil, 1
  return function()
    while not items or at > #items do
      if items and cursor == "0" then
        return nil
      end
      local words = key and { key, cursor } or { cursor }
      for _, word in ipairs(arguments) do
        words[#words + 1] = word
      end
      local reply, err = core.command(client.core, VALUE, name, words)
      if not reply then
        error(err, 0)
      end
      cursor, items, at = reply[1], reply[2], 1
    end
    local item, value = items[at], items[at + 1]
    at = at + step
    if step == 2 then
      return item, value
    end
    return item
  end
end

--- All keys, in steps: `for key in r:each { match = "user:*" } do`. Raises when
--- a step fails.
---@param options perigee.redis.ScanOptions?
---@return fun(): string?
function Client:each(options)
  return scan(self, 1, "SCAN", nil, options)
end

--- Field and value of a hash.
---@param key string
---@param options perigee.redis.ScanOptions?
---@return fun(): string?, string?
function Client:heach(key, options)
  return scan(self, 2, "HSCAN", key, options)
end

--- Members of a set.
---@param key string
---@param options perigee.redis.ScanOptions?
---@return fun(): string?
function Client:seach(key, options)
  return scan(self, 1, "SSCAN", key, options)
end

--- Member and score (text) of a sorted set.
---@param key string
---@param options perigee.redis.ScanOptions?
---@return fun(): string?, string?
function Client:zeach(key, options)
  return scan(self, 2, "ZSCAN", key, options)
end

--- Counts of this worker: commands, writes, time-outs, attempts to connect.
---@return {commands: integer, writes: integer, timeouts: integer, connects: integer}
function Client:stats()
  return core.stats(self.core)
end

with_methods(Client, method_of)

local open = {}

--- The Redis of that name in the configuration (redis.NAME.url). Connects when
--- the first command comes.
---@param name string? # "main" unless told
---@return perigee.redis.Client
function M.get(name)
  name = name or "main"
  local client = open[name]
  if not client then
    local handle, why = core.open(name)
    if not handle then
      error(why and ("redis %s: %s"):format(name, why)
        or ("no Redis %q: set redis.%s.url in config/"):format(
          tostring(name), tostring(name)), 2)
    end
    local options = require("perigee.config").redis[name]
    client = setmetatable({
      core = handle,
      timeout_ms = options.timeout,
    }, { __index = Client })
    open[name] = client
  end
  return client
end

return M
