--- Jobs that are added as part of the application's own SQLite transaction.
---
--- They are written into a table of that database; once the transaction is
--- committed they are moved to their queues. Each has its id from the start, so
--- that moving one twice adds it once.

local config = require "perigee.config"
local core_app = require "perigee.core.app"
local core_queue = require "perigee.core.queue"
local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local json = require "perigee.json"
local log = require "perigee.log"
local sqlite = require "perigee.sqlite"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

local SCHEMA = [[CREATE TABLE IF NOT EXISTS perigee_outbox (
  n INTEGER PRIMARY KEY, queue TEXT NOT NULL, name TEXT NOT NULL,
  data TEXT NOT NULL, opts TEXT NOT NULL)]]

local BATCH = 200
local TURN_MS = 5
local PATIENCE_MS = 10000
local NOT_YET = "jobs in the outbox could not be added to their queues yet"

local odd = log.limited { per = "1m" }

local moving = setmetatable({}, { __mode = "k" }) -- db -> "moving" | "again"
local numbers = setmetatable({}, { __mode = "k" }) -- db -> its lock's

-- ---- one mover a database ----

local function number_of(db)
  if not numbers[db] then
    local row, err = db:one "PRAGMA database_list"
    if not row then
      return nil, err
    end
    local sum = 0
    for i = 1, #(row.file or "") do
      sum = (sum * 33 + row.file:byte(i)) % 2147483647
    end
    numbers[db] = sum + 1
  end
  return numbers[db]
end

-- Two workers that read the same rows would add their jobs twice: the first
-- one's may have run, and gone, before the other adds them.
local function alone(db)
  local number, err = number_of(db)
  if not number then
    return nil, err
  end
  local locks
  locks, err = core_queue.owners(core_app.host().dir .. "/var/outbox-owners")
  if not locks then
    return nil, err
  end
  local give_up = time.monotonic() + PATIENCE_MS
  while not locks:take(number) do
    if time.monotonic() > give_up then
      locks:close()
      return nil, errors.new("unavailable", "another worker is at it for long")
    end
    task.sleep(TURN_MS)
  end
  return locks
end

-- nil: the row is no job. It stays, and is in nobody's way.
local function entry_of(row)
  local opts, err = json.decode(row.opts)
  if type(opts) ~= "table" then
    odd.error("a row of the outbox is no job: its opts are no JSON object",
      { n = row.n, queue = row.queue, err = err })
    return nil
  end
  return { name = row.name, data = row.data, opts = opts }
end

local function move_run(db, driver, first, last, entries)
  local ok, err = driver:add(first.queue, entries)
  if ok then
    ok, err = db:exec("DELETE FROM perigee_outbox WHERE n >= ? AND n <= ? "
      .. "AND queue = ?", first.n, last.n, first.queue)
  end
  return ok, err
end

-- In runs of the same queue, so that their order stays. How many rows there
-- were after that number, and the last one's; or nil and an error.
local function move_some(db, driver, after)
  local rows, err = db:query("SELECT n, queue, name, data, opts "
    .. "FROM perigee_outbox WHERE n > ? ORDER BY n LIMIT ?", after, BATCH)
  if not rows then
    return nil, err
  end
  for _, row in ipairs(rows) do
    row.entry = entry_of(row)
  end
  local at = 1
  while at <= #rows do
    local first, entries = rows[at], {}
    while rows[at] and rows[at].entry and rows[at].queue == first.queue do
      entries[#entries + 1] = rows[at].entry
      at = at + 1
    end
    if #entries == 0 then
      at = at + 1
    else
      local ok
      ok, err = move_run(db, driver, first, rows[at - 1], entries)
      if not ok then
        return nil, err
      end
    end
  end
  return #rows, rows[1] and rows[#rows].n
end

local function move_all(db, driver)
  local locks, err = alone(db)
  if not locks then
    return nil, err
  end
  local done, count
  local last = 0 -- or an error
  repeat
    done, count, last = pcall(move_some, db, driver, last)
  until not done or not count or count < BATCH
  locks:close()
  if not done then
    error(count, 0)
  end
  return count, last
end

--- Moves what is in the database's outbox to the queues. What cannot be moved
--- stays there until M.watch comes by, or the next commit.
function M.move(db, driver)
  if moving[db] then
    moving[db] = "again"
    return
  end
  repeat
    moving[db] = "moving"
    local done, count, err = pcall(move_all, db, driver)
    if not done then
      moving[db] = nil
      error(count, 0)
    elseif not count then
      log.error(NOT_YET, { err = err })
      break
    end
  until moving[db] ~= "again"
  moving[db] = nil
end

--- Adds jobs when, and if, tx is committed.
---@param tx perigee.sqlite.Tx
---@param driver perigee.queue.Driver
---@param queue string
---@param entries perigee.queue.Entry[]
---@return {id: string}[]? added
---@return perigee.Error? err
function M.put(tx, driver, queue, entries)
  sqlite.after_commit(tx, driver, function(db)
    M.move(db, driver)
  end)
  local ok, err = tx:exec(SCHEMA)
  local added = {}
  for i, entry in ipairs(entries) do
    local opts = {}
    for key, value in pairs(entry.opts) do
      opts[key] = value
    end
    opts.job_id = opts.job_id or crypto.uuid.v7()
    if ok then
      ok, err = tx:exec("INSERT INTO perigee_outbox(queue, name, data, opts) "
        .. "VALUES (?, ?, ?, ?)", queue, entry.name, entry.data,
        (assert(json.encode(opts))))
    end
    if not ok then
      return nil, errors.wrap(err, "outbox")
    end
    added[i] = { id = opts.job_id }
  end
  return added
end

local function sweep(driver)
  for name in pairs(config.sqlite or {}) do
    local db = sqlite.get(name)
    local row = db:one("SELECT 1 AS there FROM sqlite_master "
      .. "WHERE type = 'table' AND name = 'perigee_outbox'")
    if row and db:one "SELECT 1 AS there FROM perigee_outbox LIMIT 1" then
      M.move(db, driver)
    end
  end
end

--- Moves what workers that died, or had no driver to add to, have left in the
--- outboxes of the configured databases; for as long as going_on() says.
---@param driver perigee.queue.Driver
---@param every integer # ms
---@param going_on fun(): boolean
function M.watch(driver, every, going_on)
  while going_on() do
    local done, err = pcall(sweep, driver)
    if not done and going_on() then -- else it was cut off, and nothing is wrong
      log.error(NOT_YET, { err = err })
    end
    task.sleep(every)
  end
end

return M
