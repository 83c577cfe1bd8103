--- Queues in Redis: operating queues and single jobs.

local codec = require "perigee.queue.redis.codec"
local errors = require "perigee.error"
local options = require "perigee.queue.options"
local store = require "perigee.queue.redis.store"
local time = require "perigee.time"

local M = {}

---@type table<string, function>
local methods = {}
M.methods = methods

-- Keys of states; the first served of a list is its last.
local KEYS = {
  waiting = { "list", "wait" }, paused = { "list", "paused" },
  active = { "list", "active" }, delayed = { "zset", "delayed" },
  prioritized = { "zset", "prioritized" },
  completed = { "zset", "completed" }, failed = { "zset", "failed" },
  waiting_children = { "zset", "waiting-children" },
}

local STATES = {
  wait = "waiting", unknown = false, ["waiting-children"] = "waiting_children",
}

local function state_of(name)
  local state = STATES[name]
  if state == nil then
    return name
  end
  return state or nil
end

function methods:counts(queue)
  local n, err = self.store:run("counts", queue)
  if not n then
    return nil, err
  end
  local counts = {
    waiting = n[1], paused = n[2], active = n[3], prioritized = n[4],
    delayed = n[5], completed = n[6], failed = n[7], waiting_children = n[8],
  }
  -- Until their groups may begin them.
  local parked = math.min(n[10], counts.delayed)
  local state = n[9] == 1 and "paused" or "waiting"
  counts.delayed = counts.delayed - parked
  counts[state] = counts[state] + parked
  return counts
end

function methods:jobs(queue, state, from, to, ascending)
  local key = KEYS[state]
  local reply, err = self.store:run("jobs", queue,
    { key[1], key[2], from, to, ascending and 1 or 0 })
  if not reply then
    return nil, err
  end
  local out = {}
  for at = 1, #reply, 2 do
    local hash = codec.map(reply[at + 1])
    if next(hash) then
      out[#out + 1] = codec.record(queue, reply[at], hash, state)
    end
  end
  return out
end

function methods:job(queue, id)
  local reply, err = self.store:run("job", queue, { id })
  if not reply then
    return nil, err
  end
  return codec.record(queue, id, codec.map(reply[2]), state_of(reply[1]))
end

function methods:logs(queue, id)
  return self.store.client:lrange(self.store:root(queue) .. ":" .. id
    .. ":logs", 0, -1)
end

function methods:log(queue, id, line, keep)
  return self.store:change("log", queue, { id, line, keep or -1 })
end

-- One that changes a job and has nothing to say but that it did.
local function change(script)
  return function(self, queue, ...)
    local done, err = self.store:change(script, queue, { ... })
    if not done then
      return nil, err
    end
    return true
  end
end

methods.progress = change "progress"
methods.update = change "update"
methods.cancel = change "cancel"
methods.retry = change "retry"
methods.promote = change "promote"
methods.change_priority = change "change_priority"
methods.pause = change "pause"
methods.resume = change "resume"

function methods:change_delay(queue, id, delay)
  local done, err = self.store:change("change_delay", queue,
    { id, delay, time.now() })
  if not done then
    return nil, err
  end
  return true
end

function methods:remove(queue, id)
  local done, err = self.store:change("remove", queue, { id })
  if done == 0 then
    return nil, errors.new("conflict", "the job runs")
  end
  return done and true, err
end

function methods:is_paused(queue)
  local found, err = self.store.client:hexists(
    self.store:root(queue) .. ":meta", "paused")
  if not found then
    return nil, err
  end
  return found == 1
end

function methods:drain(queue, delayed)
  return self.store:run("drain", queue, { delayed and 1 or 0 })
end

function methods:clean(queue, grace, limit, state)
  local key = KEYS[state]
  return self.store:run("clean", queue,
    { key[2], key[1], time.now() - grace, limit })
end

function methods:obliterate(queue, force)
  repeat
    local more, why = self.store:run("obliterate", queue,
      { force and 1 or 0, 1000 })
    if not more then
      return nil, why
    elseif more == -1 then
      return nil, errors.new("conflict", "the queue is not paused")
    elseif more == -2 then
      return nil, errors.new("conflict", "jobs of the queue run")
    end
  until more == 0
  return true
end

function methods:limit(queue, limit)
  local args = {}
  for _, one in ipairs { limit, limit.group or {} } do
    local rate = one.rate or {}
    args[#args + 1] = one.concurrency or ""
    args[#args + 1] = rate.max or ""
    args[#args + 1] = rate.duration or ""
  end
  local done, err = self.store:run("limit", queue, args)
  return done and true or nil, err
end

function methods:queues()
  local names, seen = {}, {}
  local prefix = self.store.prefix .. ":"
  local ok, err = pcall(function()
    for key in self.store.client:each {
      match = prefix:gsub("[%[%]*?\\]", "\\%0") .. "*:meta", count = 1000,
    } do
      local name = key:sub(#prefix + 1):match "^([^:]+):meta$"
      if name and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end)
  if not ok then
    return nil, errors.wrap(err)
  end
  table.sort(names)
  return names
end

-- The count of metrics if they are kept, else of what has been.
function methods:stats(queue)
  local root, out = self.store:root(queue), {}
  for _, state in ipairs { "completed", "failed" } do
    local n, err = self.store.client:hget(root .. ":metrics:" .. state, "count")
    if err then
      return nil, err
    end
    if not n then
      n = self.store.client:zcard(root .. ":" .. state)
    end
    out[state] = tonumber(n) or 0
  end
  return out
end

-- With the job's hash it goes away; Node does not look at such fields.
function methods:recall(queue, id, key)
  return self.store.client:hget(self.store:root(queue) .. ":" .. id,
    "memo:" .. key)
end

function methods:remember(queue, id, key, value)
  local done, err = self.store:change("remember", queue,
    { id, "memo:" .. key, value })
  if not done then
    return nil, err
  end
  return true
end

-- What fails says of which job.
local function named(queue, id, value, err)
  if value == nil and err then
    err = errors.wrap(err, "job %s of queue %s", id, queue)
  end
  return value, err
end

-- An id that is a key of the queue's own would have that read, or removed.
for _, name in ipairs { "job", "logs", "log", "progress", "update", "cancel",
  "retry", "promote", "change_priority", "change_delay", "remove", "recall",
  "remember" } do
  local method = methods[name]
  methods[name] = function(self, queue, id, ...)
    if options.is_job_id(id) then
      return named(queue, id, method(self, queue, id, ...))
    elseif name == "job" then
      return nil
    end
    return named(queue, id, nil, store.refusal(-1))
  end
end

return M
