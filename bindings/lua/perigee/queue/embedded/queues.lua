--- The embedded driver, continued: what is done with whole queues.

local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local records = require "perigee.queue.embedded.records"
local sql = require "perigee.queue.embedded.sql"
local single = require "perigee.queue.embedded.jobs"
local time = require "perigee.time"

local M = {}

---@type perigee.queue.embedded.Driver
local Driver = {}
M.methods = Driver

local function exec(self, queue, text, ...)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local values, count = { ... }, select("#", ...)
  values[count + 1] = queue_id
  local outcome
  outcome, err = self.store:exec(text, unpack(values, 1, count + 1))
  if outcome == nil then
    return nil, err
  end
  return queue_id, outcome
end

-- In the order of the index: nothing is sorted.
local COUNTS = [[SELECT state, prio, count(*) AS jobs
  FROM job WHERE queue = ? GROUP BY state, prio]]

local NAMES = {
  [0] = "waiting", "active", "delayed", "completed", "failed",
  "waiting_children", "waiting", "waiting",
}

function Driver:counts(queue)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local rows
  rows, err = self.store.db:query(COUNTS, queue_id)
  if not rows then
    return nil, err
  end
  local counts = { waiting = 0, active = 0, delayed = 0, prioritized = 0,
    completed = 0, failed = 0, paused = 0, waiting_children = 0 }
  for _, row in ipairs(rows) do
    local name = NAMES[row.state]
    if row.state == 0 and row.prio > 0 then
      name = "prioritized"
    end
    counts[name] = counts[name] + row.jobs
  end
  local paused
  paused, err = self:is_paused(queue)
  if paused == nil then
    return nil, err
  elseif paused then
    counts.paused, counts.waiting = counts.waiting, 0
  end
  return counts
end

local WHERE = {
  waiting = "(job.state = 0 AND job.prio = 0 OR job.state IN (6, 7)) "
    .. "AND NOT queue.paused",
  paused = "(job.state = 0 AND job.prio = 0 OR job.state IN (6, 7)) "
    .. "AND queue.paused",
  prioritized = "job.state = 0 AND job.prio > 0",
  active = "job.state = 1", delayed = "job.state = 2",
  completed = "job.state = 3", failed = "job.state = 4",
  waiting_children = "job.state = 5",
}

-- Without groups and suspects the index has the order already.
local PLAIN = {
  waiting = "job.state = 0 AND job.prio = 0 AND NOT queue.paused",
  paused = "job.state = 0 AND job.prio = 0 AND queue.paused",
}

local function condition(self, queue_id, state)
  if not PLAIN[state] then
    return WHERE[state]
  end
  local row, err = self.store.db:one("SELECT EXISTS (SELECT 1 FROM job "
    .. "WHERE queue = ?1 AND state = 6) OR EXISTS (SELECT 1 FROM job "
    .. "WHERE queue = ?1 AND state = 7) AS others", queue_id)
  if not row then
    return nil, err
  end
  return (row.others == 1 and WHERE or PLAIN)[state]
end

function Driver:jobs(queue, state, from, to, ascending)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local where
  where, err = condition(self, queue_id, state)
  if not where then
    return nil, err
  end
  local way = ascending and "" or " DESC"
  local rows
  rows, err = self.store.db:query(single.COLUMNS .. "WHERE job.queue = ? AND "
    .. where .. " ORDER BY job.prio" .. way .. ", job.pos" .. way
    .. " LIMIT ? OFFSET ?", queue_id, to < 0 and -1
      or math.max(0, to - from + 1), from)
  if not rows then
    return nil, err
  end
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = records.of(row)
  end
  return list
end

function Driver:pause(queue)
  local queue_id, err = exec(self, queue,
    "UPDATE queue SET paused = 1, hidden = 0 WHERE id = ?")
  if not queue_id then
    return nil, err
  end
  self.store:notify(queue_id)
  events.tell(self.store, queue_id, { event = "paused" })
  return true
end

function Driver:resume(queue)
  local queue_id, err = exec(self, queue,
    "UPDATE queue SET paused = 0 WHERE id = ?")
  if not queue_id then
    return nil, err
  end
  self.store:notify(queue_id)
  events.tell(self.store, queue_id, { event = "resumed" })
  return true
end

function Driver:is_paused(queue)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local row
  row, err = self.store.db:one("SELECT paused FROM queue WHERE id = ?",
    queue_id)
  if err then
    return nil, err
  end
  return row ~= nil and row.paused == 1
end

-- The first statement of a removal may have a parent wait in place of the
-- children that go: the second takes what the first has seen, and no more.
local SEEN = " AND (extras = 0 OR gone IS NOT NULL)"

-- Both statements of a removal; the outcome of the second, and how many jobs went
-- that have had something to do with others. where: $SEEN stands for the above.
local function remove(self, queue, where, returning, ...)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local mark = sql.removal((where:gsub("%$SEEN", "")))[1]
  local take = sql.removal((where:gsub("%$SEEN", SEEN)))[2]
  local list = {}
  for i, text in ipairs { mark, take .. returning } do
    list[i] = { text, queue_id, ... }
    list[i].n = 1 + select("#", ...)
  end
  local outcomes, why, from = self.store:run(list)
  if not outcomes then
    return nil, why
  end
  self.store:notify_all() -- parents may have waited for them
  return queue_id, outcomes[from + 2], outcomes[from + 1]
end

-- A parent that has nothing left to wait for, and waits in this queue, goes, too.
function Driver:drain(queue, delayed)
  local where = "state IN (" .. (delayed and "0, 2, 6, 7" or "0, 6, 7")
    .. ") AND queue = ?1$SEEN"
  local total = 0
  repeat
    local queue_id, removed, tied = remove(self, queue, where, "")
    if not queue_id then
      return nil, removed
    end
    total = total + removed
  until tied == 0
  return total
end

local CLEAN = {
  completed = "state = 3 AND prio = 0 AND pos <= ?2",
  failed = "state = 4 AND prio = 0 AND pos <= ?2",
  waiting = "(state = 0 AND prio = 0 OR state IN (6, 7)) AND ts <= ?2 "
    .. "AND NOT (SELECT paused FROM queue WHERE id = ?1)",
  paused = "(state = 0 AND prio = 0 OR state IN (6, 7)) AND ts <= ?2 "
    .. "AND (SELECT paused FROM queue WHERE id = ?1)",
  prioritized = "state = 0 AND prio > 0 AND ts <= ?2",
  delayed = "state = 2 AND ts <= ?2",
  waiting_children = "state = 5 AND ts <= ?2",
}

function Driver:clean(queue, grace, limit, state)
  local where = CLEAN[state]
  if not where then
    return {} -- active: none is without an owner
  end
  local before = time.now() - grace
  if state == "completed" or state == "failed" then
    before = math.floor((self.store:now() - grace) * 1000)
  end
  local queue_id, rows = remove(self, queue, "seq IN (SELECT seq FROM job "
    .. "WHERE queue = ?1 AND " .. where
    .. "$SEEN ORDER BY prio, pos LIMIT ?3)", " RETURNING seq, cid",
    before, limit > 0 and limit or -1)
  if not queue_id then
    return nil, rows
  end
  local ids = {}
  if type(rows) == "table" then
    for i, row in ipairs(records.rows(rows, { "seq", "cid" })) do
      ids[i] = records.id(row)
    end
  end
  return ids
end

function Driver:obliterate(queue, force)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local ok
  ok, err = self.store.db:transaction(function(tx)
    local row = tx:one("SELECT paused, (SELECT count(*) FROM job "
      .. "WHERE queue = ?1 AND state = 1) AS active FROM queue WHERE id = ?1",
      queue_id)
    if not row or row.paused == 0 then
      return nil, errors.new("conflict", "queue %s is not paused", queue)
    elseif row.active > 0 and not force then
      return nil, errors.new("conflict", "queue %s has %d jobs that run",
        queue, row.active)
    end
    for _, text in ipairs {
      "UPDATE job SET gone = 1 WHERE queue = ? AND extras <> 0",
      "DELETE FROM job WHERE queue = ?", "DELETE FROM dedup WHERE queue = ?",
      "DELETE FROM tenant WHERE queue = ?",
      "DELETE FROM schedule WHERE queue = ?",
      "UPDATE queue SET hidden = 1, paused = 0, concurrency = NULL, "
        .. "rate_max = NULL, group_concurrency = NULL, "
        .. "group_rate_max = NULL, completed = 0, failed = 0 WHERE id = ?",
    } do
      local done, why = tx:exec(text, queue_id)
      if not done then
        return nil, why
      end
    end
    return true
  end)
  if ok then
    self.store:notify(queue_id)
  end
  return ok, err
end

function Driver:limit(queue, limit)
  local rate, group = limit.rate or {}, limit.group or {}
  local group_rate = group.rate or {}
  local queue_id, err = exec(self, queue, "UPDATE queue SET concurrency = ?, "
    .. "rate_max = ?, rate_ms = ?, group_concurrency = ?, "
    .. "group_rate_max = ?, group_rate_ms = ?, hidden = 0 WHERE id = ?",
    limit.concurrency, rate.max, rate.duration, group.concurrency,
    group_rate.max, group_rate.duration)
  if not queue_id then
    return nil, err
  end
  self.store:notify(queue_id)
  return true
end

function Driver:queues()
  local ok, err = self.store:ready()
  if not ok then
    return nil, err
  end
  local rows
  rows, err = self.store.db:query("SELECT name FROM queue WHERE NOT hidden "
    .. "OR completed + failed > 0 "
    .. "OR EXISTS (SELECT 1 FROM job WHERE job.queue = queue.id) "
    .. "OR EXISTS (SELECT 1 FROM schedule WHERE schedule.queue = queue.id) "
    .. "ORDER BY name")
  if not rows then
    return nil, err
  end
  local names = {}
  for i, row in ipairs(rows) do
    names[i] = row.name
  end
  return names
end

function Driver:stats(queue)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local row
  row, err = self.store.db:one(
    "SELECT completed, failed FROM queue WHERE id = ?", queue_id)
  if not row then
    return nil, err
  end
  local pending = self.store.ended[queue_id]
  if pending then
    row.completed = row.completed + pending.completed
    row.failed = row.failed + pending.failed
  end
  return row
end

return M
