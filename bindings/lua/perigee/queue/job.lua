--- Jobs as objects: what `add`, `q:job(id)` and `q:jobs(...)` give, and what
--- the function of a job is called with.

local errors = require "perigee.error"
local json = require "perigee.json"
local options = require "perigee.queue.options"
local time = require "perigee.time"
local units = require "perigee.units"

local M = {}

local LOOK_FIRST_MS, LOOK_LAST_MS = 20, 1000
-- By how much a job that goes may precede the word of its end. One that was
-- gone before anybody looked may have sent it long ago; one that was seen not.
local GONE_MS, SEEN_GONE_MS = 500, 5000

--- A job as it was when it was read.
---@class perigee.Job
---@field id string
---@field name string
---@field queue string
---@field data any
---@field opts perigee.queue.Options
---@field state perigee.queue.State?
---@field progress any           # 0 until the job has told
---@field logs string[]
---@field result any             # json.null for one that is null
---@field failure string?        # of the last attempt
---@field stacktrace string[]?
---@field attempts integer       # that have ended
---@field timestamp integer      # Unix ms, as are the others
---@field processed_on integer?
---@field finished_on integer?
---@field delay integer
---@field priority integer
---@field duplicate boolean?     # add: there was one with that id already
local Job = {}
Job.__index = Job

-- The driver is no field of a job: what is left is plain data, and an answer.
local function class_of(driver)
  driver.job_class = driver.job_class
    or { __index = setmetatable({ driver = driver }, Job) }
  return driver.job_class
end

--- A job that has failed or completed: it is to be done again.
---@return true? ok
---@return perigee.Error? err # kind "not_found", "conflict"
function Job:retry()
  return self.driver:retry(self.queue, self.id)
end

--- A delayed one: now.
---@return true? ok
---@return perigee.Error? err # kind "not_found", "conflict"
function Job:promote()
  return self.driver:promote(self.queue, self.id)
end

---@return true? ok
---@return perigee.Error? err # kind "conflict": it runs
function Job:remove()
  return self.driver:remove(self.queue, self.id)
end

--- One that runs: its function is cut off at the next wait, and it fails for
--- good with that reason.
---@param reason string?
---@return true? ok # its worker is told
---@return perigee.Error? err # kind "not_found", "conflict": it does not run
function Job:cancel(reason)
  if reason ~= nil and type(reason) ~= "string" then
    error("a reason is a text", 2)
  end
  return self.driver:cancel(self.queue, self.id, reason or "cancelled")
end

--- Gives it other data.
---@param data any
---@return true? ok
---@return perigee.Error? err
function Job:update(data)
  local text, err = json.encode(data)
  if not text then
    return nil, err
  end
  return self.driver:update(self.queue, self.id, text)
end

---@param priority integer
---@return true? ok
---@return perigee.Error? err
function Job:change_priority(priority)
  return self.driver:change_priority(self.queue, self.id,
    options.value("priority", priority, 2))
end

--- A delayed one: so much later from now.
---@param delay string|number
---@return true? ok
---@return perigee.Error? err
function Job:change_delay(delay)
  return self.driver:change_delay(self.queue, self.id,
    options.value("delay", delay, 2))
end

--- The results of the children of a flow's job, by "QUEUE:ID"; and of those
--- that failed and were to be passed over, why.
---@return table<string, any>? values
---@return perigee.Error|table<string, string>|nil err # or failed
function Job:children_values()
  local children, err = self.driver:children(self.queue, self.id)
  if not children then
    return nil, err
  end
  local values = {}
  for key, text in pairs(children.values) do
    values[key] = json.decode(text)
  end
  return values, children.failed
end

-- A result of false is one.
local function result_of(text)
  if text == nil then
    return json.null
  end
  local value = json.decode(text)
  return value
end

local function outcome(record)
  if record.state == "completed" then
    return true, result_of(record.result)
  elseif record.state == "failed" then
    return true, nil, errors.new("unprocessable",
      "%s", record.failure or "the job failed")
  end
  return false
end

-- What an event tells of the job's end; nil: nothing.
local function word_of(event)
  if event and event.event == "completed" then
    return function()
      return result_of(event.result)
    end
  elseif event and event.event == "failed" then
    return function()
      return nil, errors.new("unprocessable", "%s",
        event.failure or "the job failed")
    end
  end
  return nil
end

-- Looks again when it hears of the job, and now and then all the same: a
-- message may be lost, the store is right. What is heard of a job that the
-- store shows as not ended was said of an earlier run.
local function await(self, heard, deadline)
  local pause, gone_ms, gone = LOOK_FIRST_MS, GONE_MS, false
  while true do
    local word = heard.word
    local record, err = self.driver:job(self.queue, self.id)
    if err then
      return nil, err
    end
    local ended, result, why
    if record then
      ended, result, why = outcome(record)
      gone_ms, heard.removed = SEEN_GONE_MS, nil
    end
    if ended then
      return result, why
    elseif not record then
      local told = heard.word
        or word_of(self.driver:last_word(self.queue, self.id))
      if told then
        return told()
      end
    elseif heard.word == word then
      heard.word = nil
    end
    if not record and (gone or heard.removed) then
      return nil, errors.new("not_found", "job %s of queue %s is not there "
        .. "(any more)", self.id, self.queue)
    end
    local left = deadline - time.monotonic()
    gone = not record
    if gone then
      pause, left = gone_ms, math.max(left, 1)
    elseif left <= 0 then
      return nil, errors.new("timeout", "job %s of queue %s has not ended",
        self.id, self.queue)
    end
    heard.signal:wait(math.min(left, pause))
    pause = math.min(pause * 2, LOOK_LAST_MS)
  end
end

--- Waits for the job to end: its result, or `nil, err` of kind "unprocessable"
--- with the reason when it has failed for good.
---@param timeout string|number
---@return any result
---@return perigee.Error? err # kind "timeout", "not_found" when it was removed
function Job:wait(timeout)
  local ms = units.duration(timeout)
  if not ms then
    error("a duration expected", 2)
  end
  local heard = { signal = require("perigee.core.queue").signal() }
  local off = self.driver:subscribe(self.queue, function(event)
    if event.id ~= self.id or event.cut then
      return -- what was lost on the way is in the store, if anywhere
    end
    heard.word = word_of(event) or heard.word
    heard.removed = heard.removed or event.event == "removed"
    if heard.word or heard.removed then
      heard.signal:set()
    end
  end)
  local function finish(ok, ...)
    off()
    if not ok then
      error((...), 0)
    end
    return ...
  end
  return finish(pcall(await, self, heard, time.monotonic() + ms))
end

local function decoded(text)
  if text == nil then
    return nil
  end
  local value = json.decode(text)
  return value
end

--- Of a driver's record.
---@param driver perigee.queue.Driver
---@param record perigee.queue.Record
---@param logs string[]?
---@return perigee.Job
function M.of(driver, record, logs)
  local progress = decoded(record.progress)
  return setmetatable({
    queue = record.queue, id = record.id, name = record.name,
    data = decoded(record.data), opts = record.opts or {},
    state = record.state, progress = progress == nil and 0 or progress,
    logs = json.array(logs or {}), result = decoded(record.result),
    failure = record.failure, stacktrace = record.stacktrace,
    attempts = record.attempts or 0, timestamp = record.timestamp,
    processed_on = record.processed_on, finished_on = record.finished_on,
    delay = record.delay or 0, priority = record.priority or 0,
    parent = record.parent, worker = record.worker,
  }, class_of(driver))
end

--- Of what was added just now.
function M.added(driver, queue, entry, data, added)
  return setmetatable({
    queue = queue, id = added.id, name = entry.name, data = data,
    opts = entry.opts, progress = 0, logs = json.array {}, attempts = 0,
    delay = entry.opts.delay or 0, priority = entry.opts.priority or 0,
    timestamp = entry.opts.timestamp or time.now(),
    duplicate = added.duplicate,
  }, class_of(driver))
end

--- What a job's function gets.
---@class perigee.RunningJob
---@field id string
---@field name string
---@field queue string
---@field data any
---@field opts perigee.queue.Options
---@field attempt integer   # from 1
---@field timestamp integer
---@field priority integer
---@field deadline_ms number? # milliseconds left; nil: no time-out
local Running = {}

function Running:__index(key)
  if key == "deadline_ms" then
    local ends_at = rawget(self, "ends_at")
    return ends_at and math.max(0, ends_at - time.monotonic())
  end
  return Running[key]
end

--- Tells how far it is; any value that JSON can carry.
---@param value any
---@return true? ok
---@return perigee.Error? err
function Running:progress(value)
  local text, err = json.encode(value)
  if not text then
    return nil, err
  end
  return self.driver:progress(self.queue, self.id, text)
end

--- Adds a line to the job's own log.
---@param line string
---@return true? ok
---@return perigee.Error? err
function Running:log(line)
  local count, err = self.driver:log(self.queue, self.id, tostring(line),
    self.opts.keep_logs)
  if not count then
    return nil, err
  end
  return true
end

--- Whether the job is still this worker's. Leases are renewed without it; for
--- work that must not go on when it is not.
---@return true? ok
---@return perigee.Error? err # kind "conflict": it has gone to another one
function Running:heartbeat()
  return self.consumer:heartbeat(self.record)
end

Running.update = Job.update
Running.children_values = Job.children_values

-- nil travels as null.
local function remembered(text)
  local value = json.decode(text)
  if value == json.null then
    return nil
  end
  return value
end

--- Runs a step of the job once: what it gave is kept with the job, and given
--- again, without running it, when the job is run again. What fails is not
--- kept. (Should the worker die between the step and the keeping, it is run
--- again: what the step does must bear that, or be one with `job.id` as its
--- idempotency key.)
---@generic T
---@param step string
---@param fn fun(): T?, perigee.Error?
---@return T? value
---@return perigee.Error? err
function Running:once(step, fn)
  if type(step) ~= "string" and type(step) ~= "number"
    or type(fn) ~= "function" then
    error("once: the name of a step and a function expected", 2)
  end
  local kept, err = self.driver:recall(self.queue, self.id, step)
  if kept then
    return remembered(kept)
  elseif err then
    return nil, err
  end
  local value, why = fn()
  if value == nil and why ~= nil then
    return nil, why
  end
  local text
  text, err = json.encode(value == nil and json.null or value)
  if not text then
    return nil, err
  end
  local ok
  ok, err = self.driver:remember(self.queue, self.id, step, text)
  if not ok then
    return nil, err
  end
  return value
end

---@param driver perigee.queue.Driver
---@param consumer perigee.queue.Consumer
---@param record perigee.queue.Record
---@param timeout integer? # ms
---@return perigee.RunningJob
function M.running(driver, consumer, record, timeout)
  return setmetatable({
    ends_at = timeout and time.monotonic() + timeout,
    driver = driver, consumer = consumer, record = record,
    queue = record.queue, id = record.id, name = record.name,
    data = decoded(record.data), opts = record.opts or {},
    attempt = record.attempts + 1, timestamp = record.timestamp,
    priority = record.priority or 0,
  }, Running)
end

return M
