--- The embedded driver, continued: jobs that come again and again.
---
--- Every worker knows when the next one is due. All of them try then, and the
--- first to move the schedule on adds the job in the same transaction, so there
--- is nobody to be elected.

local core_queue = require "perigee.core.queue"
local cron = require "perigee.queue.cron"
local errors = require "perigee.error"
local json = require "perigee.json"
local log = require "perigee.log"
local sql = require "perigee.queue.embedded.sql"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

---@type perigee.queue.embedded.Driver
local Driver = {}
M.methods = Driver

local LATE_MS = 2000 -- what is later than this was missed
local IDLE_MS = 10000
local SET_MS = 1000 -- by how much a clock differs that somebody has set

-- Intervals go by the host's own clock, which nobody sets; patterns by the one
-- on the wall.
local function now_of(store, spec)
  return spec.every and math.floor(store:now()) or time.now()
end

-- The first time after `after` (Unix ms), or nil.
local function following(spec, after)
  local next_ms
  if spec.cron then
    next_ms = cron.parse(spec.cron, spec.tz):next(after)
  else
    next_ms = after + spec.every
  end
  if next_ms and spec.finish and next_ms > spec.finish then
    return nil
  end
  return next_ms
end

local function first(spec, now)
  local start = math.max(spec.start or 0, now)
  if spec.finish and start > spec.finish then
    return nil
  elseif spec.immediately or spec.every then
    return start
  end
  return following(spec, start - 1)
end

-- The text of a table has its fields in any order.
local function is_same(old, spec)
  for key, value in pairs(old) do
    if spec[key] ~= value then
      return false
    end
  end
  for key in pairs(spec) do
    if old[key] == nil then
      return false
    end
  end
  return true
end

-- After the iteration that was due at `due`.
local function after(spec, due, now, iterations)
  if spec.limit and iterations >= spec.limit then
    return nil
  end
  if spec.catch_up == "all" then
    return following(spec, due)
  end
  if spec.every then
    local missed = math.max(0, math.floor((now - due) / spec.every))
    return following(spec, due + missed * spec.every)
  end
  return following(spec, math.max(due, now))
end

-- Inside of a transaction, as all workers put the schedules of their code: what
-- one has put, and fired perhaps, the next leaves as it is.
local function put(store, tx, queue_id, id, spec, entry)
  local old = tx:one("SELECT spec, next, iterations FROM schedule "
    .. "WHERE queue = ? AND id = ?", queue_id, id)
  local next_ms
  local iterations = 0
  if old and is_same(json.decode(old.spec), spec) then
    next_ms, iterations = old.next, old.iterations
  else
    next_ms = first(spec, now_of(store, spec))
    if not next_ms then
      return nil, errors.new("invalid", "the schedule has no time to come")
    end
  end
  local ok, err = tx:exec("INSERT OR REPLACE INTO schedule(queue, id, spec, "
    .. "name, data, opts, next, iterations) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    queue_id, id, json.encode(spec), entry.name, entry.data,
    next(entry.opts) and json.encode(entry.opts) or nil, next_ms, iterations)
  return ok and { next = next_ms }, err
end

function Driver:schedule(queue, id, spec, entry)
  local store = self.store
  local queue_id, err = store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local scheduled
  scheduled, err = store.db:transaction(function(tx)
    return put(store, tx, queue_id, id, spec, entry)
  end)
  if not scheduled then
    return nil, err
  end
  store:notify_all()
  return scheduled
end

-- The id of a schedule's last job, if it has not begun yet.
local function pending(store, queue_id, id)
  local row, err = store.db:one(sql.LAST_OF_SCHEDULE, queue_id, id)
  if not row then
    return nil, err
  end
  return row.begun == 0 and row.cid or nil
end

function Driver:unschedule(queue, id)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local removed
  removed, err = self.store:exec(
    "DELETE FROM schedule WHERE queue = ? AND id = ?", queue_id, id)
  if not removed then
    return nil, err
  end
  local job = removed == 1 and pending(self.store, queue_id, id)
  if job then
    self:remove(queue, job) -- unless it has just begun
  end
  return removed == 1
end

function Driver:schedules(queue)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local rows
  rows, err = self.store.db:query("SELECT id, spec, next, iterations "
    .. "FROM schedule WHERE queue = ? ORDER BY next, id", queue_id)
  if not rows then
    return nil, err
  end
  local list = {}
  for i, row in ipairs(rows) do
    local spec = json.decode(row.spec)
    spec.id, spec.next, spec.iterations = row.id, row.next, row.iterations
    list[i] = spec
  end
  return list
end

-- Its time is let pass: it is over, or the job before has not begun, which does
-- for this time too. They would pile up in a queue that is paused.
local function is_skipped(store, row, spec, now)
  if spec.catch_up == "all" then
    return false
  elseif spec.catch_up == "none" and now - row.next > LATE_MS then
    return true
  end
  local job, err = pending(store, row.queue, row.id)
  if err then
    return nil, err
  end
  return job ~= nil
end

local function fire(store, row, spec, now)
  local skip, failed = is_skipped(store, row, spec, now)
  if skip == nil then
    return nil, failed
  end
  local iterations = row.iterations + (skip and 0 or 1)
  local move = { "UPDATE schedule SET next = ?, iterations = ? "
    .. "WHERE queue = ? AND id = ? AND next = ?",
    after(spec, row.next, now, iterations), iterations, row.queue, row.id,
    row.next, n = 5 }
  if skip then
    return store:run { move }
  end
  local opts = row.opts and json.decode(row.opts) or {}
  local statements = { move }
  local delay, pos = opts.delay or 0, store:place()
  local state = delay > 0 and sql.DELAYED or opts.group and sql.GROUPED
    or sql.WAITING
  if opts.group then
    statements = { { sql.TENANT, row.queue, opts.group, n = 2 }, move }
  end
  local seq, why = store:number()
  if not seq then
    return nil, why
  end
  statements[#statements + 1] = { sql.INSERT_IF, seq, row.queue, state,
    delay > 0 and 0 or opts.priority or 0, pos + delay * 1000,
    opts.priority or 0, delay, time.now(), opts.group, row.name, row.opts,
    row.data, ("repeat:%s:%d"):format(row.id, row.next), row.id, n = 14 }
  local outcomes, err = store:run(statements)
  if not outcomes then
    return nil, err
  end
  store:notify(row.queue)
  return true
end

-- When it is next by a clock that has been set back: nil, as it was. What is at
-- certain hours has had its turn.
local function earlier(store, row)
  local spec = json.decode(row.spec)
  local now, next_ms = now_of(store, spec), nil
  if spec.start and spec.start > now then
    return nil
  elseif spec.every then
    next_ms = now + spec.every
  elseif cron.parse(spec.cron, spec.tz).hour.any then
    next_ms = following(spec, now)
  end
  return next_ms and next_ms < row.next and next_ms or nil
end

-- At the start, and whenever somebody has set the clock.
local function follow_clock(store)
  local drift = time.now() - store:now()
  if store.drift and math.abs(drift - store.drift) < SET_MS then
    return true
  end
  local rows, err = store.db:query(
    "SELECT queue, id, spec, next FROM schedule WHERE next IS NOT NULL")
  if not rows then
    return nil, err
  end
  for _, row in ipairs(rows) do
    local next_ms = earlier(store, row)
    if next_ms then
      local ok
      ok, err = store:exec("UPDATE schedule SET next = ? WHERE queue = ? "
        .. "AND id = ? AND next = ?", next_ms, row.queue, row.id, row.next)
      if not ok then
        return nil, err
      end
    end
  end
  store.drift = drift
  return true
end

-- What is due; gives how long until there is more.
local function turn(store)
  local ok, err = follow_clock(store)
  local rows
  if ok then
    rows, err = store.db:query("SELECT * FROM schedule "
      .. "WHERE next IS NOT NULL ORDER BY next LIMIT 100")
  end
  if not rows then
    return nil, err
  end
  local pause, fired = IDLE_MS, false
  local soon = math.max(time.now(), store:now()) + IDLE_MS
  for _, row in ipairs(rows) do
    if row.next > soon then
      break
    end
    local spec = json.decode(row.spec)
    local now = now_of(store, spec)
    if row.next > now then
      pause = math.min(pause, row.next - now)
    else
      fired = true
      ok, err = fire(store, row, spec, now)
      if not ok then
        return nil, err
      end
    end
  end
  return fired and 0 or pause
end

--- Adds the jobs that are due for as long as the driver is open.
function Driver:run_schedules()
  local store = self.store
  local ear = { signal = core_queue.signal(), wanted = 0 }
  table.insert(store.consumers, ear)
  task.spawn_detached(function()
    local ok, err = store:ready()
    while not store.closed do
      local pause
      if ok then
        pause, err = turn(store)
      else
        ok = store:ready()
      end
      if not pause then
        log.error("schedules could not be looked at", { err = err })
      end
      if pause ~= 0 then
        ear.signal:wait(pause or 1000)
      end
    end
  end)
end

return M
