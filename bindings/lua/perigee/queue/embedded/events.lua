--- Events of the embedded driver: to those in this worker at once, to other
--- workers only where somebody there listens.

local core = require "perigee.core.task"
local host_events = require "perigee.events"
local json = require "perigee.json"
local shared = require "perigee.shared"
local time = require "perigee.time"

local M = {}

local TOPIC = "perigee.queue"
local CANCEL = "perigee.queue.cancel"
local TEXT_MAX = 30000
local PAYLOAD_MS = 60000 -- for as long as what is too long for a message is kept

-- How many listen in all workers: looked up before anything is sent.
local function interest(store, queue)
  local keys = store.interest_keys
  if not keys then
    store.interest = shared.internal("perigee.queue", 65536)
    keys = {}
    store.interest_keys = keys
  end
  local key = keys[queue]
  if not key then
    key = "listen:" .. store.path .. ":" .. queue
    keys[queue] = key
  end
  return store.interest, key
end

local function call_each(store, queue, event)
  local listeners = store.listeners and store.listeners[queue]
  for i = 1, listeners and #listeners or 0 do
    core.start(listeners[i], event)
  end
end

-- What is too long for a message lies in the store; a full disk takes it away.
local function put_aside(store, event, text)
  local outcomes, ids, from = store:run {
    { "DELETE FROM payload WHERE at < ?", time.now() - PAYLOAD_MS, n = 1 },
    { "INSERT INTO payload(at, text) VALUES (?, ?)", time.now(), text, n = 2 },
  }
  return { event = event.event, id = event.id, cut = true,
    payload = outcomes and ids[from + 2] or nil }
end

local function fetched(store, event)
  local row = event.payload and store.db:one(
    "SELECT text FROM payload WHERE n = ?", event.payload)
  return row and json.decode(row.text) or event
end

local function hear(store)
  if store.hears then
    return
  end
  store.hears = true
  store.off = host_events.on(TOPIC, function(message)
    if message.path ~= store.path or message.from == store.mark then
      return
    end
    for _, event in ipairs(message.events) do
      call_each(store, message.queue,
        event.payload and fetched(store, event) or event)
    end
  end)
end

local function mark_of(store)
  store.mark = store.mark
    or require("perigee.crypto").uuid.v4()
  return store.mark
end

-- Events of one turn of the loop go out together.
local function send(store, queue)
  local list = store.outgoing[queue]
  store.outgoing[queue] = nil
  local batch, size = {}, 0
  local function out()
    if #batch > 0 then
      host_events.publish(TOPIC, { path = store.path, queue = queue,
        from = mark_of(store), events = batch })
      batch, size = {}, 0
    end
  end
  for _, event in ipairs(list) do
    local text = json.encode(event)
    if #text > TEXT_MAX then
      event = put_aside(store, event, text)
      text = json.encode(event)
    end
    if size + #text > TEXT_MAX then
      out()
    end
    batch[#batch + 1] = event
    size = size + #text + 1
  end
  out()
end

--- Tells an event of the queue with that number.
function M.tell(store, queue, event)
  if store.listeners and store.listeners[queue] then
    call_each(store, queue, event)
  end
  local dict, key = interest(store, queue)
  local all = dict:get(key) or 0
  local own = store.listeners and store.listeners[queue]
    and #store.listeners[queue] or 0
  if all <= own then
    return
  end
  store.outgoing = store.outgoing or {}
  local list = store.outgoing[queue]
  if list then
    list[#list + 1] = event
    return
  end
  store.outgoing[queue] = { event }
  core.start(function()
    core.yield()
    send(store, queue)
  end)
end

--- Whether anybody hears of a queue.
function M.wanted(store, queue)
  if store.listeners and store.listeners[queue] then
    return true
  end
  local dict, key = interest(store, queue)
  return (dict:get(key) or 0) > 0
end

--- Jobs were taken.
function M.started(store, queue, jobs)
  if not M.wanted(store, queue) then
    return
  end
  for i = 1, #jobs do
    M.tell(store, queue, { event = "active", id = jobs[i].id })
  end
end

--- Has whoever runs a job cut it off.
---@param store perigee.queue.Store
---@param job {seq: integer, started: integer, reason: string}
function M.cancel(store, job)
  job.path = store.path
  host_events.publish(CANCEL, job)
end

--- Calls fn with each job that is to be cut off; gives what ends that.
---@param store perigee.queue.Store
---@param fn fun(job: {seq: integer, started: integer, reason: string})
---@return fun() off
function M.cancels(store, fn)
  return host_events.on(CANCEL, function(job)
    if job.path == store.path then
      fn(job)
    end
  end)
end

--- Calls fn with each event of a queue; gives what ends that.
function M.subscribe(store, queue, fn)
  hear(store)
  store.listeners = store.listeners or {}
  local list = store.listeners[queue] or {}
  store.listeners[queue] = list
  list[#list + 1] = fn
  local dict, key = interest(store, queue)
  dict:incr(key, 1, 0)
  local ended = false
  return function()
    if ended then
      return
    end
    ended = true
    for i, one in ipairs(list) do
      if one == fn then
        table.remove(list, i)
        break
      end
    end
    if #list == 0 and store.listeners[queue] == list then
      store.listeners[queue] = nil
    end
    dict:incr(key, -1, 0)
  end
end

return M
