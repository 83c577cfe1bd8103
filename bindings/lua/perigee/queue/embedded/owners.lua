--- Who holds jobs of the embedded store: each worker that takes some is an owner,
--- by a lock that goes when it dies.

local core_app = require "perigee.core.app"
local core_queue = require "perigee.core.queue"
local events = require "perigee.queue.embedded.events"
local records = require "perigee.queue.embedded.records"
local sql = require "perigee.queue.embedded.sql"
local time = require "perigee.time"

local M = {}

local CRASHES_MAX = 3

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

--- A store has one owner, whichever of its consumers comes first.
---@param store perigee.queue.Store
---@param name string
---@return true? ok
---@return perigee.Error? err
function M.register(store, name)
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
    local id = records.id(row)
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
        crashed = records.rows(crashed, sql.CRASHED_COLUMNS)
        count = count + #crashed
        tell_crashed(store, crashed)
      end
    end
  end
  return count
end

return M
