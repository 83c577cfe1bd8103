--- The embedded driver, continued: jobs that come again and again.
---
--- Every worker knows when the next one is due. All of them try then, and the
--- first to move the schedule on adds the job in the same transaction, so there
--- is nobody to be elected.

local core_queue = require "perigee.core.queue"
local cron = require "perigee.queue.cron"
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
local IDLE_MS = 60000

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
  if spec.immediately or spec.every then
    return start
  end
  return following(spec, start - 1)
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

function Driver:schedule(queue, id, spec, entry)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local text = json.encode(spec)
  local old
  old, err = self.store.db:one("SELECT spec, next FROM schedule "
    .. "WHERE queue = ? AND id = ?", queue_id, id)
  if err then
    return nil, err
  end
  local next_ms = old and old.next
  local same = old and json.encode(json.decode(old.spec)) == text
  if not same then
    next_ms = first(spec, time.now())
  end
  local ok
  ok, err = self.store:exec("INSERT INTO schedule(queue, id, spec, name, "
    .. "data, opts, next) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
    .. "ON CONFLICT(queue, id) DO UPDATE SET spec = ?3, name = ?4, "
    .. "data = ?5, opts = ?6, next = ?7", queue_id, id, text, entry.name,
    entry.data, next(entry.opts) and json.encode(entry.opts) or nil, next_ms)
  if not ok then
    return nil, err
  end
  self.store:notify_all()
  return { next = next_ms }
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

local function fire(store, row, now)
  local spec = json.decode(row.spec)
  local skip = spec.catch_up == "none" and now - row.next > LATE_MS
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
    opts.priority or 0, delay, now, opts.group, row.name, row.opts, row.data,
    ("repeat:%s:%d"):format(row.id, row.next), row.id, n = 14 }
  local outcomes, err = store:run(statements)
  if not outcomes then
    return nil, err
  end
  store:notify(row.queue)
  return true
end

-- What is due; gives how long until there is more.
local function turn(store)
  local rows, err = store.db:query("SELECT * FROM schedule "
    .. "WHERE next IS NOT NULL ORDER BY next LIMIT 100")
  if not rows then
    return nil, err
  end
  local now = time.now()
  for _, row in ipairs(rows) do
    if row.next > now then
      return math.min(row.next - now, IDLE_MS)
    end
    local ok
    ok, err = fire(store, row, now)
    if not ok then
      return nil, err
    end
  end
  return #rows == 0 and IDLE_MS or 0
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
