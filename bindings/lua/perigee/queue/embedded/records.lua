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

--- What a batch gives of rows as rows.
---@param values any[] # of all rows, one after the other
---@param names string[] # of the columns; the first one is never null
---@return table[]
function M.rows(values, names)
  local rows, at = {}, 0
  while values[at + 1] ~= nil do
    local row = {}
    for i = 1, #names do
      row[names[i]] = values[at + i]
    end
    rows[#rows + 1] = row
    at = at + #names
  end
  return rows
end

--- How many values there are of a job that was taken, see `sql`.
M.TAKEN = 16

--- A job that was just taken, of values that begin behind at.
---@param queue string
---@param v any[]
---@param at integer
---@return perigee.queue.Record
function M.taken(queue, v, at)
  local seq = v[at + 1]
  return {
    seq = seq, id = v[at + 2] or ("%d"):format(seq), queue = queue,
    name = v[at + 3], data = v[at + 4], opts = M.opts(v[at + 5]),
    timestamp = v[at + 6], priority = v[at + 7], attempts = v[at + 8],
    token = v[at + 9], crashed = v[at + 10], extras = v[at + 11],
    group = v[at + 12], parent = v[at + 13], scheduler = v[at + 14],
  }
end

--- Whether the first of two jobs that were taken comes before the other.
---@param v any[]
---@param at integer
---@param w any[]
---@param other integer
---@return boolean
function M.precedes(v, at, w, other)
  local prio, than = v[at + 15], w[other + 15]
  return prio < than or prio == than and v[at + 16] < w[other + 16]
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
