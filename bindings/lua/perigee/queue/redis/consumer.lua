--- Queues in Redis: one who runs jobs of a queue in this worker.

local codec = require "perigee.queue.redis.codec"
local connection = require "perigee.queue.redis.connection"
local core = require "perigee.core.task"
local errors = require "perigee.error"
local log = require "perigee.log"
local queue_core = require "perigee.core.queue"
local redis = require "perigee.core.redis"
local schedule = require "perigee.queue.redis.schedule"
local settle = require "perigee.queue.redis.settle"
local time = require "perigee.time"

local M = {}

local LIMITED_MAX_MS = 30000
local DUE_MAX_MS = 10000
local SWEEP_MS = 500
local LEAVE_MS = 20
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

-- They had been begun for somebody who does not want them any more.
local function put_back(self, jobs, from)
  for i = from, jobs and #jobs or 0 do
    core.spawn_detached(settle.finish, self, "w", jobs[i], "", "", "", 0)
  end
end

-- Waits for a mark, and the server goes on at once with what is to be done then:
-- a job is here one way after it was added. For a host that has stopped, it does
-- not: `sweep` tells it who is alive.
local function listen(self, n)
  local here = self.connection
  local ok, err = here:ready()
  if not ok or self.closed then
    return { err = err }
  end
  local token, replies = self.token()
  self.listening = token
  replies, err = here:wait_and_go_on(self.idle_ms, 3,
    redis.encode("BZPOPMIN", self.marker, self.idle_ms / 1000)
    .. settle.fetch_later(self, n, token, here.ahead) .. redis.encode "TIME")
  self.listening = nil
  if not replies then
    self.unheard[token] = time.monotonic()
    return { err = err }
  end
  here:read_clock(replies[3])
  local reply = replies[2]
  if errors.is(reply) or reply[1] < 0 then
    -- The server has forgotten the script, say, or this worker was held up.
    return { refused = true }
  end
  local jobs, limited, due = settle.fetched(self, reply, token)
  return { jobs = jobs, limited = limited, due = due }
end

local function watch(self)
  while not self.closed do
    self.arm:wait()
    if not self.closed then
      local ok, answer = pcall(listen, self, self.wanted)
      if not ok then
        answer = { err = errors.wrap(answer) }
      end
      self.armed = false
      if self.waiting then
        self.answer = answer
        self.woken:set()
      else
        put_back(self, answer.jobs, 1)
      end
    end
  end
  self.connection:close()
end

-- Until there is an answer. The server's time-outs are coarse, so it is us who
-- say when the next delayed job is due.
local function await(self, n, due)
  if not self.armed then
    self.armed, self.wanted = true, n
    self.arm:set()
  end
  while not self.answer and not self.closed do
    local ms = due > 0 and math.min(due - time.now(), DUE_MAX_MS) or nil
    if ms and (ms <= 0 or not self.woken:wait(ms)) then
      due = self.store:run("due", self.queue, { time.now() }) or 0
    elseif not ms then
      self.woken:wait()
    end
  end
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
  if box.gone then
    put_back(self, box.jobs, 1)
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

-- The same for one who has nothing to do until there is something.
local function rest(self, n, due)
  self.waiting = true
  local ok, err = pcall(await, self, n, due)
  local answer = self.answer or {}
  self.waiting, self.answer = false, nil
  local fit = ok and not self.closed
  put_back(self, answer.jobs, fit and n + 1 or 1)
  if not ok then
    error(err, 0)
  elseif not fit then
    return {}, 0, 0
  elseif answer.refused then
    return fetch(self, n)
  end
  for i = n + 1, answer.jobs and #answer.jobs or 0 do
    answer.jobs[i] = nil
  end
  return answer.jobs, answer.limited or answer.err, answer.due
end

-- Whoever leaves or brings jobs leaves a mark: who has got fewer than he wanted
-- knows that there is nothing, and when to look again (`dry`).
local function take(self, n)
  if n > WHOLE_BELOW then
    n = math.min(n, math.ceil(self.concurrency / 2))
  end
  while not self.closed do
    local jobs, limited, due
    if self.dry then
      jobs, limited, due = rest(self, n, self.dry)
    else
      jobs, limited, due = fetch(self, n)
    end
    if not jobs then
      self.dry = nil
      return nil, limited
    end
    self.dry = limited == 0 and #jobs < n and due or nil
    jobs = admit(self, jobs)
    if #jobs > 0 then
      return jobs
    elseif limited > 0 then
      self.woken:wait(math.min(limited, LIMITED_MAX_MS))
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
      put_back(self, { { id = id, token = token } }, 1)
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
  nudge(self) -- the mark that it has taken may be somebody else's
end

function Consumer:close()
  if self.closed then
    return
  end
  self.closed = true
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
    on_lost = options.on_lost, on_cancel = options.on_cancel,
    owner = driver.owner, consumers = driver.consumers, running = {},
    marker = root .. ":marker",
    token = function() return driver.owner:token() end,
    taking = require("perigee.task").semaphore(1),
    connection = connection.open(store.client, root .. ":marker",
      connection.name(store.prefix, queue, suffix)),
  }, Consumer)
  self.renew_ms = math.max(math.floor(self.lock / 4), 1)
  self.sweep_ms = math.min(SWEEP_MS, self.renew_ms)
  self.keeper = driver:keep()
  driver.consumers[self] = true
  core.spawn_detached(pcall, watch, self)
  core.spawn_detached(tend, self)
  return self
end

return M
