--- Redis Cluster: which server has which slot, and what to do when it has not.
---
--- The table of slots is read when the first command comes, mended by each MOVED,
--- and read again after a redirection or a lost server, and now and then; by one
--- task at a time, spaced at random.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"
local task = require "perigee.task"
local time = require "perigee.time"

local VALUE = commands.VALUE
local SPACING_MS = 200 -- between two readings, at least; and as much at random
local FRESH_MS = 30000 -- a table is read again after that; the same
local WAIT_MS = 20     -- before what may help itself is tried again; the same
local AWAY_MS = 1000   -- how long a server that failed is not chosen freely
local TRIES = 16

---@class perigee.redis.Cluster
local Cluster = {}
Cluster.__index = Cluster

local function jitter(ms)
  return ms + math.random() * ms
end

local function pause()
  task.sleep(jitter(WAIT_MS))
end

local function unavailable(code, ...)
  local err = errors.new("unavailable", ...)
  err.code = code
  return err
end

--- For redis.NAME; hosts are those to begin with.
---@param name string
---@param hosts {[1]: string, [2]: integer}[]
---@return perigee.redis.Cluster
function Cluster.new(name, hosts)
  return setmetatable({
    name = name,
    hosts = hosts,
    nodes = {},     -- by address
    by_handle = setmetatable({}, { __mode = "k" }),
    is_replica = setmetatable({}, { __mode = "k" }), -- handle
    shards = {},    -- {master, replicas}
    slots = nil,    -- slot to shard
    turn = 0,       -- of the next server for what has no key
    again_ms = 0,   -- not before that
    stale_ms = 0,
    fault = nil,    -- of the last reading
    reading = false,
    lock = task.semaphore(1),
  }, Cluster)
end

-- ---- servers ----

local function node_at(self, host, port)
  local address = host .. ":" .. port
  local node = self.nodes[address]
  if not node then
    node = { host = host, port = port, away_ms = 0, handles = {} }
    self.nodes[address] = node
  end
  return node
end

-- A server's client; role "master", or "replica" to read from it.
local function handle_of(self, node, role)
  local handle = node.handles[role]
  if not handle then
    handle = core.node(self.name, node.host, node.port, role)
    if not handle then
      return nil, unavailable("config", "redis %s is not configured any more",
        self.name)
    end
    node.handles[role] = handle
    self.by_handle[handle] = node
    self.is_replica[handle] = role == "replica" or nil
  end
  return handle
end

local function drop(self, address, node)
  self.nodes[address] = nil
  for _, handle in pairs(node.handles) do
    core.close(handle)
  end
end

-- ---- the table of slots ----

-- A server that cannot say where it is, is where the one is that was asked.
local function host_or(host, asked)
  return type(host) == "string" and host ~= "" and host ~= "?" and host
    or asked
end

local function take_table(self, reply, asked)
  local shards, slots, used = {}, {}, {}
  for _, entry in ipairs(reply) do
    local shard = { replicas = {} }
    for i = 3, #entry do
      local node = node_at(self, host_or(entry[i][1], asked.host), entry[i][2])
      used[node] = true
      if i == 3 then
        shard.master = node
      else
        shard.replicas[i - 3] = node
      end
    end
    if shard.master then
      shards[#shards + 1] = shard
      for slot = entry[1], entry[2] do
        slots[slot] = shard
      end
    end
  end
  if #shards == 0 then
    return nil
  end
  self.shards, self.slots = shards, slots
  for address, node in pairs(self.nodes) do
    -- Not at once: commands may be under way to it.
    node.unused = not used[node] and (node.unused or 0) + 1 or nil
    if node.unused and node.unused > 2 then
      drop(self, address, node)
    end
  end
  return true
end

-- All servers that may know, in random order, those that failed last.
local function candidates(self)
  local list, now_ms = {}, time.monotonic()
  for _, node in pairs(self.nodes) do
    list[#list + 1] = node
  end
  for _, host in ipairs(self.hosts) do
    local known = self.nodes[host[1] .. ":" .. host[2]]
    if not known then
      list[#list + 1] = node_at(self, host[1], host[2])
    end
  end
  local order = {}
  for _, node in ipairs(list) do
    order[node] = math.random() + (node.away_ms > now_ms and 1 or 0)
  end
  table.sort(list, function(a, b) return order[a] < order[b] end)
  return list
end

local function read_table(self)
  local err
  for _, node in ipairs(candidates(self)) do
    local handle, reply
    handle, err = handle_of(self, node, "master")
    if handle then
      reply, err = core.command(handle, VALUE, "CLUSTER", "SLOTS")
    end
    if reply and take_table(self, reply, node) then
      self.stale_ms = time.monotonic() + jitter(FRESH_MS)
      self.fault = nil
      return true
    end
    if reply then
      err = unavailable("CLUSTERDOWN",
        "redis %s: the cluster serves no slots", self.name)
    else
      node.away_ms = time.monotonic() + AWAY_MS
    end
  end
  self.fault = err
  return nil, err
end

-- Reads it, unless another task has since this one asked.
local function refresh(self)
  local asked_ms = time.monotonic()
  local ok, err = self.lock:acquire()
  if not ok then
    return nil, err
  end
  if self.again_ms > asked_ms and (self.slots or self.fault) then
    self.lock:release()
    return self.slots ~= nil or nil, self.fault
  end
  local fine, done, why = pcall(read_table, self)
  self.again_ms = time.monotonic() + jitter(SPACING_MS)
  self.lock:release()
  if not fine then
    error(done, 0)
  end
  return done, why
end

-- Has it read soon, by a task of its own.
local function refresh_soon(self)
  if self.reading then
    return
  end
  self.reading = true
  task.spawn_detached(function()
    local wait_ms = self.again_ms - time.monotonic()
    local ok, err = pcall(function()
      if wait_ms > 0 then
        task.sleep(wait_ms)
      end
      refresh(self)
    end)
    self.reading = false
    if not ok then
      error(err, 0)
    end
  end)
end

-- ---- where a command goes ----

local function any_master(self)
  local now_ms = time.monotonic()
  local count = #self.shards
  for i = 1, count do
    local node = self.shards[(self.turn + i - 1) % count + 1].master
    if node.away_ms <= now_ms then
      self.turn = (self.turn + i) % count
      return node
    end
  end
  self.turn = (self.turn + 1) % count
  return self.shards[self.turn + 1].master
end

local function replica_of(shard)
  local count, now_ms = #shard.replicas, time.monotonic()
  local start = count > 0 and math.random(count) or 0
  for i = 0, count - 1 do
    local node = shard.replicas[(start + i - 1) % count + 1]
    if node.away_ms <= now_ms then
      return node
    end
  end
  return nil
end

--- The server for a slot.
---@param slot integer? # nil: any
---@param read boolean? # a replica will do
---@return userdata? handle
---@return perigee.Error? err
function Cluster:pick(slot, read)
  if not self.slots then
    local ok, err = refresh(self)
    if not ok then
      return nil, err
    end
  elseif time.monotonic() > self.stale_ms then
    self.stale_ms = time.monotonic() + jitter(FRESH_MS)
    refresh_soon(self)
  end
  if not slot then
    return handle_of(self, any_master(self), "master")
  end
  local shard = self.slots[slot]
  if not shard then
    refresh_soon(self)
    return nil, unavailable("CLUSTERDOWN",
      "redis %s: no server has slot %d", self.name, slot)
  end
  local replica = read and replica_of(shard)
  if replica then
    return handle_of(self, replica, "replica")
  end
  return handle_of(self, shard.master, "master")
end

--- The clients of all masters.
---@return userdata[]? handles
---@return perigee.Error? err
function Cluster:masters()
  if not self.slots then
    local ok, err = refresh(self)
    if not ok then
      return nil, err
    end
  end
  local list, seen = {}, {}
  for _, shard in ipairs(self.shards) do
    if not seen[shard.master] then
      seen[shard.master] = true
      local handle, err = handle_of(self, shard.master, "master")
      if not handle then
        return nil, err
      end
      list[#list + 1] = handle
    end
  end
  return list
end

-- "MOVED 3999 10.0.0.1:6381": the slot and the server.
local function place_in(self, message, handle)
  local slot, host, port = message:match "%u+ (%d+) (%S*):(%d+)"
  if not slot then
    return nil
  end
  local asked = self.by_handle[handle]
  host = host_or(host, asked and asked.host or self.hosts[1][1])
  local node = node_at(self, host, tonumber(port))
  node.unused = nil -- one that gets its first slot is in no table yet
  return node, tonumber(slot)
end

local function moved(self, err, handle)
  local node, slot = place_in(self, err.message, handle)
  if not node then
    return nil
  end
  if self.slots then
    local shard = { master = node, replicas = {} }
    for _, other in ipairs(self.shards) do
      shard = other.master == node and other or shard
    end
    self.slots[slot] = shard
  end
  refresh_soon(self)
  return handle_of(self, node, "master")
end

-- The server has lost its place; wait for the table to tell who has it.
local function after_refresh(self, slot)
  pause()
  refresh(self)
  return (self:pick(slot))
end

--- What to do about an error: the server to try next, or nil: it stands.
---@param err perigee.Error
---@param handle userdata # that gave it
---@param slot integer?
---@param try integer # how many there have been
---@return userdata? handle
---@return boolean? asking # ASKING goes first
function Cluster:again(err, handle, slot, try)
  local code = err.code
  if try > TRIES then
    return nil
  elseif code == "MOVED" then
    if try > 4 then -- two servers point at each other
      pause()
    end
    return moved(self, err, handle)
  elseif code == "ASK" then
    local node = place_in(self, err.message, handle)
    return node and handle_of(self, node, "master"), true
  elseif code == "TRYAGAIN" then
    pause()
    return (self:pick(slot))
  elseif code == "READONLY" or code == "MASTERDOWN" then
    return try <= 2 and after_refresh(self, slot) or nil
  elseif code == "CLUSTERDOWN" then
    return try <= 4 and after_refresh(self, slot) or nil
  elseif code == "closed" then
    return try <= 2 and (self:pick(slot)) or nil
  end
  self:failed(err, handle)
  if self.is_replica[handle] and err.kind == "unavailable" then
    return (self:pick(slot)) -- it only read: the master will do
  end
  return nil
end

--- Notes that a server does not answer.
---@param err perigee.Error
---@param handle userdata
function Cluster:failed(err, handle)
  if (err.kind == "unavailable" or err.kind == "timeout")
    and err.code ~= "queue_full" then
    local node = self.by_handle[handle]
    if node then
      node.away_ms = time.monotonic() + AWAY_MS
    end
    refresh_soon(self)
  end
end

--- Whether commands of several slots go to several servers.
Cluster.is_cluster = true

return Cluster
