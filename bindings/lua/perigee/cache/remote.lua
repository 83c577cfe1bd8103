--- Remote: a cache's level in Redis, for all hosts that name it.
---
--- A value lies under "PREFIX:v:{NAME:KEY}": its token (16 characters, another
--- one for each value), how long of its life it is stale (12 digits, ms), and
--- the packed rest. Who loads holds the lock "PREFIX:l:{...}" with its own token
--- and a lease; only its holder may store, and whoever invalidates deletes it.
--- So a load that began before an invalidation is never kept. The cache and its
--- tags have versions, random texts: a value holds those from before it was
--- loaded. An evicted version invalidates; it never brings anything back.
---
--- Every call ends within the cache's redis_timeout; after some failures none is
--- tried for a second, in no worker of the host.

local breaker = require "perigee.resilience.breaker"
local core = require "perigee.core.shared"
local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local levels = require "perigee.cache.levels"
local task = require "perigee.task"
local turns = require "perigee.cache.turns"
local watch = require "perigee.cache.watch"

local M = {}

local TAG_LIFE_MS = 2 * 86400000
local TOKEN_BYTES, HEAD_BYTES = 16, 28

---@class perigee.cache.Remote
local remote = {}
remote.__index = remote
for name, method in pairs(turns) do
  remote[name] = method
end

local function new_token()
  return "=" .. crypto.hex.encode(crypto.random(8)):sub(2)
end

local function text_of(reply)
  return type(reply) == "string" and reply or nil
end

-- ---- asking, in bounded time ----

local function first_error(list)
  for i = 1, #list do
    if errors.is(list[i]) then
      return list[i]
    end
  end
  return nil
end

local function send(self, build)
  local function run(full)
    return self.redis:pipeline(function(p)
      build(p, full)
    end)
  end
  local list, err = run(false)
  if list then
    err = first_error(list)
    if err and err.code == "NOSCRIPT" then
      list, err = run(true)
      err = list and first_error(list) or err
    end
  end
  if err then
    return nil, err
  end
  return list
end

-- The list of replies to what build(p, full) adds to a pipeline, scripts with
-- their sources if full; or nil and the first error.
local function ask(self, build)
  return self.breaker:call(task.with_deadline, self.timeout_ms, send, self,
    build)
end

-- ---- names ----

local function value_key(self, key)
  return self.names .. "v:{" .. self.name .. ":" .. key .. "}"
end

local function lock_key(self, key)
  return self.names .. "l:{" .. self.name .. ":" .. key .. "}"
end

-- Of a tag, or without one of all.
local function version_key(self, tag)
  if tag then
    return self.names .. "t:{" .. self.name .. ":" .. tag .. "}"
  end
  return self.names .. "g:{" .. self.name .. "}"
end

-- ---- what was invalidated while Redis was away ----

local function owe(self)
  self.control:set("owed:" .. self.name, true)
end

local function notice(self, p, tag)
  local key = self.names .. "n:{" .. self.host .. ":" .. self.name .. ":"
    .. (tag and "t" .. tag or "a") .. "}"
  p:set(key, "", "PX", 1000)
  p:del(key)
  p:publish(self.names .. "events",
    core.pack { self.host, self.name, tag and "t" or "a", tag or "" })
end

local function send_flush(self, tag)
  return ask(self, function(p)
    if tag then
      p:set(version_key(self, tag), new_token(), "PX", TAG_LIFE_MS)
    else
      p:set(version_key(self), new_token())
    end
    notice(self, p, tag)
  end)
end

-- Whether all that is owed is done. All of the cache is invalidated then: what
-- was to be is not known any more.
function remote:settle()
  if not self.control:get("owed:" .. self.name) then
    return true
  end
  local done, err = send_flush(self)
  if done then
    self.control:delete("owed:" .. self.name)
    return true
  end
  return nil, err
end

-- ---- values ----

local function encode(self, value, token, stale_ms, tags, gen)
  local rest = core.pack { value ~= nil, value == nil and false or value,
    tags or false, gen }
  if not rest or #rest > self.item_max then
    return nil
  end
  return ("%s%012d%s"):format(token, stale_ms, rest)
end

local function decode(_, bytes, left_ms)
  if type(bytes) ~= "string" or #bytes < HEAD_BYTES or left_ms <= 0 then
    return nil
  end
  local rest = core.unpack(bytes:sub(HEAD_BYTES + 1))
  if type(rest) ~= "table" then
    return nil
  end
  local entry = {
    token = bytes:sub(1, TOKEN_BYTES), good_ms = left_ms,
    fresh_ms = left_ms
      - (tonumber(bytes:sub(TOKEN_BYTES + 1, HEAD_BYTES)) or 0),
    versions = rest[3] or nil, gen = rest[4],
  }
  if rest[1] then
    entry.value = rest[2]
  end
  return entry
end

-- Whether the entry's versions are still those in Redis; nil, err.
local function holds(self, entry, gen)
  if entry.gen ~= gen then
    return false
  elseif not entry.versions then
    return true
  end
  local names = {}
  local list, err = ask(self, function(p)
    for tag in pairs(entry.versions) do
      names[#names + 1] = tag
      p:get(version_key(self, tag))
    end
  end)
  if not list then
    return nil, err
  end
  for i, tag in ipairs(names) do
    if entry.versions[tag] ~= text_of(list[i]) then
      return false
    end
  end
  return true
end

-- The versions to be stored with what is loaded now; made where there are none.
-- With the reply to what add(p, full) asks at the same time.
local function make_versions(self, tags, add)
  local list, err = ask(self, function(p, full)
    p:set(version_key(self), new_token(), "NX")
    p:get(version_key(self))
    for _, tag in ipairs(tags or {}) do
      local key = version_key(self, tag)
      p:set(key, new_token(), "NX", "PX", TAG_LIFE_MS)
      p:pexpire(key, TAG_LIFE_MS)
      p:get(key)
    end
    if add then
      add(p, full)
    end
  end)
  if not list then
    return nil, err
  end
  local versions = tags and #tags > 0 and {} or nil
  for i, tag in ipairs(tags or {}) do
    versions[tag] = text_of(list[2 + 3 * i])
  end
  return text_of(list[2]), versions, add and list[#list]
end

--- What Redis has of a key, for who cannot load. Times are from now on.
---@param key string
---@return table? entry # token, value, fresh_ms, good_ms, versions
---@return perigee.Error? err
function remote:find(key)
  if not self:settle() then
    return nil
  end
  local name = value_key(self, key)
  local list, err = ask(self, function(p)
    p:get(name)
    p:pttl(name)
    p:get(version_key(self))
  end)
  if not list then
    return nil, err
  end
  local entry = decode(self, list[1], list[2])
  if entry and holds(self, entry, text_of(list[3])) then
    return entry
  end
  return nil
end

-- ---- invalidation ----

-- In one step: what comes before it is gone, and no load from before is kept.
local function change(self, key, bytes, life_ms)
  local value = value_key(self, key)
  return self.breaker:call(task.with_deadline, self.timeout_ms, function()
    local list, err = self.redis:transaction(function(p)
      -- Also when nothing is there, so that all hosts hear of it.
      p:set(value, bytes or "", "PX", bytes and math.ceil(life_ms) or 1000)
      if not bytes then
        p:del(value)
      end
      p:del(lock_key(self, key))
      p:publish(self.names .. "events",
        core.pack { self.host, self.name, "k", key })
    end)
    return list, err
  end)
end

--- Sets a key, or deletes it (token nil) in Redis, which tells the other hosts.
--- When it cannot be reached it is owed: done before Redis is asked again.
---@return boolean done
function remote:put(key, value, token, ttl_ms, stale_ms, tags)
  local bytes
  if not self:settle() then
    return false
  end
  if token and ttl_ms > 0 then
    local gen, versions = make_versions(self, tags)
    if not gen then
      owe(self)
      return false
    end
    bytes = encode(self, value, token, stale_ms, versions, gen)
  end
  if change(self, key, bytes, ttl_ms and ttl_ms + stale_ms) then
    return true
  end
  owe(self)
  return false
end

--- Invalidates all, or all with a tag.
---@return boolean done
function remote:flush(tag)
  if not self:settle() then
    return false
  end
  if send_flush(self, tag) then
    return true
  end
  owe(self)
  return false
end

--- Remembers which value of a key this host keeps: it does not invalidate that
--- when it hears of it. token nil: none that Redis has.
function remote:note(key, token, left_ms)
  if token then
    self.tokens:set(levels.place(self.name, key), token, left_ms)
  else
    self.tokens:delete(levels.place(self.name, key))
  end
end

remote.ask = ask
remote.value_key = value_key
remote.lock_key = lock_key
remote.version_key = version_key
remote.encode = encode
remote.decode = decode
remote.holds = holds
remote.make_versions = make_versions
remote.new_token = new_token

local function escape(name)
  return (name:gsub("[%%:{}]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

--- The level of a cache; times in ms, sizes in bytes.
---@param options table # name redis prefix timeout wait stale item_max size
---@return perigee.cache.Remote
function M.open(options)
  local client = require("perigee.redis").get(options.redis)
  local self = setmetatable({
    name = escape(options.name), redis = client,
    names = options.prefix .. ":", timeout_ms = options.timeout,
    wait_ms = options.wait, stale_ms = options.stale,
    item_max = options.item_max,
    control = watch.control(), tokens = watch.tokens(), host = watch.host(),
    breaker = breaker.new("cache.redis." .. options.redis,
      { failures = 3, window = "10s", open = "1s", probes = 1 }),
  }, remote)
  watch.add(self, options)
  return self
end

return M
