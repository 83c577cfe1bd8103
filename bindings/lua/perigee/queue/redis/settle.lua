--- Queues in Redis: ends of jobs, sent together, and beginnings.

local codec = require "perigee.queue.redis.codec"
local core = require "perigee.core.task"
local redis = require "perigee.core.redis"
local store = require "perigee.queue.redis.store"
local texts = require "perigee.queue.redis.texts"
local time = require "perigee.time"

local M = {}

-- Of a job's hash, as a record has it.
local NUMBERS = {
  timestamp = "timestamp", delay = "delay", priority = "priority",
  atm = "attempts", ats = "started", stc = "crashed",
}
local TEXTS = {
  name = "name", data = "data", rjk = "scheduler", defa = "deferred",
  progress = "progress",
}
local BATCH = 64
local RETRY_MIN_MS, RETRY_MAX_MS = 20, 500
-- Our clock has been set back if it is that far behind.
local BEHIND_MAX_MS = 1000

-- What runs jobs of a queue in this worker: see consumer.lua.
---@class perigee.queue.redis.Settler
---@field store perigee.queue.redis.Store
---@field queue string
---@field root string
---@field lock integer        # ms
---@field worker string       # its name, or ""
---@field points integer      # of metrics
---@field token fun(): string
---@field unheard table<string, number> # see M.fetch
---@field began_until number? # when its last jobs began at the latest, if that
---                           # was by the server's clock

local function header(c, n, token, now)
  return {
    now or time.now(), n, token, c.lock, c.worker, "", "", c.points,
  }
end

local function record(c, id, packed, token)
  local fields = texts.unpack(packed)
  local job = {
    id = id, queue = c.queue, state = "active", token = token, name = "",
    data = "{}", opts = nil, raw_opts = nil, timestamp = 0, delay = 0,
    priority = 0, attempts = 0, started = 0, crashed = 0, scheduler = nil,
    deferred = nil,
  }
  local opts
  for i = 1, #fields, 2 do
    local name, value = fields[i], codec.present(fields[i + 1])
    if NUMBERS[name] then
      job[NUMBERS[name]] = tonumber(value) or 0
    elseif TEXTS[name] and value then
      job[TEXTS[name]] = value
    elseif name == "opts" then
      opts = value
    elseif name == "parent" then
      job.parent = codec.parent_in(value)
    end
  end
  job.started = job.started + 1
  job.opts, job.raw_opts = codec.options_in(opts)
  return job
end

-- Node throws after it has begun such a job, and it stalls for ever. Here it
-- fails.
local function record_or_fault(c, id, packed, token)
  local ok, job = pcall(record, c, id, packed, token)
  if ok then
    return job
  end
  return {
    id = id, queue = c.queue, token = token, opts = {}, name = "",
    data = "{}", attempts = 0,
    deferred = "the job's data or options are not valid JSON",
  }
end

local function jobs_of(c, reply, ended, token)
  local jobs = {}
  for at = 4 + ended, #reply, 2 do
    jobs[#jobs + 1] = record_or_fault(c, reply[at], reply[at + 1], token)
  end
  return jobs
end

-- Runs the script. While the server is away it is tried again for as long as
-- the leases may last.
local function send(c, args, ended)
  local give_up = time.monotonic() + c.lock
  local pause = RETRY_MIN_MS
  while true do
    local reply, err = c.store:run("settle", c.queue, args)
    if reply then
      return reply
    elseif ended == 0 or err.kind ~= "unavailable" and err.kind ~= "timeout"
      or time.monotonic() > give_up then
      return nil, err
    end
    core.sleep(pause)
    pause = math.min(pause * 2, RETRY_MAX_MS)
  end
end

local function deliver(batch, reply, err)
  for i = 1, batch.n do
    if not reply then
      batch.err = err
    elseif reply[3 + i] < 0 then
      batch[i] = store.refusal(reply[3 + i])
    else
      batch[i] = true
    end
  end
  batch.event:set()
end

local function flush(c, batch)
  core.yield()
  if c.ending == batch then
    c.ending = nil
  end
  deliver(batch, send(c, batch.args, batch.n))
end

-- The server's clock is known to some ms, and a job may be shorter than that: it
-- does not end before it began.
local function end_time(c)
  local now, began = time.now(), c.began_until
  return began and began > now and began - now < BEHIND_MAX_MS and began or now
end

-- Where the last of those that end alike begin is batch.alike: how many they are
-- stands at +6. Jobs that fail differ by their stacks.
local function put_end(batch, kind, job, text, stack, keep, n)
  local args, alike = batch.args, batch.alike
  local at = #args
  if alike and args[alike + 1] == kind and args[alike + 2] == job.token
    and args[alike + 3] == keep and args[alike + 4] == n
    and args[alike + 5] == stack then
    args[alike + 6] = args[alike + 6] + 1
  else
    batch.alike = at
    args[at + 1], args[at + 2], args[at + 3] = kind, job.token, keep
    args[at + 4], args[at + 5], args[at + 6] = n, stack, 1
    at = at + 6
  end
  args[at + 1], args[at + 2] = job.id, text
end

--- Ends a job; gives true, or nil and why not.
---@param c perigee.queue.redis.Settler
---@param kind "c"|"f"|"r"|"w"
---@param job perigee.queue.Record
---@param text string # result, or why
---@param stack string
---@param keep string
---@param n integer
function M.finish(c, kind, job, text, stack, keep, n)
  local batch = c.ending
  if not batch or batch.n >= BATCH then
    local args = header(c, 0, "", end_time(c))
    batch = { args = args, n = 0, event = core.event() }
    c.ending = batch
    core.start(flush, c, batch)
  end
  local place = batch.n + 1
  batch.n = place
  put_end(batch, kind, job, text, stack, keep, n)
  batch.event:wait()
  if batch.err then
    return nil, batch.err
  elseif batch[place] ~= true then
    return nil, batch[place]
  end
  return true
end

--- The jobs that a reply has brought, and what else it says.
---@param c perigee.queue.redis.Settler
---@param reply any[]
---@param token string
---@return perigee.queue.Record[] jobs
---@return integer limited # ms for which a limit holds
---@return integer due # when the next delayed one is; 0: none
function M.fetched(c, reply, token)
  return jobs_of(c, reply, 0, token), reply[2], reply[3]
end

--- Begins jobs, n at most. Not in one step with ends that wait to be sent: so the
--- server has them to work on while the jobs that this one gives are run.
--- Without an answer nobody knows whether some have begun: `unheard` has the token.
---@param c perigee.queue.redis.Settler
---@param n integer
---@return perigee.queue.Record[]? jobs
---@return perigee.Error|integer limited # ms for which a limit holds
---@return integer due # when the next delayed one is; 0: none
function M.fetch(c, n)
  local token = c.token()
  local reply, err = send(c, header(c, n, token), 0)
  if not reply then
    c.unheard[token] = time.monotonic()
    return nil, err, 0
  end
  return M.fetched(c, reply, token)
end

--- The same as a command that may lie in wait: it goes by the server's clock.
---@param c perigee.queue.redis.Settler
---@param n integer
---@param token string
---@param ahead integer # ms by which our clock is ahead of the server's
---@return string
function M.fetch_later(c, n, token, ahead)
  return redis.encode("EVALSHA", c.store:sha "settle", 1, c.root,
    header(c, n, token, ("%+d"):format(ahead)))
end

--- Puts jobs back in front of their queue, in one step.
---@param c perigee.queue.redis.Settler
---@param jobs table<string, perigee.queue.Record>
function M.give_back(c, jobs)
  local batch = { args = header(c, 0, "") }
  for _, job in pairs(jobs) do
    put_end(batch, "w", job, "", "", "", 0)
  end
  if batch.alike then
    c.store:run("settle", c.queue, batch.args)
  end
end

return M
