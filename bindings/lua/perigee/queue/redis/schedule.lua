--- Queues in Redis: schedules, BullMQ's job schedulers. Each has one job that
--- waits for its time; whoever begins that adds the next.

local codec = require "perigee.queue.redis.codec"
local core = require "perigee.core.task"
local errors = require "perigee.error"
local json = require "perigee.json"
local log = require "perigee.log"
local store = require "perigee.queue.redis.store"
local time = require "perigee.time"

local M = {}

---@type table<string, function>
local methods = {}
M.methods = methods

local PASSES, AGAIN_MS = 60, 500
local SLOTS = 32

-- The first time of a pattern after `after`, or nil.
local function next_of(pattern, tz, after)
  local cron = require "perigee.queue.cron"
  local parsed, why = cron.parse(pattern, tz)
  if not parsed then
    return nil, why
  end
  return parsed:next(after)
end

local function text(number)
  return number and ("%.0f"):format(number)
end

local function whole(value)
  return tonumber(codec.present(value))
end

-- ---- putting a schedule ----

local function first_of_every(schedule, now, old)
  local every = schedule.every
  local from = math.max(schedule.start or now, now)
  if old.every == text(every) and old.score
    and (old.score >= from or from == now) then
    local at = math.max(old.score, now)
    if schedule.catch_up == "none" then
      at = old.score + math.ceil((at - old.score) / every) * every
    end
    return at, tonumber(old.offset) or old.score % every
  end
  return from, from % every
end

local function first_of_cron(schedule, now)
  if schedule.immediately then
    return now
  end
  return next_of(schedule.cron, schedule.tz, math.max(now, schedule.start or 0))
end

local function read(self, queue, id)
  local reply, err = self.store:run("schedule_read", queue,
    { id, time.now() })
  if not reply then
    return nil, err
  end
  local hash = codec.map(reply[2])
  hash.score = whole(reply[1])
  hash.live = reply[3] == 1
  return hash
end

-- The options of one iteration.
local function iteration_options(base, schedule, key, at, now, count)
  base.jobId = ("repeat:%s:%s"):format(key, text(at))
  base.repeatJobKey = key
  base.timestamp = now
  base.delay = math.max(at - now, 0)
  base.prevMillis = schedule.pattern and at or nil
  schedule.count = count
  base["repeat"] = schedule
  return json.encode(base)
end

local FIELDS = {
  "name", "pattern", "every", "tz", "limit", "startDate", "endDate", "offset",
  "opts", "data", "catchUp", "origin",
}

local function put_fields(args, fields)
  for _, name in ipairs(FIELDS) do
    if fields[name] then
      args[#args + 1] = name
      args[#args + 1] = fields[name]
    end
  end
end

-- Each worker of a fleet sets the schedules of its code: once is enough.
local function is_same(old, fields)
  for _, name in ipairs(FIELDS) do
    if old[name] ~= fields[name] and name ~= "offset" then
      return false
    end
  end
  return true
end

-- What has run to its end does not begin again because it was said again.
local function has_ended(old, schedule, now)
  return schedule.limit ~= nil and (tonumber(old.ic) or 0) >= schedule.limit
    or schedule.finish ~= nil and now > schedule.finish
end

local function fields_of(schedule, entry, offset)
  local plain = next(entry.opts) == nil
  return {
    name = entry.name, pattern = schedule.cron, every = text(schedule.every),
    tz = schedule.tz, limit = text(schedule.limit),
    startDate = text(schedule.start), endDate = text(schedule.finish),
    offset = text(offset), catchUp = schedule.catch_up,
    origin = schedule.origin,
    opts = not plain and codec.steady(codec.options_text(entry.opts)) or nil,
    data = entry.data ~= "{}" and codec.steady(entry.data) or nil,
  }
end

local function put(self, queue, id, schedule, entry, at, fields)
  local opts, now = entry.opts, time.now()
  local args = {
    id, now, at, entry.name, entry.data,
    iteration_options(codec.options_out(opts), {
      pattern = schedule.cron, every = schedule.every, tz = schedule.tz,
      limit = schedule.limit, startDate = schedule.start,
      endDate = schedule.finish,
    }, id, at, now, 1),
    opts.priority or 0, opts.lifo and 1 or 0,
  }
  put_fields(args, fields)
  local reply, err = self.store:run("schedule", queue, args)
  return tonumber(reply), err
end

local function time_after(schedule, at)
  if schedule.every then
    return at + schedule.every
  end
  return next_of(schedule.cron, schedule.tz, at)
end

function methods:schedule(queue, id, schedule, entry)
  local now = time.now()
  local old, err = read(self, queue, id)
  if not old then
    return nil, err
  end
  local at, offset
  if schedule.every then
    at, offset = first_of_every(schedule, now, old)
  else
    at = first_of_cron(schedule, now)
  end
  local fields = fields_of(schedule, entry, offset)
  if is_same(old, fields) then
    if old.live then
      return { next = old.score }
    elseif has_ended(old, schedule, now) then
      return {}
    end
  end
  -- The job of a time may be there already, and run: then the next one is.
  for _ = 1, SLOTS do
    if not at or schedule.finish and at > schedule.finish then
      return nil, errors.new("invalid", "the schedule has no time to come")
    end
    local put_at
    put_at, err = put(self, queue, id, schedule, entry, at, fields)
    if not put_at then
      return nil, err
    elseif put_at >= 0 then
      return { next = put_at }
    end
    at = time_after(schedule, at)
  end
  return nil, store.refusal(-10)
end

function methods:unschedule(queue, id)
  local n, err = self.store:run("unschedule", queue, { id })
  if not n then
    return nil, err
  end
  return n == 1
end

function methods:schedules(queue)
  local reply, err = self.store:run("schedules", queue)
  if not reply then
    return nil, err
  end
  local out = {}
  for i = 1, #reply, 3 do
    local hash = codec.map(reply[i + 2])
    out[#out + 1] = {
      id = reply[i], next = tonumber(reply[i + 1]), cron = hash.pattern,
      every = tonumber(hash.every), tz = hash.tz,
      limit = tonumber(hash.limit), start = tonumber(hash.startDate),
      finish = tonumber(hash.endDate), iterations = tonumber(hash.ic),
      catch_up = hash.catchUp, origin = hash.origin,
    }
  end
  return out
end

-- ---- going on ----

local function after_every(every, hash, now)
  local score = hash.score
  local at = score + every
  if at < now and hash.catchUp ~= "all" then
    local offset = tonumber(hash.offset) or score % every
    at = math.floor(now / every) * every + offset
    if at <= now then
      at = at + every
    end
  end
  return at
end

local function after_cron(pattern, tz, raw, hash, now)
  local prev = whole(raw.prevMillis) or 0
  if hash.catchUp ~= "all" or prev == 0 then
    prev = math.max(now, prev)
  end
  local at, why = next_of(pattern, tz, prev)
  if why then
    error(errors.new("invalid", "%s", why)) -- somebody else's pattern
  end
  return at
end

-- When the iteration after this job is, and its options; nil: there is none.
local function following(self, job)
  local raw = job.raw_opts or {}
  local rep = codec.present(raw["repeat"])
  if type(rep) ~= "table" then
    return nil
  end
  local count = (whole(rep.count) or 1) + 1
  local limit, finish = whole(rep.limit), whole(rep.endDate)
  local now = time.now()
  if limit and count > limit or finish and now > finish then
    return nil
  end
  local hash, err = read({ store = self }, job.queue, job.scheduler)
  if not hash then
    return nil, err
  elseif not hash.score then
    return nil
  end
  local pattern, every = codec.present(rep.pattern), whole(rep.every)
  local tz, at = codec.present(rep.tz), nil
  if pattern then
    at = after_cron(pattern, tz, raw, hash, now)
  elseif every and every > 0 then
    at = after_every(every, hash, now)
  end
  if not at or finish and at > finish then
    return nil
  end
  return at, nil, count, now
end

local function copy(from)
  local to = {}
  for key, value in pairs(from) do
    to[key] = value
  end
  return to
end

-- true, or nil and an error for which to try again.
local function go_on(self, job)
  local at, err, count, now = following(self, job)
  if not at then
    return not err or nil, err
  end
  local opts = iteration_options(copy(job.raw_opts),
    copy(job.raw_opts["repeat"]), job.scheduler, at, now, count)
  local done
  done, err = self:run("schedule_next", job.queue, {
    job.scheduler, now, job.id, at, job.name, opts, job.opts.priority or 0,
    job.opts.lifo and 1 or 0, job.data,
  })
  return done and true, err
end

local function persist(self, job)
  for _ = 1, PASSES do
    core.sleep(AGAIN_MS)
    local done, err = go_on(self, job)
    if done then
      return
    end
    log.warn("a schedule's next job could not be added", {
      queue = job.queue, schedule = job.scheduler, err = err,
    })
  end
end

--- Adds the iteration after a job that has begun, if nobody has.
---@param self perigee.queue.redis.Store
---@param job perigee.queue.Record
function M.continue(self, job)
  local _, colons = job.scheduler:gsub(":", "")
  if colons >= 4 then
    return -- of a version before schedulers
  end
  local ok, done, err = pcall(go_on, self, job)
  if not ok then
    log.error("a schedule's next job could not be made", {
      queue = job.queue, schedule = job.scheduler, err = done,
    })
  elseif not done and err then
    core.spawn_detached(persist, self, job)
  end
end

return M
