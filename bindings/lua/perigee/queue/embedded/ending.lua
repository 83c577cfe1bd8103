--- How jobs of the embedded store end or go back, whoever runs them: see
--- perigee.queue.embedded.consumer.

local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local log = require "perigee.log"
local records = require "perigee.queue.embedded.records"
local sql = require "perigee.queue.embedded.sql"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

local STORE_AGAIN_MS, STORE_AGAIN_MAX_MS = 50, 1000

-- ---- ending ----

--- The error for a job that is this worker's no more.
---@param job table
---@return perigee.Error
function M.lost(job)
  return errors.new("conflict",
    "job %s of queue %s runs (or has run) elsewhere: its lease was lost",
    job.id, job.queue)
end

-- The job has run and is still this worker's: nobody else would end it. Until the
-- disk has room again, say.
local function persist(self, list)
  local pause = STORE_AGAIN_MS
  while true do
    local outcomes, ids, from = self.store:run(list)
    if outcomes or ids.kind ~= "unavailable" or self.store.closed then
      return outcomes, ids, from
    end
    if pause == STORE_AGAIN_MS then
      log.error("jobs that have ended cannot be stored yet",
        { queue = self.queue, err = ids })
    end
    task.sleep(pause)
    pause = math.min(2 * pause, STORE_AGAIN_MAX_MS)
  end
end

-- Runs what ends a job; its first statement tells whether it was still his.
-- nil alone: it was not, or it has extras that the statements pass over.
local function ending(self, job, list)
  self.running[job.seq] = nil
  local outcomes, ids, from = persist(self, list)
  if not outcomes then
    return nil, ids
  end
  if outcomes[from + 1] ~= 1 then
    return nil
  end
  local view = self.view
  if job.crashed >= 2 or (view and (view.concurrency
    or view.group_concurrency)) then
    self.store:notify(self.queue_id)
  end
  return true
end

local function retention(self, list, keep_what, state)
  if type(keep_what) == "number" then
    keep_what = { count = keep_what }
  end
  if type(keep_what) ~= "table" then
    return
  end
  for i = 1, 2 do
    if keep_what.count then
      list[#list + 1] = { sql.KEEP_COUNT[i], self.queue_id, state,
        keep_what.count, n = 3 }
    end
    if keep_what.age then
      list[#list + 1] = { sql.KEEP_AGE[i], self.queue_id, state,
        math.floor((self.store:now() - keep_what.age) * 1000), n = 3 }
    end
  end
end

local function remove_ended(list, job)
  for i = 1, 2 do
    list[#list + 1] = { sql.REMOVE_ENDED[i], job.seq, n = 1 }
  end
end

-- What a child's end has done to its parent, and that to its own.
local function tell_parents(store, seq, place)
  while seq do
    local parent = store.db:one(sql.PARENT, seq, place)
    if not parent then
      return
    end
    local id = records.id(parent)
    if parent.state ~= sql.FAILED then
      events.tell(store, parent.queue, {
        event = parent.state == sql.DELAYED and "delayed" or "waiting",
        id = id, prev = "waiting_children",
      })
      return
    end
    store:count(parent.queue, "failed")
    events.tell(store, parent.queue,
      { event = "failed", id = id, failure = parent.failure })
    seq = parent.parent
  end
end

-- What there is to say when a job has ended, if anybody hears it.
local function tell_ended(self, job, name, result, failure)
  local store, queue_id = self.store, self.queue_id
  local wanted = events.wanted(store, queue_id)
  if wanted then
    events.tell(store, queue_id,
      { event = name, id = job.id, result = result, failure = failure })
  end
  if job.parent then
    store:notify_all()
    tell_parents(store, job.parent, job.place)
  end
  if not wanted then
    return
  end
  if name == "failed" and job.attempts + 1 >= (job.opts.attempts or 1) then
    events.tell(store, queue_id, { event = "retries_exhausted", id = job.id })
  end
  local row = store.db:one(sql.DRAINED, queue_id)
  if row and row.drained == 1 then
    events.tell(store, queue_id, { event = "drained" })
  end
end

local function complete(self, job, result, text)
  job.place = self.store:place()
  local list = { { text, job.place, time.now(), result, job.seq, job.token,
    n = 5 } }
  local remove = job.opts.remove_on_complete
  if remove == true then
    remove_ended(list, job)
  elseif remove then
    retention(self, list, remove, sql.COMPLETED)
  end
  return ending(self, job, list)
end

---@param self perigee.queue.embedded.Consumer
---@param job table
---@param result string? # JSON
---@return true? ok
---@return perigee.Error? err
function M.complete(self, job, result)
  local ok, err
  if job.extras == 0 then
    if job.opts.remove_on_complete == true then
      ok, err = ending(self, job, {
        { sql.COMPLETE_REMOVE, job.seq, job.token, n = 2 },
      })
    else
      ok, err = complete(self, job, result, sql.COMPLETE)
    end
  end
  if not ok and not err then
    ok, err = complete(self, job, result, sql.COMPLETE_EXTRAS)
  end
  if not ok then
    return nil, err or M.lost(job)
  end
  self.store:count(self.queue_id, "completed")
  tell_ended(self, job, "completed", result)
  return true
end

local function fail_for_good(self, job, failure)
  local remove = job.opts.remove_on_fail
  job.place = self.store:place()
  local list = {
    { sql.FAIL, job.place, time.now(), failure.message,
      failure.stack, job.seq, job.token, n = 6 },
  }
  if remove == true then
    remove_ended(list, job)
  elseif remove then
    retention(self, list, remove, sql.FAILED)
  end
  local ok, err = ending(self, job, list)
  if not ok then
    return nil, err or M.lost(job)
  end
  self.store:count(self.queue_id, "failed")
  tell_ended(self, job, "failed", nil, failure.message)
  return true
end

---@param self perigee.queue.embedded.Consumer
---@param job table
---@param failure {message: string, stack: string?}
---@param retry_in integer? # ms; nil: not again
---@return true? ok
---@return perigee.Error? err
function M.fail(self, job, failure, retry_in)
  if not retry_in then
    return fail_for_good(self, job, failure)
  end
  local list
  if retry_in > 0 then
    list = { { sql.RETRY_LATER,
      math.floor((self.store:now() + retry_in) * 1000), retry_in,
      failure.message, failure.stack, job.seq, job.token, n = 6 } }
  else
    list = { { sql.RETRY, self.store:place(), failure.message, failure.stack,
      job.seq, job.token, n = 5 } }
  end
  local ok, err = ending(self, job, list)
  if not ok then
    return nil, err or M.lost(job)
  end
  self.store:notify(self.queue_id, retry_in == 0 and 1 or nil)
  events.tell(self.store, self.queue_id,
    { event = retry_in > 0 and "delayed" or "waiting", id = job.id })
  return true
end

--- It goes back, as if it had not been taken.
---@param self perigee.queue.embedded.Consumer
---@param job table
---@return true? ok
---@return perigee.Error? err
function M.release(self, job)
  self.running[job.seq] = nil
  local outcomes, ids, from = self.store:run {
    { sql.RELEASE, job.seq, job.token, n = 2 },
  }
  if not outcomes then
    return nil, ids
  end
  if outcomes[from + 1] ~= 1 then
    return nil, M.lost(job)
  end
  self.store:notify(self.queue_id, 1)
  return true
end

return M
