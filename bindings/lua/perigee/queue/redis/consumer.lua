--- Queues in Redis: one who runs jobs of a queue in this worker.

local codec = require "perigee.queue.redis.codec"
local connection = require "perigee.queue.redis.connection"
local core = require "perigee.core.task"
local errors = require "perigee.error"
local log = require "perigee.log"
local queue_core = require "perigee.core.queue"
local schedule = require "perigee.queue.redis.schedule"
local settle = require "perigee.queue.redis.settle"
local time = require "perigee.time"

local M = {}

local LIMITED_MAX_MS = 30000
local DUE_MAX_MS = 10000
local SWEEP_MS = 500
-- A job that has brought its worker down so often may not do it again.
local CRASHES_MAX = 2
-- Halves let the server work on one while the worker works on the other.
local WHOLE_BELOW = 8

---@class perigee.queue.redis.Consumer: perigee.queue.Consumer
local Consumer = {}
Consumer.__index = Consumer

-- ---- waiting for work ----

local function nudge(self)
  self.store:run("nudge", self.queue)
end

-- Pops marks while take has nothing to do. The server's time-outs are coarse, so
-- it is take that knows when the next delayed job is due.
local function watch(self)
  while not self.closed do
    self.arm:wait()
    local reply, err
    if self.idle and not self.closed then
      reply, err = self.connection:wait(self.idle_ms, "BZPOPMIN", self.marker,
        self.idle_ms / 1000)
    end
    if self.idle then
      self.mark, self.mark_err = reply and tonumber(reply[3]), err
      self.woken:set()
    elseif reply then
      nudge(self) -- it was for somebody else
    end
  end
end

-- Until there may be work; a mark's score is when the next delayed job is due.
local function wait_for_mark(self, due)
  self.idle = true
  self.arm:set()
  while not self.closed do
    local ms = 2 * self.idle_ms
    if due > 0 then
      ms = math.min(due - time.now(), DUE_MAX_MS)
    end
    if ms <= 0 or not self.woken:wait(ms) then
      return true
    end
    local mark, err = self.mark, self.mark_err
    if err then
      return nil, err
    elseif not mark or mark <= time.now() + 1 then
      return true
    end
    mark = math.floor(mark)
    due = due > 0 and math.min(due, mark) or mark
    self.arm:set()
  end
  return true
end

local function end_rest(self, ok, ...)
  self.idle = false
  if not ok then
    error((...), 0)
  end
  return ...
end

local function rest(self, limited, due)
  if limited > 0 then
    self.woken:wait(math.min(limited, LIMITED_MAX_MS))
    return true
  end
  return end_rest(self, pcall(wait_for_mark, self, due))
end

-- ---- taking ----

-- What need not be run: it has been found hopeless elsewhere.
local function fail_deferred(self, job)
  local ok, err = settle.finish(self, "f", job, job.deferred, job.deferred,
    codec.keep_text(job.opts.remove_on_fail), job.opts.attempts or 0)
  if not ok then
    log.warn("a job could not be failed", {
      queue = self.queue, job = job.id, err = err,
    })
  end
end

local function admit(self, jobs)
  local out = {}
  for i = 1, #jobs do
    local job = jobs[i]
    if job.scheduler then
      schedule.continue(self.store, job)
    end
    if job.deferred then
      core.spawn_detached(fail_deferred, self, job)
    else
      self.running[job.id] = job
      if self.keeper then
        self.keeper:add(self.root .. ":" .. job.id .. ":lock", job.token)
      end
      out[#out + 1] = job
    end
  end
  return out
end

-- Whoever asked may be cancelled while the server hands jobs out.
local function fetch_detached(self, n, box)
  box.jobs, box.limited, box.due = settle.fetch(self, n)
  for i = 1, box.gone and box.jobs and #box.jobs or 0 do
    core.spawn_detached(settle.finish, self, "w", box.jobs[i], "", "", "", 0)
  end
  box.event:set()
end

local function fetch(self, n)
  local box = { event = core.event() }
  core.spawn_detached(fetch_detached, self, n, box)
  local ok, err = pcall(box.event.wait, box.event)
  if not ok then
    box.gone = true
    error(err, 0)
  end
  return box.jobs, box.limited, box.due
end

local function take(self, n)
  if n > WHOLE_BELOW then
    n = math.min(n, math.ceil(self.concurrency / 2))
  end
  while not self.closed do
    local jobs, limited, due = fetch(self, n)
    if not jobs then
      return nil, limited
    end
    jobs = admit(self, jobs)
    if #jobs > 0 then
      return jobs
    end
    local ok, err = rest(self, limited, due)
    if not ok and err then
      return nil, err
    end
  end
  return nil
end

function Consumer:take(n)
  if self.closed then
    return nil
  end
  return self.taking:with(take, self, n)
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

local function bury(self)
  local list = self.store:run("owners", self.queue)
  local seen, args = {}, { CRASHES_MAX }
  for i = 1, list and #list or 0, 3 do
    local id, token, why = list[i], list[i + 1], list[i + 2]
    local job = self.running[id]
    if self.owner:is_dead(token, seen) then
      args[#args + 1] = id
      args[#args + 1] = token
    elseif why ~= "" and job and job.token == token and self.on_cancel then
      core.spawn_detached(self.on_cancel, job, why)
    end
  end
  if #args > 1 then
    return self.store:run("abandoned", self.queue, args)
  end
  return true
end

local function sweep(self)
  self.store:run("stalled", self.queue, { time.now(), SWEEP_MS - 50,
    self.stalled_max })
  bury(self)
end

local function leased(self)
  return not self.closed or next(self.running) ~= nil
end

local function tend(self)
  local renewed, every = 0, math.max(math.floor(self.lock / 4), 1)
  while leased(self) do
    local now = time.monotonic()
    if self.keeper then
      self.keeper:alive()
    end
    if now - renewed >= every then
      renewed = now
      renew(self, copy(self.running))
    end
    if not self.closed then
      sweep(self)
    end
    core.sleep(math.min(SWEEP_MS, every))
  end
  self.consumers[self] = nil
end

function Consumer:close()
  if self.closed then
    return
  end
  self.closed = true
  self.woken:set()
  self.watcher:cancel "the consumer is closed"
  self.connection:close()
  -- The mark that it has taken may be somebody else's.
  core.spawn_detached(nudge, self)
end

--- Gives back what still runs; for the end of the host.
function Consumer:give_back()
  self:close()
  settle.give_back(self, self.running)
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
    idle_ms = settings.idle_timeout, idle = false, arm = queue_core.signal(),
    woken = queue_core.signal(), stalled_max = settings.stalled_max,
    worker = options.name or "", points = settings.metrics,
    concurrency = options.concurrency, on_lost = options.on_lost,
    on_cancel = options.on_cancel,
    owner = driver.owner, consumers = driver.consumers, running = {},
    marker = root .. ":marker",
    token = function() return driver.owner:token() end,
    taking = require("perigee.task").semaphore(1),
    connection = connection.open(store.client, root .. ":marker",
      connection.name(store.prefix, queue, suffix)),
  }, Consumer)
  self.keeper = driver:keep()
  driver.consumers[self] = true
  self.watcher = core.spawn_detached(pcall, watch, self)
  core.spawn_detached(tend, self)
  return self
end

return M
