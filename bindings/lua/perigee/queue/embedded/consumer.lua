--- Who runs jobs of one queue in this worker, on the embedded store.

local core_queue = require "perigee.core.queue"
local ending = require "perigee.queue.embedded.ending"
local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local owners = require "perigee.queue.embedded.owners"
local records = require "perigee.queue.embedded.records"
local sql = require "perigee.queue.embedded.sql"
local time = require "perigee.time"

local M = {}

local LOOK_EVERY_MS = 1000 -- while there is always something to do

---@class perigee.queue.embedded.Consumer: perigee.queue.Consumer
local Consumer = {}
Consumer.__index = Consumer

local function by_place(jobs, lists, places)
  local order, sorted = {}, {}
  for i = 1, #jobs do
    order[i] = i
  end
  table.sort(order, function(i, k)
    return records.precedes(lists[i], places[i], lists[k], places[k])
  end)
  for i = 1, #jobs do
    sorted[i] = jobs[order[i]]
  end
  return sorted
end

-- The jobs that claims gave, in their order; mostly they come so.
local function taken(self, outcomes, from, claims)
  local jobs, lists, places = {}, {}, {}
  local n, ordered = 0, true
  for i = 1, #claims do
    local values, at = outcomes[from + claims[i]], 0
    while type(values) == "table" and values[at + 1] ~= nil do
      ordered = ordered
        and not (n > 0 and records.precedes(values, at, lists[n], places[n]))
      n = n + 1
      jobs[n] = records.taken(self.queue, values, at)
      lists[n], places[n] = values, at
      at = at + records.TAKEN
    end
  end
  return ordered and jobs or by_place(jobs, lists, places)
end

local function claim(self, text, n)
  local store = self.store
  return { text, store.owner, time.now(), self.queue_id, n,
    math.floor(store:now()), n = 5 }
end

-- What may be taken in one go; groups and others take turns in being first.
-- The last value: there was no room to look for jobs without a group.
local function statements(self, n)
  local list, claims = {}, {}
  local now = self.store:now()
  local view = self.view
  local rated = view and (view.rate_max or self.look) -- it may be new
  local function add(text, wanted)
    list[#list + 1] = claim(self, text, wanted)
    claims[#claims + 1] = #list
    if text == sql.NEXT then
      list[#list + 1] = claim(self, sql.CLAIM, wanted)
    end
    if rated then
      list[#list + 1] = { sql.COUNT_RATE, self.queue_id, math.floor(now),
        n = 2 }
    end
  end
  local promotes = view and view.due and view.due <= now * 1000
  if promotes then
    list[1] = { sql.PROMOTE, self.queue_id, math.floor(now * 1000), n = 2 }
    self.look = true
  end
  if view and view.suspects == 1 then
    add(sql.CLAIM_SUSPECT, 1)
  end
  -- What is promoted may be a group's.
  local grouped = view and (promotes or view.grouped == 1)
  local share = grouped and self.turn and math.ceil(n / 2) or 0
  self.turn = not self.turn
  for _ = 1, share do
    add(sql.CLAIM_GROUP, 1)
  end
  if n - share > 0 then
    add(sql.NEXT, n - share)
  end
  for _ = 1, grouped and n - share or 0 do
    add(sql.CLAIM_GROUP, 1)
  end
  return list, claims, n == share
end

-- More than n may come of one go with groups: they are put back.
local function keep(self, list, n)
  while #list > n do
    local extra = table.remove(list)
    self.store:exec(sql.RELEASE, extra.seq, extra.token)
  end
  return list
end

local function attempt(self, n)
  local list, claims, one_sided = statements(self, n)
  local outcomes, ids, from = self.store:run(list)
  if not outcomes then
    return nil, ids
  end
  local jobs = taken(self, outcomes, from, claims)
  if #jobs == 0 and one_sided then
    return attempt(self, n) -- now the others come first
  end
  return keep(self, jobs, n)
end

local function look(self)
  self.look = false
  self.looked = time.monotonic()
  local view, err = self.store.db:one(sql.OUTLOOK, self.queue_id)
  if not view then
    return nil, err or errors.new("unavailable", "queue %s was removed",
      self.queue)
  end
  self.view = view
  return true
end

-- How long until there may be something that nobody rings for.
local function patience(self)
  local view, now = self.view, self.store:now()
  local ms = self.idle_ms
  if view.due then
    ms = math.min(ms, view.due / 1000 - now)
  end
  if view.rate_max and view.window_count >= view.rate_max then
    ms = math.min(ms, view.window_start + view.rate_ms - now)
  end
  if view.group_rate_ms and view.grouped == 1 then
    ms = math.min(ms, math.max(view.group_rate_ms / 10, 5))
  end
  return math.max(ms, 1)
end

local function prepare(self)
  if self.queue_id then
    return true
  end
  local id, err = self.store:queue(self.queue)
  if not id then
    return nil, err
  end
  local ok
  ok, err = self.store.registering:with(owners.register, self.store, self.name)
  if not ok then
    return nil, err
  end
  self.queue_id = id
  table.insert(self.store.consumers, self)
  if not self.store.recovered then
    self.store.recovered = true
    ok, err = owners.recover(self.store)
    if not ok then
      return nil, err
    end
  end
  return true
end

-- Waits for a ring, unless it is known already that there is something.
local function rest(self, n, due_before)
  local due = self.view.due
  if due and due <= self.store:now() * 1000 and due ~= due_before then
    return
  end
  self.wanted = n
  self.signal:wait(patience(self))
  self.wanted = 0
end

local function started(self, jobs)
  for i = 1, #jobs do
    self.running[jobs[i].seq] = jobs[i]
  end
  events.started(self.store, self.queue_id, jobs)
  return jobs
end

-- Whoever was rung for takes first and looks then, so that a job waits for one
-- thing less. What that could not find, a group's say, is found by the look.
function Consumer:take(n)
  local ok, err = prepare(self)
  if not ok then
    return nil, err
  end
  local rung = false
  while not self.closed do
    if not rung and (self.look
      or time.monotonic() - self.looked > LOOK_EVERY_MS) then
      ok, err = look(self)
      if not ok then
        return nil, err
      end
    end
    local due_before, unseen = self.view.due, self.look
    local jobs
    jobs, err = attempt(self, n)
    if not jobs then
      return nil, err
    elseif #jobs > 0 then
      return started(self, jobs)
    end
    rung = false
    if not self.closed and not unseen then
      ok, err = look(self)
      if not ok then
        return nil, err
      end
      rest(self, n, due_before)
      rung = self.look
    end
  end
  return nil
end

Consumer.complete, Consumer.fail = ending.complete, ending.fail
Consumer.release = ending.release

function Consumer:heartbeat(job)
  local row, err = self.store.db:one(sql.HELD, job.seq, job.token)
  if err then
    return nil, err
  elseif not row then
    return nil, ending.lost(job)
  end
  return true
end

function Consumer:close()
  self.closed = true
  if self.off then
    self.off()
  end
  for i, other in ipairs(self.store.consumers) do
    if other == self then
      table.remove(self.store.consumers, i)
      break
    end
  end
  self.signal:set()
end

---@return perigee.queue.Consumer
function M.open(store, queue, options, settings)
  local self = setmetatable({
    store = store, queue = queue, name = options.name, wanted = 0,
    look = true, looked = 0, signal = core_queue.signal(),
    idle_ms = settings.idle_timeout or 5000, running = {},
  }, Consumer)
  self.off = options.on_cancel and events.cancels(store, function(told)
    local job = self.running[told.seq]
    if job and job.token == told.started then
      options.on_cancel(job, told.reason)
    end
  end)
  return self
end

return M
