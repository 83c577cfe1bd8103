--- Rows of the store as records of the driver's interface.

local json = require "perigee.json"
local sql = require "perigee.queue.embedded.sql"

local M = {}

local NAMES = {
  [sql.ACTIVE] = "active", [sql.DELAYED] = "delayed",
  [sql.COMPLETED] = "completed", [sql.FAILED] = "failed",
  [sql.CHILDREN] = "waiting_children",
}

-- The same few options come again and again. Shared, so read-only.
local known, known_count = {}, 0
local NONE = {}

--- Options from their text.
function M.opts(text)
  if not text then
    return NONE
  end
  local opts = known[text]
  if not opts then
    opts = json.decode(text)
    if known_count >= 1000 then
      known, known_count = {}, 0
    end
    known[text] = opts
    known_count = known_count + 1
  end
  return opts
end

--- A job's id.
function M.id(row)
  return row.cid or ("%d"):format(row.seq)
end

--- A job that was just taken: the row becomes the record.
function M.taken(queue, row)
  row.id = row.cid or ("%d"):format(row.seq)
  row.queue = queue
  row.opts = M.opts(row.opts)
  row.token = row.started
  return row
end

--- A job as it is; row has its queue's name and whether that is paused.
function M.of(row)
  local state = NAMES[row.state]
  if not state then
    state = row.state == sql.WAITING and row.prio > 0 and "prioritized"
      or row.paused == 1 and "paused" or "waiting"
  end
  return {
    id = M.id(row), seq = row.seq, queue = row.queue_name, name = row.name,
    data = row.data, opts = M.opts(row.opts), state = state,
    timestamp = row.ts, delay = row.delay, priority = row.priority,
    attempts = row.attempts, started = row.started, crashed = row.crashed,
    processed_on = row.processed_on, finished_on = row.finished_on,
    progress = row.progress, result = row.result, failure = row.failure,
    stacktrace = row.stack and { row.stack } or nil,
    scheduler = row.sched, worker = row.worker,
    parent = row.parent and row.parent_queue
      and { id = row.parent_id, queue = row.parent_queue } or nil,
  }
end

return M
