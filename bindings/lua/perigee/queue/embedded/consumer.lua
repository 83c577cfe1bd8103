--- Who runs jobs of one queue in this worker, on the embedded store.

local core_app = require "perigee.core.app"
local core_queue = require "perigee.core.queue"
local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local log = require "perigee.log"
local records = require "perigee.queue.embedded.records"
local sql = require "perigee.queue.embedded.sql"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

local CRASHES_MAX = 3
local LOOK_EVERY_MS = 1000 -- while there is always something to do
local STORE_AGAIN_MS, STORE_AGAIN_MAX_MS = 50, 1000

---@class perigee.queue.embedded.Consumer: perigee.queue.Consumer
local Consumer = {}
Consumer.__index = Consumer

-- ---- owners ----

-- Numbers are drawn and locked before they are written down: whoever finds one
-- in the table without its lock may take its jobs. One of a worker that has died
-- must not be locked again: so the lock goes when the number is taken.
local function draw(store, name)
  local owners, err = core_queue.owners(store.path .. "-owners")
  if not owners then
    return nil, err
  end
  local number, count = math.random(1, 2 ^ 31 - 2), 0
  if not owners:alive(number) and owners:take(number) then
    count, err = store:exec("INSERT OR IGNORE INTO owner(id, pid, name, since) "
      .. "VALUES (?, ?, ?, ?)", number, core_app.host().pid, name, time.now())
  end
  if count ~= 1 then
    owners:close()
    return count, err
  end
  store.owners, store.owner = owners, number
  return count
end

-- A store has one owner, whichever of its consumers comes first.
local function register(store, name)
  local count, err
  while not store.owner do
    count, err = draw(store, name)
    if not count then
      return nil, err
    end
  end
  return true
end

local function tell_crashed(store, rows)
  local told = {}
  for _, row in ipairs(rows) do
    local id = row.cid or ("%d"):format(row.seq)
    events.tell(store, row.queue, { event = "stalled", id = id })
    if row.state == sql.FAILED then
      events.tell(store, row.queue,
        { event = "failed", id = id, failure = row.failure })
    end
    told[row.queue] = true
  end
  for queue in pairs(told) do
    store:notify(queue)
  end
end

--- Jobs of workers that are no more run again; those that took three workers
--- with them have failed.
---@param store perigee.queue.Store
---@return integer? jobs
---@return perigee.Error? err
function M.recover(store)
  if store.recovering or not store.owners then
    return 0
  end
  local rows, err = store.db:query "SELECT id FROM owner"
  if not rows then
    return nil, err
  end
  local count = 0
  for _, row in ipairs(rows) do
    if store.owners and row.id ~= store.owner
      and not store.owners:alive(row.id) then
      local outcomes, ids, from = store:run {
        { sql.CRASHED, CRASHES_MAX, row.id, store:place(), time.now(), n = 4 },
        { "DELETE FROM owner WHERE id = ?", row.id, n = 1 },
      }
      if not outcomes then
        return nil, ids
      end
      local crashed = outcomes[from + 1]
      if type(crashed) == "table" then
        count = count + #crashed
        tell_crashed(store, crashed)
      end
    end
  end
  return count
end

-- ---- taking ----

local function taken(self, rows, list)
  if type(rows) ~= "table" then
    return
  end
  for i = 1, #rows do
    list[#list + 1] = records.taken(self.queue, rows[i])
  end
end

local function by_place(a, b)
  if a.prio ~= b.prio then
    return a.prio < b.prio
  end
  return a.pos < b.pos
end

local function claim(self, text, n)
  local store = self.store
  return { text, store.owner, time.now(), self.queue_id, n,
    math.floor(store:now()), n = 5 }
end

-- What may be taken in one go; groups and others take turns in being first.
-- The last value: there was no room to look for jobs without a group.
local function statements(self, n)
  local list, claims = {}, {}
  local now = self.store:now()
  local view = self.view
  local rated = view and (view.rate_max or self.look) -- it may be new
  local function add(text, wanted)
    list[#list + 1] = claim(self, text, wanted)
    claims[#claims + 1] = #list
    if rated then
      list[#list + 1] = { sql.COUNT_RATE, self.queue_id, math.floor(now),
        n = 2 }
    end
  end
  local promotes = view and view.due and view.due <= now * 1000
  if promotes then
    list[1] = { sql.PROMOTE, self.queue_id, math.floor(now * 1000), n = 2 }
    self.look = true
  end
  if view and view.suspects == 1 then
    add(sql.CLAIM_SUSPECT, 1)
  end
  -- What is promoted may be a group's.
  local grouped = view and (promotes or view.grouped == 1)
  local share = grouped and self.turn and math.ceil(n / 2) or 0
  self.turn = not self.turn
  for _ = 1, share do
    add(sql.CLAIM_GROUP, 1)
  end
  if n - share > 0 then
    add(sql.CLAIM, n - share)
  end
  for _ = 1, grouped and n - share or 0 do
    add(sql.CLAIM_GROUP, 1)
  end
  return list, claims, n == share
end

-- More than n may come of one go with groups: they are put back.
local function keep(self, list, n)
  while #list > n do
    local extra = table.remove(list)
    self.store:exec(sql.RELEASE, extra.seq, extra.token)
  end
  return list
end

local function attempt(self, n)
  local list, claims, one_sided = statements(self, n)
  local outcomes, ids, from = self.store:run(list)
  if not outcomes then
    return nil, ids
  end
  local jobs = {}
  for _, at in ipairs(claims) do
    taken(self, outcomes[from + at], jobs)
  end
  if #jobs == 0 and one_sided then
    return attempt(self, n) -- now the others come first
  elseif #jobs > 1 then
    table.sort(jobs, by_place)
  end
  return keep(self, jobs, n)
end

local function look(self)
  self.look = false
  self.looked = time.monotonic()
  local view, err = self.store.db:one(sql.OUTLOOK, self.queue_id)
  if not view then
    return nil, err or errors.new("unavailable", "queue %s was removed",
      self.queue)
  end
  self.view = view
  return true
end

-- How long until there may be something that nobody rings for.
local function patience(self)
  local view, now = self.view, self.store:now()
  local ms = self.idle_ms
  if view.due then
    ms = math.min(ms, view.due / 1000 - now)
  end
  if view.rate_max and view.window_count >= view.rate_max then
    ms = math.min(ms, view.window_start + view.rate_ms - now)
  end
  if view.group_rate_ms and view.grouped == 1 then
    ms = math.min(ms, math.max(view.group_rate_ms / 10, 5))
  end
  return math.max(ms, 1)
end

local function prepare(self)
  if self.queue_id then
    return true
  end
  local id, err = self.store:queue(self.queue)
  if not id then
    return nil, err
  end
  local ok
  ok, err = self.store.registering:with(register, self.store, self.name)
  if not ok then
    return nil, err
  end
  self.queue_id = id
  table.insert(self.store.consumers, self)
  if not self.store.recovered then
    self.store.recovered = true
    ok, err = M.recover(self.store)
    if not ok then
      return nil, err
    end
  end
  return true
end

-- Waits for a ring, unless it is known already that there is something.
local function rest(self, n, due_before)
  local due = self.view.due
  if due and due <= self.store:now() * 1000 and due ~= due_before then
    return
  end
  self.wanted = n
  self.signal:wait(patience(self))
  self.wanted = 0
end

local function started(self, jobs)
  for i = 1, #jobs do
    self.running[jobs[i].seq] = jobs[i]
  end
  events.started(self.store, self.queue_id, jobs)
  return jobs
end

-- Whoever was rung for takes first and looks then, so that a job waits for one
-- thing less. What that could not find, a group's say, is found by the look.
function Consumer:take(n)
  local ok, err = prepare(self)
  if not ok then
    return nil, err
  end
  local rung = false
  while not self.closed do
    if not rung and (self.look
      or time.monotonic() - self.looked > LOOK_EVERY_MS) then
      ok, err = look(self)
      if not ok then
        return nil, err
      end
    end
    local due_before, unseen = self.view.due, self.look
    local jobs
    jobs, err = attempt(self, n)
    if not jobs then
      return nil, err
    elseif #jobs > 0 then
      return started(self, jobs)
    end
    rung = false
    if not self.closed and not unseen then
      ok, err = look(self)
      if not ok then
        return nil, err
      end
      rest(self, n, due_before)
      rung = self.look
    end
  end
  return nil
end

-- ---- ending ----

local function lost(job)
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

-- What there is to say when a job has ended.
local function tell_ended(self, job, event)
  local store, queue_id = self.store, self.queue_id
  events.tell(store, queue_id, event)
  if job.parent then
    store:notify_all()
    tell_parents(store, job.parent, job.place)
  end
  if not events.wanted(store, queue_id) then
    return
  end
  if event.event == "failed"
    and job.attempts + 1 >= (job.opts.attempts or 1) then
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

function Consumer:complete(job, result)
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
    return nil, err or lost(job)
  end
  self.store:count(self.queue_id, "completed")
  tell_ended(self, job, { event = "completed", id = job.id, result = result })
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
    return nil, err or lost(job)
  end
  self.store:count(self.queue_id, "failed")
  tell_ended(self, job,
    { event = "failed", id = job.id, failure = failure.message })
  return true
end

function Consumer:fail(job, failure, retry_in)
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
    return nil, err or lost(job)
  end
  self.store:notify(self.queue_id, retry_in == 0 and 1 or nil)
  events.tell(self.store, self.queue_id,
    { event = retry_in > 0 and "delayed" or "waiting", id = job.id })
  return true
end

function Consumer:release(job)
  self.running[job.seq] = nil
  local outcomes, ids, from = self.store:run {
    { sql.RELEASE, job.seq, job.token, n = 2 },
  }
  if not outcomes then
    return nil, ids
  end
  if outcomes[from + 1] ~= 1 then
    return nil, lost(job)
  end
  self.store:notify(self.queue_id, 1)
  return true
end

function Consumer:heartbeat(job)
  local row, err = self.store.db:one(sql.HELD, job.seq, job.token)
  if err then
    return nil, err
  elseif not row then
    return nil, lost(job)
  end
  return true
end

function Consumer:close()
  self.closed = true
  if self.off then
    self.off()
  end
  for i, other in ipairs(self.store.consumers) do
    if other == self then
      table.remove(self.store.consumers, i)
      break
    end
  end
  self.signal:set()
end

---@return perigee.queue.Consumer
function M.open(store, queue, options, settings)
  local self = setmetatable({
    store = store, queue = queue, name = options.name, wanted = 0,
    look = true, looked = 0, signal = core_queue.signal(),
    idle_ms = settings.idle_timeout or 5000, running = {},
  }, Consumer)
  self.off = options.on_cancel and events.cancels(store, function(told)
    local job = self.running[told.seq]
    if job and job.token == told.started then
      options.on_cancel(job, told.reason)
    end
  end)
  return self
end

return M
