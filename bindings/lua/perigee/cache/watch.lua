--- Watch: what other hosts invalidate in Redis reaches this one.
---
--- One worker of the host holds one connection for each Redis. The server tracks
--- the keys of values and of notices (CLIENT TRACKING with BCAST); one that
--- cannot is subscribed to a channel instead. A changed value is invalidated here
--- unless it is the one that is kept here: its token tells. Whenever messages
--- may have been missed, all that the host keeps of these caches is invalidated.
---
--- The worker is whoever has its mark in a dictionary; when it dies another takes
--- over. The next generation's watcher connects before the old one lets go.

local core = require "perigee.core.shared"
local crypto = require "perigee.crypto"
local host = require "perigee.host"
local levels = require "perigee.cache.levels"
local log = require "perigee.log"
local redis_core = require "perigee.core.redis"
local shared = require "perigee.shared"
local subscription = require "perigee.redis.subscription"
local task = require "perigee.task"
local versions = require "perigee.cache.versions"

local M = {}

local CONTROL_BYTES = 256 * 1024
local LEASE_MS = 5000
local LOOK_MS = 500
local AGAIN_MS = 500
local PING_MS = 500
local SILENT_MAX = 4
local TOKEN_BYTES = 16
local INVALID = "__redis__:invalidate"

local serial = 0

--- The dictionary of what workers have to agree on.
---@return perigee.Dict
function M.control()
  return (shared.internal("cache-control", CONTROL_BYTES))
end

--- This host's name among those that share a Redis; random.
---@return string
function M.host()
  local control = M.control()
  control:add("host", crypto.hex.encode(crypto.random(8)))
  return control:get "host"
end

-- Invalidates here only: one key, or all.
local function renew(watcher, name, key, tag)
  local size = watcher.control:get("cache:" .. name)
  if not size then
    return -- no worker of this host has that cache
  end
  local known = watcher.caches[name]
  if not known then
    local plain = name:gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    local dict = shared.internal("cache:" .. plain, size)
    known = { dict = dict, versions = versions.open(plain, dict) }
    watcher.caches[name] = known
  end
  if key then
    known.versions:renew(known.versions:place_of_key(key))
  elseif tag then
    known.versions:renew_tag(tag)
  else
    known.versions:renew_all()
  end
end

local function renew_all(watcher)
  for _, name in ipairs(watcher.control:keys()) do
    if name:sub(1, 6) == "cache:" then
      renew(watcher, name:sub(7))
    end
  end
end

-- A value in Redis is another one: is it what we have?
local function check_value(watcher, full, name, key)
  local kept = watcher.control:get("cache:" .. name)
  if not kept then
    return
  end
  local token = watcher.tokens:get(levels.place(name, key))
  if token then
    local there = watcher.breaker:call(task.with_deadline, watcher.timeout_ms,
      watcher.client.getrange, watcher.client, full, 0, TOKEN_BYTES - 1)
    if there == token then
      return
    end
  end
  renew(watcher, name, key)
end

-- "v:{NAME:KEY}" or "n:{HOST:NAME:a}"
local function on_key(watcher, full)
  local prefix = watcher.prefix
  local kind = full:sub(#prefix + 1, #prefix + 3)
  local rest = full:sub(#prefix + 4, -2)
  if full:sub(1, #prefix) ~= prefix then
    return
  elseif kind == "v:{" then
    local name, key = rest:match "^([^:]*):(.*)$"
    if name then
      task.spawn(check_value, watcher, full, name, key)
    end
  elseif kind == "n:{" then
    local from, name, what, tag = rest:match "^([^:]*):([^:]*):(%a)(.*)$"
    if from and from ~= watcher.host then
      renew(watcher, name, nil, what == "t" and tag or nil)
    end
  end
end

local function on_event(watcher, bytes)
  local event = core.unpack(bytes)
  if type(event) ~= "table" or event[1] == watcher.host then
    return
  end
  renew(watcher, event[2], event[3] == "k" and event[4] or nil,
    event[3] == "t" and event[4] or nil)
end

-- ---- which worker it is ----

local function is_dead(mark)
  return not core.alive(mark:sub(1, 8))
end

local function generation_of(mark)
  return tonumber(mark:sub(9, 18)) or 0
end

-- Takes the place if it is free, its holder dead, or of an older generation
-- (then: whether that one has been live all the time).
local function claim(watcher)
  local control, place = watcher.control, watcher.place
  local held = control:get(place)
  if held and not is_dead(held) then
    if generation_of(held) >= generation_of(watcher.mark)
      or not control:add("next:" .. place, true, LEASE_MS) then
      return false
    end
    if control:get("live:" .. place) == held then
      watcher.follows = held
      return true
    end
  end
  watcher.follows = nil
  return control:cas(place, held, watcher.mark, LEASE_MS) ~= nil
end

-- It receives from now on; what was kept before may be out of date, unless it
-- takes over from one that has received until now.
local function on_live(watcher)
  local control, place = watcher.control, watcher.place
  local followed = watcher.follows
  watcher.follows = nil
  local seamless = followed
    and control:cas(place, followed, watcher.mark, LEASE_MS) ~= nil
  if not seamless then
    control:set(place, watcher.mark, LEASE_MS)
    renew_all(watcher)
  end
  control:set("live:" .. place, watcher.mark)
  for _, other in ipairs(watcher.remotes) do
    other:settle()
  end
end

-- Of several servers: whether the one that is listened to is still the one to
-- listen to, and lives.
local function is_right(watcher)
  local router = watcher.client.router
  if not router then
    return true
  elseif not router.is_cluster and router:pick() ~= watcher.handle then
    return false -- there is another master
  end
  local alive = task.with_deadline(PING_MS, redis_core.command, watcher.handle,
    0, "PING")
  watcher.silent = alive and 0 or watcher.silent + 1
  return watcher.silent < SILENT_MAX
end

-- Renews the lease; ends the subscription when the place is another's, or the
-- server not the right one any more.
local function keep_place(watcher, sub)
  local control = watcher.control
  watcher.silent = 0
  while true do
    task.sleep(LOOK_MS)
    if not is_right(watcher) then
      sub:close()
      return
    end
    if not watcher.follows and not control:cas(watcher.place, watcher.mark,
      watcher.mark, LEASE_MS) then
      watcher.lost = true
      sub:close()
      return
    end
  end
end

local function receive(watcher, sub)
  while true do
    local message, err = sub:next()
    if not message then
      return err
    elseif message.channel == "" then
      on_live(watcher)
    elseif message.channel == INVALID then
      on_key(watcher, message.message)
    else
      on_event(watcher, message.message)
    end
  end
end

local function open(watcher)
  local handle, prefix = watcher.client.core, watcher.prefix
  local err
  if not handle then -- a cluster, or sentinels
    handle, err = watcher.client:any()
    if not handle then
      return nil, err
    end
  end
  watcher.handle = handle
  if watcher.plain then
    return subscription.watch(handle, prefix .. "events")
  end
  return subscription.watch(handle, INVALID, { "BCAST", "PREFIX",
    prefix .. "v:", "PREFIX", prefix .. "n:" })
end

-- The server does not have it, or does not allow it.
local function is_refusal(err)
  return err and (err.code == "ERR" or err.code == "NOPERM")
end

local function hold(watcher)
  watcher.lost = false
  while not watcher.lost do
    local sub, err = open(watcher)
    if sub then
      local keeper = task.spawn(keep_place, watcher, sub)
      err = receive(watcher, sub)
      keeper:cancel "the subscription has ended"
      sub:close()
    end
    if watcher.control:get("live:" .. watcher.place) == watcher.mark then
      watcher.control:delete("live:" .. watcher.place)
    end
    if not watcher.plain and is_refusal(err) then
      watcher.plain = true
      log.info("the cache's Redis does not track keys: a channel is used",
        { redis = watcher.name, err = err })
    elseif not watcher.lost then
      task.sleep(AGAIN_MS)
      watcher.lost = watcher.control:cas(watcher.place, watcher.mark,
        watcher.mark, LEASE_MS) == nil
    end
  end
end

local function run(watcher)
  while true do
    if claim(watcher) then
      hold(watcher)
    end
    task.sleep(LOOK_MS)
  end
end

local watchers = {}

local function new_watcher(remote, options)
  serial = serial + 1
  local url = require("perigee.config").redis[options.redis].url
  return {
    name = options.redis, client = remote.redis, control = remote.control,
    host = remote.host, prefix = remote.names, timeout_ms = remote.timeout_ms,
    place = "watch:" .. options.redis .. ":" .. remote.names, caches = {},
    remotes = {}, tokens = M.tokens(), breaker = remote.breaker,
    -- Keys of a cluster are tracked by each node for itself.
    plain = url:find("cluster", 1, true) ~= nil,
    mark = ("%s%010d%d"):format(core.mark, host.generation or 0, serial),
  }
end

--- Which values of Redis this host keeps: "NAME:KEY" -> token.
---@return perigee.Dict
function M.tokens()
  return (shared.internal("cache-tokens", 16 * 1024 * 1024))
end

--- Has a cache's invalidations watched from now on.
function M.add(remote, options)
  remote.control:set("cache:" .. remote.name, options.size)
  local id = options.redis .. ":" .. remote.names
  local watcher = watchers[id]
  if not watcher then
    watcher = new_watcher(remote, options)
    watchers[id] = watcher
    task.spawn_detached(run, watcher)
  end
  watcher.remotes[#watcher.remotes + 1] = remote
end

return M
