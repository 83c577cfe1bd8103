--- Runs the jobs of scripts/jobs/ in this worker, on any driver.

local config = require "perigee.config"
local core = require "perigee.core.queue"
local core_task = require "perigee.core.task"
local declared = require "perigee.queue.declared"
local errors = require "perigee.error"
local host = require "perigee.host"
local jobs = require "perigee.queue.job"
local json = require "perigee.json"
local log = require "perigee.log"
local meter = require "perigee.queue.meter"
local options = require "perigee.queue.options"
local outbox = require "perigee.queue.outbox"
local queues = require "perigee.queue"
local task = require "perigee.task"
local time = require "perigee.time"
local units = require "perigee.units"
local watch = require "perigee.queue.watch"

local M = {}

local STACK_MAX = 4000
local PAUSE_MS = 1000 -- after the driver has failed

---@class perigee.queue.Runner
---@field running integer   # functions that run
---@field finishing integer # have run, and are being stored as ended
local Runner = {}
Runner.__index = Runner

local NOT_BEGUN = {} -- in place of an error

local runners = {}
local stopping = false

-- The host stops, or newer code has been committed: nothing begins here.
local function is_over()
  return stopping or core.stale()
end

-- ---- one job ----

local function definition_of(self, name)
  return self.by_name[name] or self.default
end

-- The message, and where it came from, of what a function raised or returned.
local function failure_of(err, stack)
  local message = errors.wrap(err).message
  if stack then
    stack = stack:sub(1, STACK_MAX)
  end
  return { message = message, stack = stack }
end

local function caught(err)
  return { err = err, stack = debug.traceback(errors.wrap(err).message, 2) }
end

-- What became of it: the result's JSON, or nil and the error and a stack.
local function outcome(ok, value, why)
  if not ok then
    return nil, value.err, value.stack
  end
  if value == nil and why ~= nil then
    return nil, why
  end
  if value == nil then
    return "null"
  end
  local text, err = json.encode(value)
  if not text then
    return nil, errors.wrap(err, "the result")
  end
  return text
end

local function call(definition, job, timeout)
  if timeout then
    core.bound()
    return task.with_deadline(timeout, definition.run, job)
  end
  return definition.run(job)
end

local PLAIN = { fixed = true, exponential = true }

-- How long until the next attempt; nil: there is none.
local function backoff(self, record, failed, err)
  local policy, definition = record.opts.backoff,
    definition_of(self, record.name)
  if not policy or PLAIN[policy.type]
    or not (definition and definition.backoff) then
    return options.backoff(record.opts, failed)
  end
  local ok, wait = pcall(definition.backoff, failed, err,
    jobs.running(self.driver, self.consumer, record))
  if ok and wait == false then
    return nil
  end
  local ms, why = units.duration(ok and wait or 0)
  if not ok or not ms then
    log.error("backoff has failed: as if it were fixed",
      { queue = record.queue, job = record.id, err = ok and why or wait })
    return options.backoff(record.opts, failed)
  end
  return math.floor(ms)
end

local function settle_failure(self, record, err, stack, at)
  local failed = record.attempts + 1
  local left = (record.opts.attempts or 1) - failed
  local retry_in
  if left > 0 and not (errors.is(err) and err.kind == "unrecoverable") then
    retry_in = backoff(self, record, failed, err)
  end
  log.warn("job failed", {
    queue = record.queue, job = record.id, name = record.name,
    attempt = failed, retry_in = retry_in,
    err = stack and not errors.is(err) and stack or err,
    trace_id = at and at.trace_id, span_id = at and at.span_id,
  })
  return self.consumer:fail(record, failure_of(err, stack), retry_in)
end

-- at: the context of its span, which has ended; nil: there was none.
local function settle(self, record, text, err, stack, at)
  local ok, why
  if text then
    ok, why = self.consumer:complete(record, text)
  else
    ok, why = settle_failure(self, record, err, stack, at)
  end
  if not ok then
    log.error("a job that has ended could not be stored as such", {
      queue = record.queue, job = record.id, err = why,
    })
  end
end

local function give_back(self, record)
  local ok, err = self.consumer:release(record)
  if not ok then
    log.error("a job could not be given back",
      { queue = self.queue, job = record.id, err = err })
  end
end

local function execute(self, record)
  if is_over() then -- while it stood in line
    return nil, NOT_BEGUN
  end
  local definition = definition_of(self, record.name)
  if not definition then
    return nil, errors.unrecoverable("nothing in scripts/jobs runs jobs "
      .. "named %q of queue %s", record.name, record.queue)
  end
  local timeout = record.opts.timeout or definition.timeout
  if timeout == 0 then
    timeout = nil -- as everywhere: none
  end
  local job = jobs.running(self.driver, self.consumer, record, timeout)
  local span = watch.consuming(self.driver.name, record)
  local text, err, stack =
    outcome(xpcall(call, caught, definition, job, timeout))
  local at = span and span:context()
  watch.done(span, not text and (err or "failed") or nil, stack)
  return text, err, stack, at
end

-- The function has ended: the next job may begin while this one is stored.
local function freed(self, record)
  self.tasks[record] = nil
  self.running = self.running - 1
  self.finishing = self.finishing + 1
  self.slots:set()
end

-- Its turn: of the worker's queues, and of the jobs of its definition.
local function in_turn(self, record)
  local definition = definition_of(self, record.name)
  if self.share then
    self.shares:enter(self.share)
  end
  local ok, text, err, stack, at
  if definition and definition.slots then
    ok, text, err, stack, at = pcall(definition.slots.with, definition.slots,
      execute, self, record)
  else
    ok, text, err, stack, at = pcall(execute, self, record)
  end
  if self.share then
    self.shares:leave()
  end
  if not ok then
    error(text, 0)
  end
  return text, err, stack, at
end

local function run(self, record)
  local began = time.monotonic()
  local text, err, stack, at = in_turn(self, record)
  core.check()
  freed(self, record)
  if err == NOT_BEGUN then
    give_back(self, record)
    return
  end
  meter.processed(watch.system(self.driver.name), self.queue,
    time.monotonic() - began,
    not text and (errors.is(err) and err.kind or "internal") or nil)
  settle(self, record, text, err, stack, at)
end

-- Whoever has cancelled it wants it ended; its own task cannot wait any more.
local function end_cancelled(self, record, reason)
  settle(self, record, nil, errors.unrecoverable("%s", reason))
  self.finishing = self.finishing - 1
  self.slots:set()
  core.release()
end

-- A task of its own. What cancels all tasks (the host ends, the code was
-- replaced and its time is over) cancels this one too: then nothing is stored,
-- and the job goes back when the driver is closed.
local function guarded(self, record)
  local id, told = core_task.current_id(), self.tasks[record]
  self.tasks[record] = id
  if told ~= true then
    core_task.cancel(id, told)
  end
  local ok, err = pcall(run, self, record)
  if self.tasks[record] then
    freed(self, record)
  end
  local reason = self.cancelled[record]
  if reason then
    self.cancelled[record] = nil
    if not ok then
      core_task.start(end_cancelled, self, record, reason)
      return
    end
  elseif not ok then
    log.debug("a job was cut off and goes back to its queue", {
      queue = record.queue, job = record.id, err = err,
    })
  end
  self.finishing = self.finishing - 1
  self.slots:set()
  core.release()
end

local function begin(self, record)
  self.running = self.running + 1
  core.hold()
  if self.share then
    self.shares:expect(self.share)
  end
  self.tasks[record] = true
  core_task.start(guarded, self, record)
end

-- ---- one queue ----

local function room(self)
  local free = math.min(self.concurrency - self.running,
    2 * self.concurrency - self.running - self.finishing)
  return self.share and math.min(free, self.shares:room(self.share)) or free
end

-- It may be over since they were asked for.
local function take_on(self, record)
  if is_over() then
    give_back(self, record)
  else
    begin(self, record)
  end
end

local function fetch(self)
  while not is_over() do
    local free = room(self)
    if free <= 0 then
      self.slots:wait()
    else
      local list, err = self.consumer:take(free)
      if list then
        for i = 1, #list do
          take_on(self, list[i])
        end
      elseif err then
        log.error("no jobs could be taken", { queue = self.queue, err = err })
        core_task.sleep(PAUSE_MS)
      else
        return
      end
    end
  end
end

-- Who runs which jobs. Those of a schedule carry its name; a schedule's function
-- runs others when there is nobody else for them.
local function divide(self, definitions)
  local of_schedule
  for _, definition in ipairs(definitions) do
    local concurrency = definition.concurrency or 1
    if definition.every or definition.cron then
      self.by_name[definition.schedule] = definition
      of_schedule = of_schedule or definition
    elseif definition.name then
      self.by_name[definition.name] = definition
    else
      self.default = definition
    end
    self.concurrency = self.concurrency + concurrency
    if #definitions > 1 then
      definition.slots = task.semaphore(concurrency)
    end
  end
  self.default = self.default or of_schedule
end

local function stop(self, record, why)
  local id = self.tasks[record]
  if type(id) == "number" then
    core_task.cancel(id, why)
  elseif id then
    self.tasks[record] = why -- for when its task begins
  end
end

local function weight_of(definitions)
  local weight = 1
  for _, definition in ipairs(definitions) do
    weight = math.max(weight, definition.weight or 1)
  end
  return weight
end

local function open(client, name, definitions, shares)
  local self = setmetatable({
    queue = name, driver = client.driver, by_name = {}, concurrency = 0,
    running = 0, finishing = 0, slots = core.signal(), tasks = {},
    cancelled = {},
    shares = shares,
  }, Runner)
  divide(self, definitions)
  self.share = shares and shares:join(weight_of(definitions), function()
    self.slots:set()
  end)
  self.consumer = client.driver:consume(name, {
    concurrency = self.concurrency,
    room = function() return room(self) end,
    name = client.settings.worker_name
      or ("%s-%d"):format("worker", host.worker),
    on_lost = function(record)
      stop(self, record, "the job's lease has gone to another worker")
    end,
    on_cancel = function(record, reason)
      if not self.cancelled[record] and self.tasks[record] then
        self.cancelled[record] = reason
        stop(self, record, reason)
      end
    end,
  })
  task.spawn_detached(fetch, self)
  return self
end

--- The generation has taken over: its jobs begin.
---@param definitions perigee.JobDefinition[]
function M.start(definitions)
  if not core.runs_jobs() then -- of the role "web", since the host started
    return
  end
  local client = queues.open()
  local by_queue, order = {}, {}
  for _, definition in ipairs(definitions) do
    if not by_queue[definition.queue] then
      by_queue[definition.queue] = {}
      order[#order + 1] = definition.queue
    end
    table.insert(by_queue[definition.queue], definition)
  end
  local most = config.queue and config.queue.concurrency
  local shares = most and require("perigee.queue.shares").new(most)
  declared.not_caught_up(client, definitions)
  for _, name in ipairs(order) do
    runners[#runners + 1] = open(client, name, by_queue[name], shares)
  end
  declared.limits(client, config.queue and config.queue.limits)
  declared.schedules(client, definitions)
  meter.watch(client, order)
  task.spawn_detached(outbox.watch, client.driver,
    client.settings.stalled_interval or 5000, function()
      return not is_over()
    end)
end

--- No more jobs are begun; those that run go on.
function M.stop()
  stopping = true
  for _, runner in ipairs(runners) do
    runner.consumer:close()
    runner.slots:set()
  end
end

return M
