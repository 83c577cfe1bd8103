--- Redis: the client of one server.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local json = require "perigee.json"
local lease = require "perigee.redis.lease"
local blame = require("perigee.options").blame
local pipeline = require "perigee.redis.pipeline"
local scan = require "perigee.redis.scan"
local subscription = require "perigee.redis.subscription"
local watch = require "perigee.redis.watch"

local BLOCKING, VALUE, LIST = commands.BLOCKING, commands.VALUE, commands.LIST

---@class perigee.redis.Client
---@field core userdata
---@field router false # see routed.lua; any other name is a command's
local Client = { router = false }

local function run(client, upper, ...)
  local seconds = commands.waits(upper, ...)
  if seconds then
    return lease.run(client.core, VALUE, seconds, client.timeout_ms, false,
      upper, ...)
  end
  return core.command(client.core, commands.shape_of(upper, (...)), upper, ...)
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
  return run(self, commands.check(name, ...), ...)
end

--- Sends what fn adds to its argument in one go.
---@param fn fun(p: perigee.redis.Pipeline)
---@return any[]? replies # errors as values, null as json.null
---@return perigee.Error? err # when it could not be sent, or fn gave one
function Client:pipeline(fn)
  local p, err = pipeline.collect(fn, false)
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  return pipeline.finish(p, core.many(self.core, LIST,
    table.concat(p, "", 1, p.count), p.count))
end

--- The same between MULTI and EXEC: all of it, with nothing of others between.
---@param fn fun(p: perigee.redis.Pipeline)
---@return any[]? replies # errors of single commands as values
---@return perigee.Error? err # also when a command was refused: nothing is done
function Client:transaction(fn)
  local p, err = pipeline.collect(fn, true)
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  return pipeline.execute(self.core, p)
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
    blame("a function expected, got " .. type(fn))
  end
  local w, err = watch.begin(self.core, self.timeout_ms, keys)
  if not w then
    return nil, err
  end
  return watch.finish(w, fn)
end

local NONE = {}

--- A Lua script for the server: a function(keys, args) that runs it, by its
--- hash; the server gets the source when it does not know it (any more).
---@param source string
---@return fun(keys: string[]?, args: any[]?): any, perigee.Error?
function Client:script(source)
  if type(source) ~= "string" then
    blame "redis: the script's source expected"
  end
  local sha = core.sha1_hex(source)
  local function eval(name, what, keys, args)
    if #args == 0 then
      if #keys == 0 then
        return core.command(self.core, VALUE, name, what, 0)
      end
      return core.command(self.core, VALUE, name, what, #keys, keys)
    elseif #keys == 0 then
      return core.command(self.core, VALUE, name, what, 0, args)
    end
    return core.command(self.core, VALUE, name, what, #keys, keys, args)
  end
  return function(keys, args)
    keys, args = keys or NONE, args or NONE
    local reply, err = eval("EVALSHA", sha, keys, args)
    if reply == nil and err and err.code == "NOSCRIPT" then
      return eval("EVAL", source, keys, args)
    end
    return reply, err
  end
end

--- Messages of channels: `for m in r:subscribe("a", "b") do`. It has a
--- connection of its own that comes back when it is lost; what was published
--- meanwhile is lost.
---@param ... string
---@return perigee.redis.Subscription? subscription # also callable: next
---@return perigee.Error? err
function Client:subscribe(...)
  return subscription.open(self.core, "SUBSCRIBE", ...)
end

--- The same for patterns.
---@param ... string
---@return perigee.redis.Subscription? subscription
---@return perigee.Error? err
function Client:psubscribe(...)
  return subscription.open(self.core, "PSUBSCRIBE", ...)
end

--- The same for sharded channels (SSUBSCRIBE): in a cluster, of one slot.
---@param ... string
---@return perigee.redis.Subscription? subscription
---@return perigee.Error? err
function Client:ssubscribe(...)
  return subscription.open(self.core, "SSUBSCRIBE", ...)
end

local function each(client, name, key, width, options)
  return scan.each(function(cursor, words)
    return core.command(client.core, VALUE, name,
      key and { key, cursor, unpack(words) } or { cursor, unpack(words) })
  end, width, options)
end

--- All keys, in steps: `for key in r:each { match = "user:*" } do`. Raises when
--- a step fails.
---@param options perigee.redis.ScanOptions?
---@return fun(): string?
function Client:each(options)
  return each(self, "SCAN", nil, 1, options)
end

--- Field and value of a hash.
---@param key string
---@param options perigee.redis.ScanOptions?
---@return fun(): string?, string?
function Client:heach(key, options)
  return each(self, "HSCAN", key, 2, options)
end

--- Members of a set.
---@param key string
---@param options perigee.redis.ScanOptions?
---@return fun(): string?
function Client:seach(key, options)
  return each(self, "SSCAN", key, 1, options)
end

--- Member and score (text) of a sorted set.
---@param key string
---@param options perigee.redis.ScanOptions?
---@return fun(): string?, string?
function Client:zeach(key, options)
  return each(self, "ZSCAN", key, 2, options)
end

--- Entries of a stream, id and fields: `for id, e in r:xeach("log", { block = "5s" }) do`.
--- With `block` it waits for more and does not end. Raises when a step fails.
---@param key string
---@param options perigee.redis.StreamOptions?
---@return fun(): string?, table<string, string>?
function Client:xeach(key, options)
  return scan.entries(function(...)
    return run(self, "XREAD", ...)
  end, key, options)
end

--- Sends at once what it was given, not at the end of this turn of the loop. For
--- the library's own modules.
function Client:flush()
  core.flush(self.core)
end

--- Sends a command whose reply nobody waits for; also from a task that is cut
--- off. For the library's own modules.
---@param ... any # name, arguments
function Client:post(...)
  core.post(self.core, ...)
end

--- Counts of this worker: commands, writes, time-outs, attempts to connect.
---@return {commands: integer, writes: integer, timeouts: integer, connects: integer}
function Client:stats()
  return core.stats(self.core)
end

commands.with_methods(Client, function(first, second)
  if second then
    return function(self, ...)
      return run(self, first, second, ...)
    end
  end
  if BLOCKING[first] then
    return function(self, ...)
      return run(self, first, ...)
    end
  end
  local shape = commands.shape_of(first)
  local command = core.command
  return function(self, ...)
    return command(self.core, shape, first, ...)
  end
end)

return Client
