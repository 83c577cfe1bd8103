--- Jobs that are added as part of the application's own SQLite transaction.
---
--- They are written into a table of that database; once the transaction is
--- committed they are moved to their queues. Each has its id from the start, so
--- that moving one twice adds it once.

local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local json = require "perigee.json"
local log = require "perigee.log"
local sqlite = require "perigee.sqlite"

local M = {}

local SCHEMA = [[CREATE TABLE IF NOT EXISTS perigee_outbox (
  n INTEGER PRIMARY KEY, queue TEXT NOT NULL, name TEXT NOT NULL,
  data TEXT NOT NULL, opts TEXT NOT NULL)]]

local BATCH = 200

local moving = setmetatable({}, { __mode = "k" }) -- db -> "moving" | "again"

-- In runs of the same queue, so that their order stays.
local function move_some(db, driver)
  local rows, err = db:query("SELECT n, queue, name, data, opts "
    .. "FROM perigee_outbox ORDER BY n LIMIT ?", BATCH)
  if not rows then
    return nil, err
  end
  local at = 1
  while at <= #rows do
    local first, entries = rows[at], {}
    while rows[at] and rows[at].queue == first.queue do
      local row = rows[at]
      entries[#entries + 1] = { name = row.name, data = row.data,
        opts = json.decode(row.opts) }
      at = at + 1
    end
    local ok
    ok, err = driver:add(first.queue, entries)
    if ok then
      ok, err = db:exec("DELETE FROM perigee_outbox WHERE n >= ? AND n <= ? "
        .. "AND queue = ?", first.n, rows[at - 1].n, first.queue)
    end
    if not ok then
      return nil, err
    end
  end
  return #rows
end

--- Moves what is in the database's outbox to the queues.
function M.move(db, driver)
  if moving[db] then
    moving[db] = "again"
    return
  end
  repeat
    moving[db] = "moving"
    local count, err
    repeat
      count, err = move_some(db, driver)
    until not count or count < BATCH
    if not count then
      log.error("jobs in the outbox could not be added to their queues "
        .. "(they stay there until the next time)", { err = err })
      break
    end
  until moving[db] ~= "again"
  moving[db] = nil
end

--- Adds a job when, and if, tx is committed.
---@param tx perigee.sqlite.Tx
---@param driver perigee.queue.Driver
---@param queue string
---@param entry perigee.queue.Entry
---@return {id: string}? added
---@return perigee.Error? err
function M.put(tx, driver, queue, entry)
  sqlite.after_commit(tx, driver, function(db)
    M.move(db, driver)
  end)
  local opts = {}
  for key, value in pairs(entry.opts) do
    opts[key] = value
  end
  opts.job_id = opts.job_id or crypto.uuid.v7()
  local ok, err = tx:exec(SCHEMA)
  if ok then
    ok, err = tx:exec("INSERT INTO perigee_outbox(queue, name, data, opts) "
      .. "VALUES (?, ?, ?, ?)", queue, entry.name, entry.data,
      (assert(json.encode(opts))))
  end
  if not ok then
    return nil, errors.wrap(err, "outbox")
  end
  return { id = opts.job_id }
end

--- What a host that died has left in the outboxes of the configured databases.
function M.sweep(names, driver)
  for _, name in ipairs(names) do
    local db = sqlite.get(name)
    local row = db:one("SELECT 1 AS there FROM sqlite_master "
      .. "WHERE type = 'table' AND name = 'perigee_outbox'")
    if row then
      M.move(db, driver)
    end
  end
end

return M
