--- The store of the embedded driver: one SQLite file for all workers of a host.
---
--- Statements of all tasks of a worker are gathered and run together, in one
--- transaction and one fsync with those that the other tasks have (and the
--- writer thread joins what waits once more): `run` returns when that commit is
--- durable.

local core = require "perigee.core.sqlite"
local core_app = require "perigee.core.app"
local core_queue = require "perigee.core.queue"
local core_task = require "perigee.core.task"
local errors = require "perigee.error"
local shared = require "perigee.shared"
local sql = require "perigee.queue.embedded.sql"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

local NUMBERS = 1000 -- of jobs, taken at once
local FLUSHES_MAX = 2 -- one is written while the next one is put together

---@class perigee.queue.Store
local Store = {}
Store.__index = Store

local function absolute(path)
  if path:sub(1, 1) == "/" then
    return path
  end
  return core_app.host().dir .. "/" .. path
end

---@param settings table
---@return perigee.queue.Store
function M.open(settings)
  local path = absolute(settings.path or "var/queue.sqlite")
  local db = core.open("perigee.queue", path, settings.synchronous or "full")
  if not db then
    error("no databases can be opened here", 0)
  end
  return setmetatable({
    db = db, path = path, flushes = 0, queue_ids = {}, last_us = 0,
    consumers = {}, made = false, ended = {}, next_number = 0,
    last_number = 0, registering = task.semaphore(1),
  }, Store)
end

-- ---- the clock ----

-- The monotonic clock, set to Unix time when the host began: delays are not
-- moved by whoever sets the system's clock.
local function anchor()
  local dict = shared.internal("perigee.queue", 65536)
  local offset = dict:get "offset"
  if not offset then
    dict:add("offset", time.now() - time.monotonic())
    offset = dict:get "offset"
  end
  return offset
end

--- The host's time in ms; goes on evenly.
function Store:now()
  if not self.offset then
    self.offset = anchor()
  end
  return time.monotonic() + self.offset
end

--- In microseconds, never the same twice in a worker: a place in a queue.
function Store:place()
  local us = math.floor(self:now() * 1000)
  if us <= self.last_us then
    us = self.last_us + 1
  end
  self.last_us = us
  return us
end

-- ---- statements ----

-- Statements that go together: those of `n` callers, the own of each from
-- `starts[i]` on, and who waits for `done`.
local function new_batch()
  return { statements = {}, starts = {}, n = 0, done = core_task.event() }
end

-- What one has done wrong is not for the others to bear.
local function one_by_one(self, batch, total)
  batch.own, batch.err = {}, nil
  for i = 1, batch.n do
    local from = batch.starts[i]
    local list = {}
    for k = from + 1, batch.starts[i + 1] or total do
      list[#list + 1] = batch.statements[k]
    end
    local outcomes, ids = core.batch(self.db, list)
    batch.own[i] = { outcomes = outcomes, ids = ids,
      err = not outcomes and ids or nil }
  end
end

local function write(self, batch)
  local total = #batch.statements
  self:add_counts(batch.statements)
  local outcomes, ids = core.batch(self.db, batch.statements)
  if outcomes then
    batch.outcomes, batch.ids = outcomes, ids
  elseif batch.n > 1 and ids.kind ~= "unavailable" then
    one_by_one(self, batch, total)
  else
    batch.err = ids
  end
end

local function flush(self)
  task.yield() -- what else this turn of the loop has goes with it
  while self.batch do
    local batch = self.batch
    self.batch = nil
    local ok, why = pcall(write, self, batch)
    if not ok then
      batch.err = errors.wrap(why)
      batch.done:set()
      self.flushes = self.flushes - 1
      error(why, 0)
    end
    batch.done:set()
    task.yield() -- those that were told have something new, most likely
    self:ring()
  end
  self.flushes = self.flushes - 1
end

--- Runs statements, each {sql, values..., n = how many values}, all or none:
--- the outcomes and ids of all that ran with them, and where one's own begin
--- (`outcomes[from + 1]`): the values of rows, one after the other (see
--- `records.rows`), or how many were changed.
---@param statements table[]
---@return table? outcomes
---@return table|perigee.Error ids
---@return integer? from
function Store:run(statements)
  local batch = self.batch
  if not batch then
    batch = new_batch()
    self.batch = batch
  end
  local list = batch.statements
  local from = #list
  for i = 1, #statements do
    list[from + i] = statements[i]
  end
  local place = batch.n + 1
  batch.n, batch.starts[place] = place, from
  if self.flushes < FLUSHES_MAX and (self.flushes == 0 or place == 1) then
    self.flushes = self.flushes + 1
    core_task.start(flush, self)
  end
  batch.done:wait()
  local own = batch.own and batch.own[place]
  if own then
    batch, from = own, 0
  end
  if batch.err then
    return nil, batch.err
  end
  return batch.outcomes, batch.ids, from
end

--- One statement: its outcome and id.
---@return any? outcome
---@return any id_or_err
function Store:exec(text, ...)
  local outcomes, ids, from = self:run {
    { text, n = select("#", ...), ... },
  }
  if not outcomes then
    return nil, ids
  end
  return outcomes[from + 1], ids[from + 1]
end

--- Statements by themselves, also while all other tasks are being cancelled.
function Store:run_alone(statements)
  return core.batch(self.db, statements)
end

-- ---- how many have ended ----

local COUNT = "UPDATE queue SET completed = completed + ?, "
  .. "failed = failed + ? WHERE id = ?"

--- One more has "completed" or "failed": written with what comes next.
function Store:count(queue_id, what)
  local ended = self.ended[queue_id]
  if not ended then
    ended = { completed = 0, failed = 0 }
    self.ended[queue_id] = ended
  end
  ended[what] = ended[what] + 1
end

function Store:add_counts(statements)
  for queue_id, ended in pairs(self.ended) do
    statements[#statements + 1] = { COUNT, ended.completed, ended.failed,
      queue_id, n = 3 }
  end
  if next(self.ended) then
    self.ended = {}
  end
end

-- ---- set up ----

--- The tables are there, as far as this worker knows.
---@return true? ok
---@return perigee.Error? err
function Store:ready()
  if self.made then
    return true
  end
  local ok, err = self.db:exec(sql.SCHEMA)
  if not ok then
    return nil, err
  end
  ok, err = self.db:exec "PRAGMA recursive_triggers = ON"
  if not ok then
    return nil, err
  end
  if not self.bell then
    local signal = core_queue.signal()
    self.bell, err = core_queue.bell(self.path .. "-bell", signal)
    if not self.bell then
      return nil, err
    end
    task.spawn_detached(function()
      while not self.closed do
        signal:wait()
        self:rung()
      end
    end)
  end
  self.made = true
  return true
end

--- A number for a new job. Blocks of them are taken: ids are given in order
--- by each worker, and never twice.
---@return integer? seq
---@return perigee.Error? err
function Store:number()
  while self.next_number >= self.last_number do
    if self.numbering then
      self.numbering:wait()
    else
      self.numbering = core_task.event()
      local done, rows, err = pcall(self.exec, self, sql.NUMBERS, NUMBERS)
      self.numbering:set()
      self.numbering = nil
      if not done then
        error(rows, 0)
      elseif not rows then
        return nil, err
      end
      self.last_number = rows[1]
      self.next_number = self.last_number - NUMBERS
    end
  end
  self.next_number = self.next_number + 1
  return self.next_number
end

--- The number of a queue, made when there is none.
---@return integer? id
---@return perigee.Error? err
function Store:queue(name)
  local id = self.queue_ids[name]
  if id then
    return id
  end
  local ok, err = self:ready()
  if not ok then
    return nil, err
  end
  local outcomes, from
  outcomes, err, from = self:run {
    { "INSERT OR IGNORE INTO queue(name) VALUES (?)", name, n = 1 },
    { "SELECT id FROM queue WHERE name = ?", name, n = 1 },
  }
  if not outcomes then
    return nil, err
  end
  id = outcomes[from + 2][1]
  self.queue_ids[name] = id
  return id
end

-- ---- waking ----

--- Somebody, perhaps in another worker, has rung: everybody looks.
function Store:rung()
  for i = 1, #self.consumers do
    local consumer = self.consumers[i]
    consumer.look = true
    consumer.signal:set()
  end
end

--- There is something new in a queue: count jobs that could begin, or
--- something else to know (nil).
function Store:notify(queue_id, count)
  local free = 0
  for i = 1, #self.consumers do
    local consumer = self.consumers[i]
    if consumer.queue_id == queue_id then
      if not count then
        consumer.look = true
      end
      if consumer.wanted > 0 then
        free = free + consumer.wanted
      end
      consumer.signal:set()
    end
  end
  if not count or free < count then
    self.ringing = true
    if self.flushes == 0 then
      self:ring()
    end
  end
end

--- Rings, once for all who wanted that meanwhile.
function Store:ring()
  if self.ringing and self.bell then
    self.ringing = false
    self.bell:ring()
  end
end

--- Something that may concern any queue.
function Store:notify_all()
  self:rung()
  if self.bell then
    self.bell:ring()
  end
end

function Store:close()
  self.closed = true
  if self.bell then
    self.bell:close()
    self.bell = nil
  end
end

return M
