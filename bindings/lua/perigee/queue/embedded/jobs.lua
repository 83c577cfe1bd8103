--- The embedded driver, continued: what is done with single jobs.

local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local records = require "perigee.queue.embedded.records"
local sql = require "perigee.queue.embedded.sql"

local M = {}

---@type perigee.queue.embedded.Driver
local Driver = {}
M.methods = Driver

-- ---- reading ----

local COLUMNS = "SELECT job.*, queue.name AS queue_name, queue.paused, "
  .. "(SELECT name FROM owner WHERE id = job.owner) AS worker, "
  .. "(SELECT coalesce(p.cid, p.seq) FROM job p WHERE p.seq = job.parent) "
  .. "AS parent_id, (SELECT q.name FROM job p JOIN queue q ON q.id = p.queue "
  .. "WHERE p.seq = job.parent) AS parent_queue "
  .. "FROM job JOIN queue ON queue.id = job.queue "

M.COLUMNS = COLUMNS

-- " WHERE ..." and what is bound to it.
local function by_id(id)
  if id:find "^%d+$" then
    return "job.queue = ? AND job.seq = ?", tonumber(id)
  end
  return "job.queue = ? AND job.cid = ?", id
end

local function not_found(queue, id)
  return errors.new("not_found", "no job %s in queue %s", id, queue)
end

function Driver:job(queue, id)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local where, key = by_id(id)
  local row
  row, err = self.store.db:one(COLUMNS .. "WHERE " .. where, queue_id, key)
  return row and records.of(row), err
end

-- Why nothing was changed.
local function refused(self, queue, id, why)
  local record, err = self:job(queue, id)
  if err then
    return err
  elseif not record then
    return not_found(queue, id)
  end
  return errors.new("conflict", "job %s of queue %s is %s: %s", id, queue,
    record.state, why)
end

-- An UPDATE of one job; what says why it changed nothing.
local function change(self, queue, id, text, why, ...)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local where, key = by_id(id)
  local values = { ... }
  local count = select("#", ...)
  values[count + 1], values[count + 2] = queue_id, key
  local changed
  changed, err = self.store:exec(text:gsub("%$WHERE",
    (where:gsub("job%.", "")), 1), unpack(values, 1, count + 2))
  if not changed then
    return nil, err
  elseif changed == 0 then
    return nil, refused(self, queue, id, why)
  end
  return queue_id
end

function Driver:progress(queue, id, progress)
  local queue_id, err = change(self, queue, id,
    "UPDATE job SET progress = ? WHERE $WHERE", "", progress)
  if not queue_id then
    return nil, err
  end
  events.tell(self.store, queue_id,
    { event = "progress", id = id, progress = progress })
  return true
end

function Driver:update(queue, id, data)
  local queue_id, err = change(self, queue, id,
    "UPDATE job SET data = ? WHERE $WHERE", "", data)
  return queue_id and true, err
end

function Driver:retry(queue, id)
  local queue_id, err = change(self, queue, id, "UPDATE job SET "
    .. "state = CASE WHEN grp IS NULL THEN 0 ELSE 7 END, prio = priority, "
    .. "pos = ?, finished_on = NULL, processed_on = NULL, failure = NULL, "
    .. "result = NULL, stack = NULL, crashed = 0, ended = NULL "
    .. "WHERE $WHERE AND state IN (3, 4)",
    "only failed and completed ones are retried", self.store:place())
  if not queue_id then
    return nil, err
  end
  self.store:notify(queue_id)
  events.tell(self.store, queue_id, { event = "waiting", id = id })
  return true
end

function Driver:promote(queue, id)
  local queue_id, err = change(self, queue, id, "UPDATE job SET "
    .. "state = CASE WHEN grp IS NULL THEN 0 ELSE 7 END, prio = priority, "
    .. "pos = ?, delay = 0 WHERE $WHERE AND state = 2",
    "only delayed ones are promoted", self.store:place())
  if not queue_id then
    return nil, err
  end
  self.store:notify(queue_id)
  events.tell(self.store, queue_id,
    { event = "waiting", id = id, prev = "delayed" })
  return true
end

function Driver:remove(queue, id)
  local store = self.store
  local queue_id, err = store:queue(queue)
  if not queue_id then
    return nil, err
  end
  local where, key = by_id(id)
  local list = {}
  for i, text in ipairs(sql.REMOVE_FAMILY) do
    list[i] = { text:gsub("%$WHERE", where), queue_id, key, n = 2 }
  end
  local outcomes, ids, from = store:run(list)
  if not outcomes then
    return nil, ids
  end
  local removed = outcomes[from + 2]
  if type(removed) ~= "table" or removed[1] == nil then
    return nil, refused(self, queue, id, "it runs, or a child of it does")
  end
  for _, row in ipairs(records.rows(removed, sql.REMOVED_COLUMNS)) do
    events.tell(store, row.queue, { event = "removed", id = records.id(row) })
  end
  store:notify_all() -- a parent may have waited for it
  return true
end

function Driver:cancel(queue, id, reason)
  local record, err = self:job(queue, id)
  if not record then
    return nil, err or not_found(queue, id)
  elseif record.state ~= "active" then
    return nil, errors.new("conflict", "job %s of queue %s is %s: "
      .. "only those that run are cancelled", id, queue, record.state)
  end
  events.cancel(self.store, { seq = record.seq, started = record.started,
    reason = reason })
  return true
end

function Driver:change_priority(queue, id, priority)
  local queue_id, err = change(self, queue, id, "UPDATE job SET "
    .. "priority = ?1, prio = CASE WHEN state IN (0, 6, 7) THEN ?1 "
    .. "ELSE prio END, opts = json_set(coalesce(opts, '{}'), "
    .. "'$.priority', ?1) WHERE $WHERE", "", priority)
  return queue_id and true, err
end

function Driver:change_delay(queue, id, delay)
  local due = math.floor((self.store:now() + delay) * 1000)
  local queue_id, err = change(self, queue, id,
    "UPDATE job SET pos = ?, delay = ? WHERE $WHERE AND state = 2",
    "only delayed ones have a delay", due, delay)
  if not queue_id then
    return nil, err
  end
  self.store:notify(queue_id)
  return true
end

-- ---- logs and steps ----

local function seq_of(self, queue, id)
  local record, err = self:job(queue, id)
  if not record then
    return nil, err or not_found(queue, id)
  end
  return record.seq
end

function Driver:logs(queue, id)
  local seq, err = seq_of(self, queue, id)
  if not seq then
    return nil, err
  end
  local rows
  rows, err = self.store.db:query(
    "SELECT line FROM log WHERE job = ? ORDER BY n", seq)
  if not rows then
    return nil, err
  end
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = row.line
  end
  return lines
end

function Driver:log(queue, id, line, keep)
  local seq, err = seq_of(self, queue, id)
  if not seq then
    return nil, err
  end
  local list = {
    { "INSERT INTO log(job, line) VALUES (?, ?)", seq, line, n = 2 },
    { "UPDATE job SET extras = 1 WHERE seq = ? AND extras = 0", seq, n = 1 },
    { "DELETE FROM log WHERE n IN (SELECT n FROM log WHERE job = ? "
      .. "ORDER BY n DESC LIMIT -1 OFFSET ?)", seq, keep or 1000, n = 2 },
    { "SELECT count(*) AS lines FROM log WHERE job = ?", seq, n = 1 },
  }
  local outcomes, ids, from = self.store:run(list)
  if not outcomes then
    return nil, ids
  end
  return outcomes[from + 4][1]
end

function Driver:recall(queue, id, key)
  local seq, err = seq_of(self, queue, id)
  if not seq then
    return nil, err
  end
  local row
  row, err = self.store.db:one(
    "SELECT value FROM step WHERE job = ? AND key = ?", seq, key)
  return row and row.value, err
end

function Driver:remember(queue, id, key, value)
  local seq, err = seq_of(self, queue, id)
  if not seq then
    return nil, err
  end
  local outcomes
  outcomes, err = self.store:run {
    { "INSERT OR REPLACE INTO step(job, key, value) VALUES (?, ?, ?)", seq,
      key, value, n = 3 },
    { "UPDATE job SET extras = 1 WHERE seq = ? AND extras = 0", seq, n = 1 },
  }
  return outcomes and true, not outcomes and err or nil
end

function Driver:children(queue, id)
  local seq, err = seq_of(self, queue, id)
  if not seq then
    return nil, err
  end
  local rows, row
  rows, err = self.store.db:query(
    "SELECT key, result, failure FROM child WHERE parent = ?", seq)
  if not rows then
    return nil, err
  end
  row, err = self.store.db:one("SELECT pending FROM job WHERE seq = ?", seq)
  if err then
    return nil, err
  end
  local values, failed = {}, {}
  for _, child in ipairs(rows) do
    values[child.key] = child.result
    failed[child.key] = child.failure
  end
  return { values = values, failed = failed, pending = row and row.pending
    or 0 }
end

return M
