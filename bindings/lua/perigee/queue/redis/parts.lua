--- Queues in Redis: what the scripts that run in the server are put together
--- from. Each part is Lua for the server; `needs` names the parts before it.
--- The layout of the keys is BullMQ's (docs/queue.md): P:QUEUE is a queue's
--- root, `Q` stands for the root and a colon, `J` for Q and a job's id.

local M = {}

-- What a queue's settings say, read once in a run; events; wake-ups.
M.base = { source = [[
local call, floor = redis.call, math.floor
local TURNS = 100000000000 -- of groups, see part_groups.lua: below all times
local metas = {}

local function meta(Q)
  local m = metas[Q]
  if not m then
    local v = call('HMGET', Q .. 'meta', 'paused', 'concurrency', 'max',
      'duration', 'opts.maxLenEvents', 'groups', 'group.concurrency',
      'group.max', 'group.duration')
    m = {
      paused = v[1],
      concurrency = v[2] and tonumber(v[2]),
      max = v[3] and tonumber(v[3]),
      duration = v[4] and tonumber(v[4]),
      events = v[5] or '10000',
      told = 0,
      fresh = not v[5],
      groups = v[6],
      group_concurrency = v[7] and tonumber(v[7]),
      group_max = v[8] and tonumber(v[8]),
      group_duration = v[9] and tonumber(v[9]),
      target = Q .. (v[1] and 'paused' or 'wait'),
    }
    metas[Q] = m
  end
  return m
end

local function ev(Q, ...)
  call('XADD', Q .. 'events', '*', 'event', ...)
end

-- The same for those that there are many of: now and then the oldest go.
local function evt(Q, ...)
  local m = meta(Q)
  if m.told % 64 == 0 then
    call('XADD', Q .. 'events', 'MAXLEN', '~', m.events, '*', 'event', ...)
  else
    call('XADD', Q .. 'events', '*', 'event', ...)
  end
  m.told = m.told + 1
end

local function blocked(Q)
  local m = meta(Q)
  return m.paused
    or m.concurrency and call('LLEN', Q .. 'active') >= m.concurrency
end

local function wake(Q)
  if not blocked(Q) then
    call('ZADD', Q .. 'marker', '0', '0')
  end
end

-- When there is something again by itself, in ms: a delayed job, or a group
-- whose rate lets it begin one; false: never.
local function first_due(Q)
  local first = call('ZRANGE', Q .. 'delayed', 0, 0, 'WITHSCORES')
  local due = first[2] and tonumber(first[2]) / 4096
  if meta(Q).groups then
    local group = call('ZRANGEBYSCORE', Q .. 'perigee:groups', TURNS,
      '(inf', 'WITHSCORES', 'LIMIT', 0, 1)
    due = group[2] and math.min(due or math.huge, tonumber(group[2])) or due
  end
  return due
end

local function wake_delay(Q)
  local due = first_due(Q)
  if due then
    call('ZADD', Q .. 'marker', due, '1')
  end
end

local function int(v)
  return tonumber(v or 0) or 0
end

local format = string.format

-- A whole number; %d is several times as fast.
local function text(n)
  return format(n < 9e15 and n > -9e15 and '%d' or '%.0f', n)
end
]] }

-- Places to be served from.
M.places = { needs = { "base" }, source = [[
local function prioritize(Q, id, priority)
  local n = call('INCR', Q .. 'pc')
  call('ZADD', Q .. 'prioritized', priority * 4294967296 + n % 4294967296, id)
end

local function push(Q, id, priority, right)
  if priority > 0 then
    prioritize(Q, id, priority)
  else
    call(right and 'RPUSH' or 'LPUSH', meta(Q).target, id)
  end
  wake(Q)
end

-- 12 bits below the millisecond keep the order of those that are due together.
local function delay_until(Q, id, due)
  local score = due * 4096
  local top = score + 4095
  local last = call('ZREVRANGEBYSCORE', Q .. 'delayed', top, score,
    'WITHSCORES', 'LIMIT', 0, 1)
  if last[2] then
    score = math.min(tonumber(last[2]) + 1, top)
  end
  call('ZADD', Q .. 'delayed', score, id)
end

local function promote(Q, now)
  local ids = call('ZRANGEBYSCORE', Q .. 'delayed', '-inf',
    (now + 1) * 4096 - 1, 'LIMIT', 0, 1000)
  if #ids == 0 then
    return
  end
  call('ZREM', Q .. 'delayed', unpack(ids))
  for i = 1, #ids do
    local id = ids[i]
    local priority = int(call('HGET', Q .. id, 'priority'))
    if priority > 0 then
      prioritize(Q, id, priority)
    else
      call('LPUSH', meta(Q).target, id)
    end
    ev(Q, 'waiting', 'jobId', id, 'prev', 'delayed')
    call('HSET', Q .. id, 'delay', '0')
  end
  wake(Q)
end
]] }

-- New jobs: their hash, and the place where they begin.
M.store = { needs = { "places" }, source = [[
local function ensure_meta(Q)
  local m = meta(Q)
  if m.fresh then
    m.fresh = false
    call('HSET', Q .. 'meta', 'opts.maxLenEvents', m.events)
  end
end

-- job: id name data opts timestamp delay priority lifo has_children
-- parent_key parent repeat_key dedup_id
local function store(Q, job)
  local f = { 'name', job.name, 'data', job.data, 'opts', job.opts,
    'timestamp', text(job.timestamp), 'delay', text(job.delay),
    'priority', text(job.priority) }
  local function put(name, value)
    if value and value ~= '' then
      f[#f + 1] = name
      f[#f + 1] = value
    end
  end
  put('parentKey', job.parent_key)
  put('parent', job.parent)
  put('rjk', job.repeat_key)
  put('deid', job.dedup_id)
  call('HSET', Q .. job.id, unpack(f))
  ev(Q, 'added', 'jobId', job.id, 'name', job.name)
end

local function enqueue(Q, job)
  local id = job.id
  if job.has_children then
    call('ZADD', Q .. 'waiting-children', text(job.timestamp), id)
    evt(Q, 'waiting-children', 'jobId', id)
  elseif job.delay > 0 then
    local due = job.timestamp + job.delay
    delay_until(Q, id, due)
    evt(Q, 'delayed', 'jobId', id, 'delay', text(due))
    wake_delay(Q)
  else
    push(Q, id, job.priority, job.lifo)
    evt(Q, 'waiting', 'jobId', id)
  end
end
]] }

-- Parents that wait for children.
M.parents = { needs = { "groups" }, source = [[
local function parent_ready(Q, id, now)
  local v = call('HMGET', Q .. id, 'priority', 'delay')
  local priority, delay = int(v[1]), int(v[2])
  if delay > 0 then
    local due = now + delay
    call('ZADD', Q .. 'delayed', due * 4096, id)
    ev(Q, 'delayed', 'jobId', id, 'delay', text(due))
    wake_delay(Q)
    return
  end
  push(Q, id, priority, true)
  ev(Q, 'waiting', 'jobId', id, 'prev', 'waiting-children')
end

local function release_parent(Q, id, now)
  if call('ZREM', Q .. 'waiting-children', id) == 1 then
    parent_ready(Q, id, now)
  end
end

local function child_completed(parent_key, parent, key, value, now)
  if call('SREM', parent_key .. ':dependencies', key) == 0 then
    return
  end
  call('HSET', parent_key .. ':processed', key, value)
  if call('SCARD', parent_key .. ':dependencies') == 0 then
    release_parent(parent.queueKey .. ':', parent.id, now)
  end
end

local function fail_parent(parent_key, parent, key, now)
  local Q, id = parent.queueKey .. ':', parent.id
  call('ZADD', parent_key .. ':unsuccessful', text(now), key)
  if call('EXISTS', parent_key) == 0 then
    return
  end
  local reason = 'child ' .. key .. ' failed'
  if call('ZREM', Q .. 'waiting-children', id) == 1 then
    call('HSET', parent_key, 'defa', reason)
    parent_ready(Q, id, now)
  elseif call('ZREM', Q .. 'delayed', id) == 1 then
    unpark(Q, id)
    call('HSET', parent_key, 'defa', reason, 'delay', '0')
    parent_ready(Q, id, now)
  elseif not call('ZSCORE', Q .. 'failed', id) then
    call('HSET', parent_key, 'defa', reason)
  end
end

local function child_failed(parent_key, parent, key, reason, now)
  if not (parent.fpof or parent.cpof or parent.idof or parent.rdof)
    or call('SREM', parent_key .. ':dependencies', key) == 0 then
    return
  end
  if parent.fpof then
    fail_parent(parent_key, parent, key, now)
    return
  end
  if not parent.rdof then
    call('HSET', parent_key .. ':failed', key, reason)
  end
  if parent.cpof or call('SCARD', parent_key .. ':dependencies') == 0 then
    release_parent(parent.queueKey .. ':', parent.id, now)
  end
end
]] }

for _, file in ipairs { "removal", "groups", "begin", "settle" } do
  for name, part in pairs(require("perigee.queue.redis.part_" .. file)) do
    M[name] = part
  end
end

--- The source of a script: the parts that it needs, each once, then its body.
--- A function is made at each run, and for each local that it uses the server
--- looks through all that functions use so far, unless it is of a function around
--- it: so the base, which all use, is outside.
---@param needs string[]
---@param body string
---@return string
function M.compose(needs, body)
  if #needs == 0 then
    return body
  end
  local out, done = { M.base.source, "return (function()" }, { base = true }
  local function add(name)
    if not done[name] then
      done[name] = true
      for _, other in ipairs(M[name].needs or {}) do
        add(other)
      end
      out[#out + 1] = M[name].source
    end
  end
  for _, name in ipairs(needs) do
    add(name)
  end
  out[#out + 1] = body
  out[#out + 1] = "end)()"
  return table.concat(out, "\n")
end

return M
