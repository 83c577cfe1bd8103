--- Traces of jobs: adding one is a span, and the job's own span, wherever it
--- runs, is below it. What links them travels in the job's options, as BullMQ's
--- telemetry has it (`tm`: headers as JSON), so that Node's workers and
--- producers are part of the same trace.

local json = require "perigee.json"
local trace = require "perigee.trace"

local M = {}

local PRODUCER, CONSUMER = 4, 5 -- kinds of spans
local SYSTEM = { embedded = "perigee", redis = "bullmq" }

--- What the conventions call messaging.system.
---@param driver string
---@return string
function M.system(driver)
  return SYSTEM[driver] or driver
end

local function describe(span, driver, queue, operation)
  span:set("messaging.system", M.system(driver))
  span:set("messaging.destination.name", queue)
  span:set("messaging.operation.name", operation)
  span:set("messaging.operation.type", operation == "add" and "send"
    or operation)
end

-- Options may be shared by all jobs that have none.
local function with_telemetry(opts, text)
  local copy = {}
  for key, value in pairs(opts) do
    copy[key] = value
  end
  copy.telemetry = text
  return copy
end

--- Jobs are about to be added: a span, or nil; they carry the context on.
---@param driver string
---@param queue string
---@param entries {opts: table}[]
---@return perigee.Span?
function M.producing(driver, queue, entries)
  if not trace.own.wanted then
    return nil
  end
  local span = trace.own.start("add " .. queue, PRODUCER)
  if span then
    describe(span, driver, queue, "add")
    if #entries > 1 then -- of batches only, say the conventions
      span:set("messaging.batch.message_count", #entries)
    end
  end
  if not trace.own.headers() then
    return span
  end
  local text = json.encode(trace.inject {})
  for _, entry in ipairs(entries) do
    entry.opts = with_telemetry(entry.opts, text)
  end
  return span
end

--- The span has ended; err: it failed.
---@param span perigee.Span?
---@param err any
---@param stack string?
function M.done(span, err, stack)
  if not span then
    return
  end
  if err then
    span:fail(err, stack)
  end
  trace.own.finish(span)
end

--- A job is about to run: its span, below the one that added it.
---@param driver string
---@param record table
---@return perigee.Span?
function M.consuming(driver, record)
  if not trace.own.wanted then
    return nil
  end
  local carrier = record.opts.telemetry and json.decode(record.opts.telemetry)
  local span = trace.own.start("process " .. record.queue, CONSUMER,
    type(carrier) == "table" and trace.extract(carrier) or nil)
  if span then
    describe(span, driver, record.queue, "process")
    span:set("messaging.message.id", record.id)
    span:set("perigee.job.name", record.name)
    span:set("perigee.job.attempt", (record.attempts or 0) + 1)
  end
  return span
end

return M
