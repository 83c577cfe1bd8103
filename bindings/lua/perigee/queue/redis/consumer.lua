--- Queues in Redis: one who runs jobs of a queue in this worker.

local codec = require "perigee.queue.redis.codec"
local connection = require "perigee.queue.redis.connection"
local core = require "perigee.core.task"
local errors = require "perigee.error"
local queue_core = require "perigee.core.queue"
local settle = require "perigee.queue.redis.settle"
local taking = require "perigee.queue.redis.taking"
local time = require "perigee.time"

local M = {}

local SWEEP_MS = 500
local LEAVE_MS = 20
-- A job that has brought its worker down so often may not do it again.
local CRASHES_MAX = 2

---@class perigee.queue.redis.Consumer: perigee.queue.Consumer
local Consumer = {}
Consumer.__index = Consumer

function Consumer:take(n)
  if self.closed then
    return nil
  end
  return self.turn:with(taking.take, self, n)
end

-- ---- ending ----

local function forget(self, job)
  if self.running[job.id] == job then
    self.running[job.id] = nil
    if self.keeper then
      self.keeper:drop(self.root .. ":" .. job.id .. ":lock")
    end
  end
end

local function finish(self, kind, job, ...)
  local ok, err = settle.finish(self, kind, job, ...)
  forget(self, job)
  return ok, err
end

-- A job with children that are not done, one that was retried while it ran, say,
-- fails: as it does for Node.
function Consumer:complete(job, result)
  local ok, err = settle.finish(self, "c", job, result, "",
    codec.keep_text(job.opts.remove_on_complete), 0)
  if not ok and err.code == "children" then
    return self:fail(job, { message = err.message })
  end
  forget(self, job)
  return ok, err
end

function Consumer:fail(job, failure, retry_in)
  local stack = failure.stack or failure.message
  if retry_in then
    return finish(self, "r", job, failure.message, stack, "",
      math.max(math.floor(retry_in), 0))
  end
  return finish(self, "f", job, failure.message, stack,
    codec.keep_text(job.opts.remove_on_fail), job.opts.attempts or 0)
end

function Consumer:release(job)
  return finish(self, "w", job, "", "", "", 0)
end

-- ---- leases ----

local function lose(self, id)
  local job = self.running[id]
  if job then
    forget(self, job)
    if self.on_lost then
      core.spawn_detached(self.on_lost, job)
    end
  end
end

local function renew(self, jobs)
  local args = { self.lock }
  for _, job in pairs(jobs) do
    args[#args + 1] = job.id
    args[#args + 1] = job.token
  end
  if #args == 1 then
    return true
  end
  local lost, err = self.store:run("renew", self.queue, args)
  if not lost then
    return nil, err
  end
  for i = 1, #lost do
    -- A job that has ended meanwhile has no lock either.
    local job = self.running[lost[i]]
    if job and jobs[lost[i]] == job then
      lose(self, lost[i])
    end
  end
  return true
end

function Consumer:heartbeat(job)
  local ok, err = renew(self, { [job.id] = job })
  if not ok then
    return nil, err
  elseif self.running[job.id] ~= job then
    return nil, errors.new("conflict", "another worker has the lease")
  end
  return true
end

local function copy(map)
  local out = {}
  for key, value in pairs(map) do
    out[key] = value
  end
  return out
end

-- ---- jobs of those who are gone ----

-- Also of those that were begun for us, and we have not heard of it.
local function bury(self)
  local list = self.store:run("owners", self.queue)
  local seen, args = {}, { time.now(), CRASHES_MAX }
  for i = 1, list and #list or 0, 3 do
    local id, token, why = list[i], list[i + 1], list[i + 2]
    local job = self.running[id]
    if self.owner:is_dead(token, seen) then
      args[#args + 1] = id
      args[#args + 1] = token
    elseif job and job.token == token then
      if why ~= "" and self.on_cancel then
        core.spawn_detached(self.on_cancel, job, why)
      end
    elseif self.unheard[token] then
      taking.put_back(self, { { id = id, token = token } }, 1)
    end
  end
  if #args > 2 then
    return self.store:run("abandoned", self.queue, args)
  end
  return true
end

local function sweep(self)
  self.store:run("stalled", self.queue, { time.now(), SWEEP_MS - 50,
    self.stalled_max, self.owner.prefix, 2 * self.sweep_ms })
  bury(self)
end

local function forget_unheard(self, now)
  for token, since in pairs(self.unheard) do
    if now - since > 2 * self.lock then
      self.unheard[token] = nil
    end
  end
end

local function leased(self)
  return not self.closed or next(self.running) ~= nil
end

local function tend(self)
  local renewed, every = 0, self.renew_ms
  while leased(self) do
    local now = time.monotonic()
    if self.keeper then
      self.keeper:alive()
    end
    if now - renewed >= every then
      renewed = now
      renew(self, copy(self.running))
      forget_unheard(self, now)
    end
    if not self.closed then
      sweep(self)
    end
    core.sleep(self.sweep_ms)
  end
  self.consumers[self] = nil
end

-- What its wait brings yet is put back. Asked again where the server has not
-- seen the wait so far.
local function leave(self)
  while self.armed do
    local ended = self.connection:unblock()
    if not ended then
      self.connection:close()
    elseif ended == 1 then
      break
    end
    core.sleep(LEAVE_MS)
  end
  -- The mark that it has taken may be somebody else's.
  self.store:run("nudge", self.queue)
end

function Consumer:close()
  if self.closed then
    return
  end
  self.closed = true
  taking.put_back(self, taking.leave_ahead(self), 1)
  self.woken:set()
  self.arm:set()
  core.spawn_detached(leave, self)
end

-- Jobs that were begun by a wait whose answer nobody reads any more.
local function begun_unheard(self, jobs)
  local token = self.listening
  self.connection:unblock()
  local list = token and self.store:run("owners", self.queue) or {}
  for i = 1, #list, 3 do
    if list[i + 1] == token then
      jobs[list[i]] = { id = list[i], token = token }
    end
  end
  return jobs
end

--- Gives back what still runs; for the end of the host.
function Consumer:give_back()
  taking.leave_ahead(self) -- they are among those that run
  self:close()
  settle.give_back(self, begun_unheard(self, copy(self.running)))
  for _, job in pairs(copy(self.running)) do
    forget(self, job)
  end
end

--- Opens a consumer.
---@param driver table
---@param queue string
---@param options perigee.queue.ConsumeOptions
---@return perigee.queue.redis.Consumer
function M.open(driver, queue, options)
  local store, settings = driver.store, driver.settings
  local root = store:root(queue)
  local suffix = options.name and ":w:" .. options.name
  local self = setmetatable({
    store = store, queue = queue, root = root, lock = settings.lock,
    idle_ms = settings.idle_timeout, arm = queue_core.signal(), armed = false,
    woken = queue_core.signal(), waiting = false, unheard = {},
    stalled_max = settings.stalled_max, worker = options.name or "",
    points = settings.metrics, concurrency = options.concurrency,
    room = options.room,
    on_lost = options.on_lost, on_cancel = options.on_cancel,
    owner = driver.owner, consumers = driver.consumers, running = {},
    marker = root .. ":marker",
    token = function() return driver.owner:token() end,
    turn = require("perigee.task").semaphore(1), -- to take
    connection = connection.open(store.client, root .. ":marker",
      connection.name(store.prefix, queue, suffix)),
  }, Consumer)
  self.renew_ms = math.max(math.floor(self.lock / 4), 1)
  self.sweep_ms = math.min(SWEEP_MS, self.renew_ms)
  self.keeper = driver:keep()
  driver.consumers[self] = true
  core.spawn_detached(pcall, taking.watch, self)
  core.spawn_detached(tend, self)
  return self
end

return M
