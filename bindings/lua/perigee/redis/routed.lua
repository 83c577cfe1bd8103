--- Redis: the client of several servers. A router (cluster.lua, sentinel.lua)
--- says where a command goes, and where next when that was wrong.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"
local json = require "perigee.json"
local keys = require "perigee.redis.keys"
local lease = require "perigee.redis.lease"
local blame = require("perigee.options").blame
local pipeline = require "perigee.redis.pipeline"
local scan = require "perigee.redis.scan"
local spread = require "perigee.redis.spread"
local subscription = require "perigee.redis.subscription"
local watch = require "perigee.redis.watch"

local BLOCKING, VALUE = commands.BLOCKING, commands.VALUE
local LIST, MAP = commands.LIST, commands.MAP
local READS = keys.READS

---@class perigee.redis.Routed: perigee.redis.Client
---@field router table
---@field read boolean # replicas answer what only reads
---@field core false # it has no single one
local Routed = { core = false }

-- Only a cluster has slots.
local function slot_of(self, ...)
  if self.router.is_cluster then
    return keys.slot(...)
  end
  return nil
end

local function note_of(self)
  return self.router.is_cluster and spread.note or nil
end

local function send_asking(handle, shape, ...)
  local list, err = core.many(handle, LIST,
    core.encode "ASKING" .. core.encode(...), 2)
  if not list then
    return nil, err
  end
  local reply = list[2]
  if errors.is(reply) then
    return nil, reply
  elseif reply == json.null then
    return nil
  elseif shape == MAP and type(reply) == "table" then
    return commands.to_map(reply)
  end
  return reply
end

local function send(self, handle, asking, shape, seconds, ...)
  if seconds then
    return lease.run(handle, shape, seconds, self.timeout_ms, asking, ...)
  elseif asking then
    return send_asking(handle, shape, ...)
  end
  return core.command(handle, shape, ...)
end

-- After an error: again, as long as the router knows where.
local function follow(self, handle, slot, err, shape, seconds, ...)
  local try = 0
  while true do
    try = try + 1
    local asking, reply
    handle, asking = self.router:again(err, handle, slot, try)
    if not handle then
      return nil, err
    end
    reply, err = send(self, handle, asking, shape, seconds, ...)
    if not err then
      return reply
    end
  end
end

local function route(self, shape, seconds, upper, second, ...)
  local slot, err = slot_of(self, upper, second, ...)
  local handle, reply
  if slot ~= false then
    handle, err = self.router:pick(slot, self.read and READS[upper])
  end
  if not handle then
    return nil, err
  end
  if second == nil then
    reply, err = send(self, handle, false, shape, seconds, upper)
    if err then
      return follow(self, handle, slot, err, shape, seconds, upper)
    end
    return reply
  end
  reply, err = send(self, handle, false, shape, seconds, upper, second, ...)
  if err then
    return follow(self, handle, slot, err, shape, seconds, upper, second, ...)
  end
  return reply
end

-- Commands that concern every master.
local EVERYWHERE = {
  FLUSHALL = true, FLUSHDB = true, DBSIZE = true, KEYS = true,
  SCRIPT = true,
}

local function run(self, upper, ...)
  if EVERYWHERE[upper] and self.router.is_cluster then
    return spread.everywhere(self.router, upper, ...)
  end
  return route(self, commands.shape_of(upper, (...)),
    commands.waits(upper, ...), upper, ...)
end

function Routed:call(name, ...)
  return run(self, commands.check(name, ...), ...)
end

function Routed:pipeline(fn)
  local p, err = pipeline.collect(fn, false, note_of(self))
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  return pipeline.finish(p, spread.run(self, p))
end

function Routed:transaction(fn)
  local p, err = pipeline.collect(fn, true, note_of(self))
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  local slot, why = spread.common_slot(p)
  local handle
  if slot ~= false then
    handle, why = self.router:pick(slot)
  end
  if not handle then
    return nil, why
  end
  local asking = false
  for try = 1, math.huge do
    local list
    list, err = pipeline.execute(handle, p, asking)
    if list then
      return list
    end
    handle, asking = self.router:again(err, handle, slot, try)
    if not handle then
      return nil, err
    end
  end
end

function Routed:watch(watched, fn)
  if type(fn) ~= "function" then
    blame("a function expected, got " .. type(fn))
  end
  local slot, err = slot_of(self, "WATCH", watched)
  local handle
  if slot ~= false then
    handle, err = self.router:pick(slot)
  end
  if not handle then
    return nil, err
  end
  local w, asking
  for try = 1, math.huge do
    w, err = watch.begin(handle, self.timeout_ms, watched, asking)
    if w then
      return watch.finish(w, fn)
    end
    handle, asking = self.router:again(err, handle, slot, try)
    if not handle then
      return nil, err
    end
  end
end

local NONE = {}

function Routed:script(source)
  local sha = core.sha1_hex(source)
  local function eval(name, what, names, args)
    if #args > 0 and #names > 0 then
      return route(self, VALUE, nil, name, what, #names, names, args)
    elseif #names > 0 then
      return route(self, VALUE, nil, name, what, #names, names)
    elseif #args > 0 then
      return route(self, VALUE, nil, name, what, 0, args)
    end
    return route(self, VALUE, nil, name, what, 0)
  end
  return function(names, args)
    names, args = names or NONE, args or NONE
    local reply, err = eval("EVALSHA", sha, names, args)
    if reply == nil and err and err.code == "NOSCRIPT" then
      return eval("EVAL", source, names, args)
    end
    return reply, err
  end
end

local function subscribe(self, command, slot, ...)
  local words = { ... }
  return subscription.follow(function(try, err, handle)
    if not err then
      return self.router:pick(slot)
    end
    local again = self.router:again(err, handle, slot, try)
    if again then
      return again
    end
    return self.router:pick(slot)
  end, command, unpack(words))
end

function Routed:subscribe(...)
  return subscribe(self, "SUBSCRIBE", nil, ...)
end

function Routed:psubscribe(...)
  return subscribe(self, "PSUBSCRIBE", nil, ...)
end

function Routed:ssubscribe(...)
  local slot, err = slot_of(self, "SSUBSCRIBE", ...)
  if slot == false then
    return nil, err
  end
  return subscribe(self, "SSUBSCRIBE", slot, ...)
end

-- All keys of all servers, one after the other.
local function scan_all(self)
  local masters, at
  return function(cursor, words)
    local err
    if not masters then
      masters, err = self.router:masters()
      if not masters then
        return nil, err
      end
      at = 1
    end
    local reply
    reply, err = core.command(masters[at], VALUE, "SCAN",
      cursor == "" and "0" or cursor, unpack(words))
    if reply and reply[1] == "0" and at < #masters then
      at = at + 1
      reply[1] = ""
    end
    return reply, err
  end
end

function Routed:each(options)
  return scan.each(scan_all(self), 1, options)
end

local function each(self, name, key, width, options)
  return scan.each(function(cursor, words)
    return route(self, VALUE, nil, name, key, cursor, unpack(words))
  end, width, options)
end

function Routed:heach(key, options)
  return each(self, "HSCAN", key, 2, options)
end

function Routed:seach(key, options)
  return each(self, "SSCAN", key, 1, options)
end

function Routed:zeach(key, options)
  return each(self, "ZSCAN", key, 2, options)
end

function Routed:xeach(key, options)
  return scan.entries(function(...)
    return run(self, "XREAD", ...)
  end, key, options)
end

--- The core client of one server, any that is a master. For the library's own
--- modules.
---@return userdata? handle
---@return perigee.Error? err
function Routed:any()
  return self.router:pick()
end

--- As Client:post(), but of several servers it takes a wait to know which one.
function Routed.post() end

--- See Client:flush().
function Routed:flush()
  for handle in pairs(self.router.by_handle) do
    core.flush(handle)
  end
end

--- The sum of all servers'.
function Routed:stats()
  local sum = { commands = 0, writes = 0, timeouts = 0, connects = 0 }
  for handle in pairs(self.router.by_handle) do
    for name, value in pairs(core.stats(handle)) do
      sum[name] = sum[name] + value
    end
  end
  return sum
end

commands.with_methods(Routed, function(first, second)
  if second then
    return function(self, ...)
      return run(self, first, second, ...)
    end
  elseif BLOCKING[first] or EVERYWHERE[first] then
    return function(self, ...)
      return run(self, first, ...)
    end
  end
  local shape = commands.shape_of(first)
  return function(self, ...)
    return route(self, shape, nil, first, ...)
  end
end)

return Routed
