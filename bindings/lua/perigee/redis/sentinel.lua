--- Redis with Sentinels: who is the master now, and who its replicas are.
---
--- A sentinel is asked when the first command comes, when the master does not
--- answer or is none any more, and when a sentinel tells of another one.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"
local log = require "perigee.log"
local subscription = require "perigee.redis.subscription"
local task = require "perigee.task"
local time = require "perigee.time"

local VALUE = commands.VALUE
local SPACING_MS = 200 -- between two questions, at least; as much at random
local ASK_MS = 500     -- how long a sentinel or a server may think
local AWAY_MS = 1000   -- how long a replica that failed is not asked
local FRESH_MS = 30000 -- the replicas are asked for again; as much at random
local LISTEN_MS = 500  -- before a sentinel is listened to again

---@class perigee.redis.Sentinel
local Sentinel = {}
Sentinel.__index = Sentinel

local function jitter(ms)
  return ms + math.random() * ms
end

local function unavailable(code, ...)
  local err = errors.new("unavailable", ...)
  err.code = code
  return err
end

--- For redis.NAME; hosts are the sentinels.
---@param name string
---@param hosts {[1]: string, [2]: integer}[]
---@param master string # as the sentinels call it
---@return perigee.redis.Sentinel
function Sentinel.new(name, hosts, master)
  return setmetatable({
    name = name,
    master = master,
    sentinels = { unpack(hosts) }, -- the one that answered last goes first
    handles = {},     -- of sentinels, by address
    read = false,     -- replicas are wanted
    address = nil,    -- of the master
    handle = nil,     -- its client
    replicas = {},    -- {handle, address, away_ms}
    by_handle = setmetatable({}, { __mode = "k" }), -- to {away_ms}
    is_replica = setmetatable({}, { __mode = "k" }), -- handle
    turn = 0,
    again_ms = 0,
    stale_ms = 0,
    fault = nil,
    looking = false,
    listening = false,
    lock = task.semaphore(1),
  }, Sentinel)
end

local function open(self, host, port, role)
  local handle = core.node(self.name, host, tonumber(port), role)
  if not handle then
    return nil, unavailable("config", "redis %s is not configured any more",
      self.name)
  end
  return handle
end

local function ask(handle, ...)
  return task.with_deadline(ASK_MS, core.command, handle, VALUE, ...)
end

-- ---- sentinels ----

local function sentinel_at(self, host)
  local address = host[1] .. ":" .. host[2]
  local handle, err = self.handles[address], nil
  if not handle then
    handle, err = open(self, host[1], host[2], "sentinel")
    self.handles[address] = handle
  end
  return handle, err
end

local function is_up(flags)
  return not (flags:find "s_down" or flags:find "o_down"
    or flags:find "disconnected")
end

-- Those that are well, as {host, port}.
local function replicas_of(self, sentinel)
  local list = {}
  local reply = ask(sentinel, "SENTINEL", "REPLICAS", self.master)
  for _, fields in ipairs(reply or {}) do
    local replica = commands.to_map(fields)
    if is_up(replica.flags) and replica["master-link-status"] == "ok" then
      list[#list + 1] = { replica.ip, replica.port }
    end
  end
  return list
end

local function take_replicas(self, list)
  local kept = {}
  for _, place in ipairs(list) do
    local address = place[1] .. ":" .. place[2]
    local known
    for _, replica in ipairs(self.replicas) do
      known = replica.address == address and replica or known
    end
    if not known then
      local handle = open(self, place[1], place[2], "replica")
      known = handle and { handle = handle, address = address, away_ms = 0 }
      if known then
        self.by_handle[handle] = known
        self.is_replica[handle] = true
      end
    end
    kept[#kept + 1] = known
  end
  self.replicas = kept
end

local function take_master(self, host, port)
  local address = host .. ":" .. port
  if self.address == address then
    return true
  end
  local handle, err = open(self, host, port, "master")
  if not handle then
    return nil, err
  end
  -- A sentinel may be behind: the server has to say it, too.
  local role
  role, err = ask(handle, "ROLE")
  if not role or role[1] ~= "master" then
    core.close(handle)
    return nil, err or unavailable("READONLY",
      "redis %s: %s is not the master yet", self.name, address)
  end
  local before = self.handle
  self.address, self.handle = address, handle
  self.by_handle[handle] = { away_ms = 0 }
  if before then
    log.info("another Redis is the master",
      { redis = self.name, address = address })
    core.close(before)
  end
  return true
end

local function ask_sentinel(self, sentinel)
  local place, err = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME",
    self.master)
  if not place then
    return nil, err or unavailable("no_master",
      "redis %s: the sentinels know no master %q", self.name, self.master)
  end
  local ok
  ok, err = take_master(self, place[1], place[2])
  if ok then
    take_replicas(self, self.read and replicas_of(self, sentinel) or {})
  end
  return ok, err
end

local function look(self)
  local err
  for i, host in ipairs(self.sentinels) do
    local sentinel, ok
    sentinel, err = sentinel_at(self, host)
    if sentinel then
      ok, err = ask_sentinel(self, sentinel)
    end
    if ok then
      table.remove(self.sentinels, i)
      table.insert(self.sentinels, 1, host)
      self.fault = nil
      self.stale_ms = time.monotonic() + jitter(FRESH_MS)
      return true
    end
  end
  self.fault = err
  return nil, err
end

-- Asks, unless another task has since this one wanted to know.
local function refresh(self)
  local asked_ms = time.monotonic()
  local ok, err = self.lock:acquire()
  if not ok then
    return nil, err
  end
  if self.again_ms > asked_ms and (self.handle or self.fault) then
    self.lock:release()
    return self.handle ~= nil or nil, self.fault
  end
  local fine, done, why = pcall(look, self)
  self.again_ms = time.monotonic() + jitter(SPACING_MS)
  self.lock:release()
  if not fine then
    error(done, 0)
  end
  return done, why
end

local function refresh_soon(self)
  if self.looking then
    return
  end
  self.looking = true
  task.spawn_detached(function()
    local wait_ms = self.again_ms - time.monotonic()
    local ok, err = pcall(function()
      if wait_ms > 0 then
        task.sleep(wait_ms)
      end
      refresh(self)
    end)
    self.looking = false
    if not ok then
      error(err, 0)
    end
  end)
end

-- ---- what the sentinels tell ----

local function listen(self)
  local turn = 0
  while true do
    local host = self.sentinels[turn % #self.sentinels + 1]
    local sentinel = sentinel_at(self, host)
    local sub = sentinel
      and subscription.once(sentinel, "SUBSCRIBE", "+switch-master")
    if sub then
      self.again_ms = 0 -- it may have happened before
      refresh(self)
      for message in sub do
        if message.message:match "^(%S+)" == self.master then
          self.again_ms = 0
          refresh(self)
        end
      end
      sub:close()
    end
    turn = turn + 1
    task.sleep(jitter(LISTEN_MS))
  end
end

local function start_listening(self)
  if not self.listening then
    self.listening = true
    task.spawn_detached(listen, self)
  end
end

-- ---- where a command goes ----

local function pick_replica(self)
  local count, now_ms = #self.replicas, time.monotonic()
  for i = 1, count do
    local replica = self.replicas[(self.turn + i - 1) % count + 1]
    if replica.away_ms <= now_ms then
      self.turn = (self.turn + i) % count
      return replica.handle
    end
  end
  return nil
end

--- The server for a command.
---@param _ any # slot
---@param read boolean? # a replica will do
---@return userdata? handle
---@return perigee.Error? err
function Sentinel:pick(_, read)
  if not self.handle then
    local ok, err = refresh(self)
    if not ok then
      return nil, err
    end
    start_listening(self)
  end
  if read then
    if time.monotonic() > self.stale_ms then
      self.stale_ms = time.monotonic() + jitter(FRESH_MS)
      refresh_soon(self)
    end
    return pick_replica(self) or self.handle
  end
  return self.handle
end

function Sentinel:masters()
  local handle, err = self:pick()
  return handle and { handle }, err
end

--- What to do about an error: the server to try next, or nil: it stands.
---@param err perigee.Error
---@param handle userdata
---@param _ any # slot
---@param try integer
---@return userdata? handle
function Sentinel:again(err, handle, _, try)
  local code = err.code
  self:failed(err, handle)
  if try > 2 then
    return nil
  elseif code == "closed" and self.handle ~= handle then
    return self.handle
  elseif code == "READONLY" then -- it has done nothing
    self.again_ms = 0
    refresh(self)
    return self.handle ~= handle and self.handle or nil
  elseif self.is_replica[handle] and err.kind == "unavailable" then
    return self.handle -- it only read
  end
  return nil
end

--- Notes that a server does not answer.
---@param err perigee.Error
---@param handle userdata
function Sentinel:failed(err, handle)
  if (err.kind == "unavailable" or err.kind == "timeout")
    and err.code ~= "queue_full" then
    local node = self.by_handle[handle]
    if node then
      node.away_ms = time.monotonic() + AWAY_MS
    end
    refresh_soon(self)
  end
end

return Sentinel
