--- Queues in Redis: how jobs are taken by one who runs them in this worker.

local codec = require "perigee.queue.redis.codec"
local core = require "perigee.core.task"
local errors = require "perigee.error"
local log = require "perigee.log"
local redis = require "perigee.core.redis"
local schedule = require "perigee.queue.redis.schedule"
local settle = require "perigee.queue.redis.settle"
local time = require "perigee.time"

local M = {}

local LIMITED_MAX_MS = 30000
local DUE_MAX_MS = 10000
-- More are taken in halves: see `fetch_ahead`.
local WHOLE_BELOW = 8

-- ---- waiting for work ----

--- Jobs that had been begun for somebody who does not want them any more. Each
--- goes to the front: the first one is the last to go.
---@param self perigee.queue.redis.Consumer
---@param jobs perigee.queue.Record[]?
---@param from integer
function M.put_back(self, jobs, from)
  for i = jobs and #jobs or 0, from, -1 do
    core.start(self.release, self, jobs[i])
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
  self.began_until = here:written_until(replies[3])
  here:read_clock(replies[3])
  local reply = replies[2]
  if errors.is(reply) or reply[1] < 0 then
    -- The server has forgotten the script, say, or this worker was held up.
    return { refused = true }
  end
  local jobs, limited, due = settle.fetched(self, reply, token)
  return { jobs = jobs, limited = limited, due = due }
end

--- Waits for work whenever there is nothing to do; a task of its own.
---@param self perigee.queue.redis.Consumer
function M.watch(self)
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
        M.put_back(self, answer.jobs, 1)
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
      core.start(fail_deferred, self, job)
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
    M.put_back(self, box.jobs, 1)
  end
  box.event:set()
end

local function fetch(self, n)
  local box = { event = core.event() }
  core.start(fetch_detached, self, n, box)
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
  M.put_back(self, answer.jobs, fit and n + 1 or 1)
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

-- ---- one half ahead ----

-- While the worker runs one half of what it may, the server hands out the other:
-- there are more, most likely. It answers when it has done all that it has read,
-- so it must have read this before the first half has ended.
local function fetch_ahead(self, n)
  local box = { event = core.event() }
  self.ahead = box
  core.start(function()
    local jobs, limited, due = settle.fetch(self, n)
    box.full = jobs and #jobs >= n
    box.jobs, box.limited, box.due = jobs and admit(self, jobs), limited, due
    if self.ahead ~= box then
      M.put_back(self, box.jobs, 1)
    end
    box.event:set()
  end)
  self.store.client:flush()
end

local function of_ours(self, jobs)
  local out = {}
  for i = 1, #jobs do
    if self.running[jobs[i].id] == jobs[i] then
      out[#out + 1] = jobs[i]
    end
  end
  return out
end

-- Jobs, what there is to say of limits, and whether there are more.
local function from_ahead(self)
  local box = self.ahead
  box.event:wait()
  if self.ahead ~= box then
    return {}, 0, 0, true -- closed meanwhile
  end
  self.ahead = nil
  return box.jobs and of_ours(self, box.jobs), box.limited, box.due, box.full
end

--- Whoever leaves takes nothing of what he has ahead; gives what is there.
---@param self perigee.queue.redis.Consumer
---@return perigee.queue.Record[]
function M.leave_ahead(self)
  local box = self.ahead
  self.ahead = nil
  return box and box.jobs or {}
end

-- Whoever leaves or brings jobs leaves a mark: who has got fewer than he wanted
-- knows that there is nothing, and when to look again (`dry`).

--- Jobs to be run, one at least and `most` at most; nil: it was closed, or an
--- error.
---@param self perigee.queue.redis.Consumer
---@param most integer
---@return perigee.queue.Record[]? jobs
---@return perigee.Error? err
function M.take(self, most)
  local half = math.ceil(self.concurrency / 2)
  local n = most > WHOLE_BELOW and math.min(most, half) or most
  while not self.closed do
    local jobs, limited, due, full
    if self.ahead then
      jobs, limited, due, full = from_ahead(self)
    else
      if self.dry then
        jobs, limited, due = rest(self, n, self.dry)
      else
        jobs, limited, due = fetch(self, n)
      end
      full = jobs and #jobs >= n
      jobs = jobs and admit(self, jobs)
    end
    if not jobs then
      self.dry = nil
      return nil, limited
    end
    self.dry = limited == 0 and not full and due or nil
    if #jobs > 0 then
      -- Since it was asked how many, jobs have ended.
      local left = (self.room and self.room() or most) - #jobs
      if full and limited == 0 and left > 0 then
        fetch_ahead(self, math.min(left, half))
      end
      return jobs
    elseif limited > 0 then
      self.woken:wait(math.min(limited, LIMITED_MAX_MS))
    end
  end
  return nil
end

return M
