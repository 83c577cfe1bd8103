--- Queues in Redis: the scripts of those who run jobs.

local parts = require "perigee.queue.redis.parts"

local M = {}

local BEGIN = { needs = { "places" }, source = [[
-- What of a job is handed out, in this order; M.FIELDS says it to the caller.
local function read(Q, id)
  return call('HMGET', Q .. id, 'name', 'data', 'opts', 'timestamp', 'delay',
    'priority', 'atm', 'ats', 'stc', 'rjk', 'defa', 'parent', 'progress')
end

local function exists(Q, id, v)
  return v[1] or v[2] or v[4] or call('EXISTS', Q .. id) == 1
end

-- How many may be started now; else why not, in ms, or 0.
local function room(Q, n, worker_max)
  local m = meta(Q)
  local most = m.max or worker_max
  if most then
    local key = Q .. 'limiter'
    local count = int(call('GET', key))
    if count >= most then
      local left = call('PTTL', key)
      if left > 0 then
        return 0, left
      elseif left == 0 then
        call('DEL', key)
        count = 0
      else
        count = most - n -- it does not expire: no limit
      end
    end
    n = math.min(n, most - count)
  end
  if m.paused then
    return 0, 0
  end
  if m.concurrency then
    n = math.min(n, m.concurrency - call('LLEN', Q .. 'active'))
  end
  return n, 0
end

local function pop(Q, n)
  local ids = {}
  while #ids < n do
    local some = call('RPOP', Q .. 'wait', n - #ids)
    if not some or #some == 0 then
      break
    end
    for i = 1, #some do
      -- Marks of old versions look like that.
      if string.sub(some[i], 1, 2) ~= '0:' then
        ids[#ids + 1] = some[i]
      end
    end
  end
  if #ids < n then
    local some = call('ZPOPMIN', Q .. 'prioritized', n - #ids)
    for i = 1, #some, 2 do
      ids[#ids + 1] = some[i]
    end
    if #ids < n then
      call('DEL', Q .. 'pc')
    end
  end
  return ids
end

local function rate(Q, n, duration)
  local m = meta(Q)
  local window = duration or m.duration
  if window and (m.max or duration) and n > 0
    and call('INCRBY', Q .. 'limiter', n) == n then
    call('PEXPIRE', Q .. 'limiter', window)
  end
end

-- A job that was there when its worker died, twice, runs beside no other such:
-- then what it does is not held against them.
local SUSPECT, AGAIN_MS = 2, 250
local has_suspect = false

local function stands_back(Q, id, v, now)
  if v[11] or int(v[9]) < SUSPECT then
    return false
  end
  local other = call('GET', Q .. 'suspect')
  if has_suspect
    or other and other ~= id and call('LPOS', Q .. 'active', other) then
    delay_until(Q, id, now + AGAIN_MS)
    wake_delay(Q)
    return true
  end
  has_suspect = true
  call('SET', Q .. 'suspect', id, 'PX', 3600000)
  return false
end

-- run: what fetch does in one go.
local function begin(run, id, v)
  local Q, want, out = run.Q, run.want, run.out
  local J = Q .. id
  run.began[#run.began + 1] = id
  call('SET', J .. ':lock', want.token, 'PX', want.lock)
  call('XADD', Q .. 'events', '*', 'event', 'active', 'jobId', id, 'prev',
    'waiting')
  -- Clocks of two machines differ: no job begins before it was added.
  local stamp = (tonumber(v[4]) or 0) > run.now and v[4] or run.stamp
  local started = v[8] and text(int(v[8]) + 1) or '1'
  if want.worker ~= '' then
    call('HSET', J, 'processedOn', stamp, 'ats', started, 'pb',
      want.worker)
  else
    call('HSET', J, 'processedOn', stamp, 'ats', started)
  end
  v[8] = started
  local at = #out + 1
  out[at] = id
  for k = 1, 13 do
    out[at + k] = v[k]
  end
end
]] }

local FETCH = { needs = { "turns" }, source = [[
local function in_order(run, n)
  local Q = run.Q
  local ids = pop(Q, n)
  for i = 1, #ids do
    local id = ids[i]
    local v = read(Q, id)
    if exists(Q, id, v) and not stands_back(Q, id, v, run.now) then
      begin(run, id, v)
    end
  end
end

-- want: n token lock worker max duration. Appends to out what was begun: id
-- and fields of each. Gives how many, how long the limit holds, and whether
-- there is more to look at.
local function fetch(Q, now, want, out)
  promote(Q, now)
  if meta(Q).groups then
    reopen(Q, now)
  end
  local n, left = room(Q, want.n, want.max)
  if n <= 0 then
    return 0, left, false
  end
  local run = { Q = Q, now = now, stamp = text(now), want = want, out = out,
    began = {} }
  local take = meta(Q).groups and in_turn or in_order
  take(run, n)
  local count = #run.began
  if count > 0 then
    call('LPUSH', Q .. 'active', unpack(run.began))
    rate(Q, count, want.duration)
  end
  return count, 0, run.more
end

-- The next sleeper is woken if there is work left for it.
local function chain(Q)
  if call('LLEN', Q .. 'wait') > 0 or call('ZCARD', Q .. 'prioritized') > 0
    or has_turns(Q) then
    wake(Q)
  end
end

local function next_due(Q)
  return floor(first_due(Q) or 0)
end
]] }

local SETTLE = { needs = { "parents", "removal", "store" }, source = [[
-- Calls are what a script's time goes to. So locks are read for all at once, and
-- deleted so with the keys of jobs that are not kept; so is whether any of them
-- has more than a hash, which few have, what is written of those that completed,
-- and what leaves the tail of `active`: mostly these are those that began first.
local locks, unlocked, dead = {}, {}, {}
local groups = {} -- of those that had one
local completed_now = {}
local any_more = false
local tail, tail_count, cut = {}, 0, {}

local function read_tail(Q, n)
  local oldest = call('LRANGE', Q .. 'active', -n, -1)
  tail_count = #oldest
  for i = 1, tail_count do
    local id = oldest[i]
    tail[id] = true
  end
end

local function read_all(Q)
  local ids, keys, more = {}, {}, {}
  for at = 9, #ARGV, 7 do
    local J, n = Q .. ARGV[at + 1], #more
    ids[#ids + 1] = ARGV[at + 1]
    keys[#keys + 1] = J .. ':lock'
    more[n + 1], more[n + 2] = J .. ':dependencies', J .. ':unsuccessful'
    if ARGV[at + 5] == '0' then -- it is not kept
      more[n + 3], more[n + 4] = J .. ':logs', J .. ':processed'
      more[n + 5] = J .. ':failed'
    end
  end
  if #ids == 0 then
    return
  end
  any_more = call('EXISTS', unpack(more)) > 0
  local owners = call('MGET', unpack(keys))
  for i = 1, #ids do
    local id = ids[i]
    locks[id] = owners[i]
  end
  if not meta(Q).concurrency then -- else each counts at once
    read_tail(Q, #ids)
  end
end

local function unlock(Q, id, token)
  local owner = locks[id]
  if not owner then
    return -2
  elseif owner ~= token then
    return -6
  end
  locks[id] = false
  unlocked[#unlocked + 1] = id
  dead[#dead + 1] = Q .. id .. ':lock'
  groups[id] = leave(Q, id)
  if tail[id] then
    cut[#cut + 1] = id
    return nil
  end
  return call('LREM', Q .. 'active', -1, id) == 0 and -3 or nil
end

local function cut_tail(Q)
  if #cut > 0 and #cut == tail_count then
    call('LTRIM', Q .. 'active', 0, -tail_count - 1)
    return
  end
  for i = 1, #cut do
    call('LREM', Q .. 'active', -1, cut[i])
  end
end

local function delete_later(J)
  local n = #dead
  dead[n + 1] = J
  if any_more then
    dead[n + 2], dead[n + 3] = J .. ':logs', J .. ':dependencies'
    dead[n + 4], dead[n + 5] = J .. ':processed', J .. ':failed'
    dead[n + 6] = J .. ':unsuccessful'
  end
end

local function write_completed(Q)
  if #completed_now > 0 then
    call('ZADD', Q .. 'completed', unpack(completed_now))
    completed_now = {}
  end
end

local function write_all(Q)
  write_completed(Q)
  if #unlocked > 0 then
    cut_tail(Q)
    call('SREM', Q .. 'stalled', unpack(unlocked))
    call('DEL', unpack(dead))
  end
end

-- "Keep the last if active": the job that was put off until this one ended.
local function next_of_dedup(Q, key, dedup_id, now)
  local d = Q .. 'dn:' .. dedup_id
  local v = call('HMGET', d, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk',
    'rjk')
  call('DEL', d)
  local opts = cjson.decode(v[3])
  call('INCR', Q .. 'id')
  call('SET', key, v[4])
  local job = {
    id = v[4], name = v[1], data = v[2], opts = v[3],
    timestamp = opts.timestamp or now, delay = opts.delay or 0,
    priority = opts.priority or 0, lifo = opts.lifo, parent_key = v[5],
    parent = v[6], repeat_key = v[8], dedup_id = dedup_id,
  }
  store(Q, job)
  enqueue(Q, job)
  if v[5] and v[7] then
    call('SADD', v[7], Q .. v[4])
  end
end

local function end_dedup(Q, id, dedup_id, now)
  local key = Q .. 'de:' .. dedup_id
  if call('EXISTS', Q .. 'dn:' .. dedup_id) == 1
    and call('GET', key) == id then
    next_of_dedup(Q, key, dedup_id, now)
    return
  end
  local left = call('PTTL', key)
  if left == 0 or left == -1 and call('GET', key) == id then
    call('DEL', key)
  end
end

local function forget(Q, ids)
  for i = 1, #ids do
    delete_keys(Q, ids[i])
  end
end

-- keep: "count age limit", age in seconds, count -1: any.
local function retain(Q, state, keep, now)
  local count, age, most = string.match(keep, '(%S+) (%S+) (%S+)')
  local key = Q .. state
  age, count = tonumber(age), tonumber(count)
  if age >= 0 then
    local old = call('ZREVRANGEBYSCORE', key, text(now - age * 1000), '-inf',
      'LIMIT', 0, most)
    forget(Q, old)
    for i = 1, #old do
      call('ZREM', key, old[i])
    end
  end
  if count > 0 then
    local n = call('ZCARD', key)
    if n > count then
      forget(Q, call('ZRANGE', key, 0, n - count - 1))
      call('ZREMRANGEBYRANK', key, 0, n - count - 1)
    end
  end
end

local function measure(Q, state, count, most, now)
  if count == 0 or most == 0 then
    return
  end
  local key = Q .. 'metrics:' .. state
  local old = call('HINCRBY', key, 'count', count) - count
  local v = call('HMGET', key, 'prevTS', 'prevCount')
  if not v[1] then
    call('HSET', key, 'prevTS', text(now), 'prevCount', '0')
    return
  end
  local n = math.min(floor(now / 60000) - floor(tonumber(v[1]) / 60000), most)
  if n > 0 then
    local list = key .. ':data'
    call('LPUSH', list, text(old - int(v[2])))
    for _ = 2, n do
      call('LPUSH', list, '0')
    end
    call('LTRIM', list, 0, most - 1)
    call('HSET', key, 'prevCount', text(old), 'prevTS', text(now))
  end
end

local function decoded(text)
  local ok, value = pcall(cjson.decode, text or '{}')
  return ok and type(value) == 'table' and value or {}
end

-- A row for each attempt that failed: the last ten, or fewer where the job says
-- so.
local function add_stack(J, stack)
  local v = call('HMGET', J, 'stacktrace', 'opts')
  local rows = decoded(v[1])
  local limit = tonumber(decoded(v[2]).stackTraceLimit)
  local most = math.max(0, math.min(limit or 10, 10))
  rows[#rows + 1] = stack
  while #rows > most do
    table.remove(rows, 1)
  end
  call('HSET', J, 'stacktrace', #rows > 0 and cjson.encode(rows) or '[]')
end

local function has_children(J)
  if not any_more
    or call('EXISTS', J .. ':dependencies', J .. ':unsuccessful') == 0 then
    return nil
  end
  if call('SCARD', J .. ':dependencies') > 0 then
    -- It goes on because one has failed, and does without the others.
    if call('EXISTS', J .. ':failed') == 0 then
      return -4
    end
    call('DEL', J .. ':dependencies')
  end
  return call('ZCARD', J .. ':unsuccessful') > 0 and -9 or nil
end

-- Written down and kept, or gone.
local function put_away(Q, job, state, field, now)
  local id, J = job.id, Q .. job.id
  if job.keep == '0' then
    if job.parent_key then
      detach(Q, id, false)
    end
    delete_later(J)
    return
  end
  call('HSET', J, field, job.text, 'finishedOn', text(now), 'atm',
    text(job.made))
  if job.failed then
    call('HDEL', J, 'defa')
  end
  if job.keep == '' and state == 'completed' then
    completed_now[#completed_now + 1] = text(now)
    completed_now[#completed_now + 1] = id
    return
  end
  call('ZADD', Q .. state, text(now), id)
  if job.keep ~= '' then
    write_completed(Q)
    retain(Q, state, job.keep, now)
  end
end

local function finish(Q, job, now)
  local id, J = job.id, Q .. job.id
  local v = call('HMGET', J, 'deid', 'parentKey', 'parent', 'atm', 'timestamp')
  if not v[5] and call('EXISTS', J) == 0 then
    return -1
  end
  local why = not job.failed and has_children(J) or unlock(Q, id, job.token)
  if why then
    return why
  end
  if job.failed then
    add_stack(J, job.stack)
  end
  if v[1] then
    end_dedup(Q, id, v[1], now)
  end
  job.parent_key, job.made = v[2], int(v[4]) + 1
  if v[2] and v[3] then
    local parent = cjson.decode(v[3])
    if job.failed then
      child_failed(v[2], parent, J, job.text, now)
    else
      child_completed(v[2], parent, J, job.text, now)
    end
  end
  if job.failed then
    put_away(Q, job, 'failed', 'failedReason', now)
    evt(Q, 'failed', 'jobId', id, 'failedReason', job.text, 'prev', 'active')
    if job.made >= job.n then
      ev(Q, 'retries-exhausted', 'jobId', id, 'attemptsMade', text(job.made))
    end
  else
    put_away(Q, job, 'completed', 'returnvalue', now)
    evt(Q, 'completed', 'jobId', id, 'returnvalue', job.text, 'prev',
      'active')
  end
  return 0
end

-- Out of active into something else than its end: kind "r" is tried again after
-- n ms; "w" goes back to the front and no attempt was made.
local function put_back(Q, job, now)
  local id, J = job.id, Q .. job.id
  local v = call('HMGET', J, 'priority', 'opts', 'timestamp', 'atm')
  if not v[3] and call('EXISTS', J) == 0 then
    return -1
  end
  local why = unlock(Q, id, job.token)
  if why then
    return why
  end
  local priority = int(v[1])
  if job.kind == 'w' then
    if not park_in_front(Q, id, groups[id], priority, now) then
      if priority > 0 then
        call('ZADD', Q .. 'prioritized', priority * 4294967296, id)
        wake(Q)
      else
        push(Q, id, 0, true)
      end
    end
    evt(Q, 'waiting', 'jobId', id, 'prev', 'active')
    return 0
  end
  call('HSET', J, 'failedReason', job.text, 'atm', text(int(v[4]) + 1))
  add_stack(J, job.stack)
  if job.n > 0 then
    call('HSET', J, 'delay', text(job.n))
    delay_until(Q, id, now + job.n)
    evt(Q, 'delayed', 'jobId', id, 'delay', text(now + job.n))
    wake_delay(Q)
  else
    local ok, opts = pcall(cjson.decode, v[2] or '{}')
    push(Q, id, priority, ok and opts.lifo == true)
    evt(Q, 'waiting', 'jobId', id, 'prev', 'active')
  end
  return 0
end
]] }

parts.begin, parts.fetch, parts.settle = BEGIN, FETCH, SETTLE

--- The fields that fetch gives of each job after its id.
M.FIELDS = {
  "name", "data", "opts", "timestamp", "delay", "priority", "attempts",
  "started", "crashed", "scheduler", "deferred", "parent", "progress",
}

--- Ends jobs and begins others. KEYS: root. ARGV: now, or by how many ms, with a
--- sign, the worker's clock is ahead of the server's: then this has lain in wait,
--- and does nothing ({ -1 }) unless the worker was alive lately; how many to begin,
--- token, lock in ms, name of the worker, its limit: max and duration, points of
--- metrics; then for each that ends: kind ("c" completed, "f" failed, "r" tried
--- again, "w" given back), id, token, text, stack, keep, n (attempts, or
--- ms until the next). Gives { how many, ms of the limit, due time of the next
--- that is delayed, status of each that ended..., jobs... }.
M.settle = parts.compose({ "settle", "fetch" }, [[
local Q, now = KEYS[1] .. ':', tonumber(ARGV[1])
if string.find(ARGV[1], '^[+-]') then
  if call('EXISTS', Q .. 'alive:' .. string.match(ARGV[3], '^[^:]*')) == 0 then
    chain(Q)
    wake_delay(Q)
    return { -1 }
  end
  local t = call('TIME')
  now = now + t[1] * 1000 + floor(t[2] / 1000)
end
local points = tonumber(ARGV[8])
local out, completed, failed = { 0, 0, 0 }, 0, 0
read_all(Q)
for at = 9, #ARGV, 7 do
  local kind = ARGV[at]
  local job = {
    kind = kind, failed = kind == 'f', id = ARGV[at + 1],
    token = ARGV[at + 2], text = ARGV[at + 3], stack = ARGV[at + 4],
    keep = ARGV[at + 5], n = tonumber(ARGV[at + 6]),
  }
  local status
  if kind == 'c' or kind == 'f' then
    status = finish(Q, job, now)
    if status == 0 then
      completed = completed + (job.failed and 0 or 1)
      failed = failed + (job.failed and 1 or 0)
    end
  else
    status = put_back(Q, job, now)
  end
  out[#out + 1] = status
end
write_all(Q)
measure(Q, 'completed', completed, points, now)
measure(Q, 'failed', failed, points, now)
local want = {
  n = tonumber(ARGV[2]), token = ARGV[3], lock = ARGV[4], worker = ARGV[5],
  max = tonumber(ARGV[6]), duration = tonumber(ARGV[7]),
}
local more
if want.n > 0 then
  out[1], out[2], more = fetch(Q, now, want, out)
end
if out[1] < want.n or want.n == 0 then
  out[3] = next_due(Q)
end
if out[1] > 0 or want.n == 0 or more then
  chain(Q)
end
if completed + failed > 0 and out[1] == 0 and out[2] == 0 and out[3] == 0
  and not meta(Q).paused and call('LLEN', Q .. 'active') == 0
  and call('LLEN', Q .. 'wait') == 0
  and call('ZCARD', Q .. 'prioritized') == 0 then
  ev(Q, 'drained')
end
return out
]])

--- Renews locks. KEYS: root. ARGV: lock in ms, then id and token of each. Gives
--- the ids of those that are lost.
M.renew = parts.compose({}, [[
local call, Q, lost = redis.call, KEYS[1] .. ':', {}
for i = 2, #ARGV, 2 do
  local lock = Q .. ARGV[i] .. ':lock'
  if call('GET', lock) == ARGV[i + 1] then
    call('PEXPIRE', lock, ARGV[1])
    call('SREM', Q .. 'stalled', ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
]])

local RECOVER = { needs = { "groups" }, source = [[
local function of_live_schedule(Q, key)
  return key and (call('EXISTS', Q .. 'repeat:' .. key) == 1
    or call('ZSCORE', Q .. 'repeat', key))
end

-- Back to the front: whoever had it is gone.
local function recover(Q, id, most, now)
  if call('LREM', Q .. 'active', 1, id) == 0 then
    return false
  end
  local group = leave(Q, id)
  if call('EXISTS', Q .. id) == 0 then
    return false
  end
  if call('HINCRBY', Q .. id, 'stc', 1) > most
    and not of_live_schedule(Q, call('HGET', Q .. id, 'rjk')) then
    call('HSET', Q .. id, 'defa', 'job stalled more than allowable limit')
    group = nil -- it is failed by whoever takes it, and does not run
  end
  if not park_in_front(Q, id, group, int(call('HGET', Q .. id, 'priority')),
    now) then
    push(Q, id, 0, true)
  end
  ev(Q, 'waiting', 'jobId', id, 'prev', 'active')
  ev(Q, 'stalled', 'jobId', id)
  return true
end
]] }
parts.recover = RECOVER

--- Looks for jobs whose lock has run out. KEYS: root. ARGV: now, how often this
--- is done by the fleet (ms), how often a job may stall, who asks, and for how
--- long (ms) that shows that it is alive. Gives the ids of those that wait again.
--- A key of our own paces it: Node's is set for as long as Node's interval, which
--- may be longer than a lock.
M.stalled = parts.compose({ "recover", "group_check" }, [[
local Q = KEYS[1] .. ':'
call('SET', Q .. 'alive:' .. ARGV[4], '1', 'PX', ARGV[5])
if not call('SET', Q .. 'stalled-check:lease', ARGV[1], 'PX', ARGV[2], 'NX') then
  return {}
end
call('SET', Q .. 'stalled-check', ARGV[1], 'PX', ARGV[2], 'NX')
local out, key = {}, Q .. 'stalled'
local ids = call('SMEMBERS', key)
call('DEL', key)
for i = 1, #ids do
  if call('EXISTS', Q .. ids[i] .. ':lock') == 0
    and recover(Q, ids[i], tonumber(ARGV[3]), tonumber(ARGV[1])) then
    out[#out + 1] = ids[i]
  end
end
local active = call('LRANGE', Q .. 'active', 0, -1)
for i = 1, #active, 1000 do
  call('SADD', key, unpack(active, i, math.min(i + 999, #active)))
end
check_groups(Q, tonumber(ARGV[1]), active)
return out
]])

--- Active jobs: of each its id, who has it, and why it is to be cancelled, if
--- it is. KEYS: root.
M.owners = parts.compose({}, [[
local call, Q, out = redis.call, KEYS[1] .. ':', {}
local active = redis.call('LRANGE', Q .. 'active', 0, -1)
for i = 1, #active do
  local token = call('GET', Q .. active[i] .. ':lock')
  if token then
    out[#out + 1] = active[i]
    out[#out + 1] = token
    out[#out + 1] = call('HGET', Q .. active[i], 'cancel') or ''
  end
end
return out
]])

--- Jobs of a worker that has died. KEYS: root. ARGV: now, how often it may happen
--- to a job, then id and token of each.
M.abandoned = parts.compose({ "recover" }, [[
local Q, out = KEYS[1] .. ':', {}
for i = 3, #ARGV, 2 do
  local lock = Q .. ARGV[i] .. ':lock'
  if call('GET', lock) == ARGV[i + 1] then
    call('DEL', lock)
    call('SREM', Q .. 'stalled', ARGV[i])
    if recover(Q, ARGV[i], tonumber(ARGV[2]), tonumber(ARGV[1])) then
      out[#out + 1] = ARGV[i]
    end
  end
end
return out
]])

--- Those that are delayed and due wait to be run; groups whose rate lets them
--- begin one again have their turn. KEYS: root. ARGV: now. Gives when there is
--- more of that, or 0.
M.due = parts.compose({ "fetch" }, [[
local Q = KEYS[1] .. ':'
promote(Q, tonumber(ARGV[1]))
if meta(Q).groups then
  reopen(Q, tonumber(ARGV[1]))
  if next_group(Q) then
    wake(Q)
  end
end
return next_due(Q)
]])

--- A worker that leaves may have taken the mark that says there is work.
M.nudge = parts.compose({ "groups" }, [[
local Q = KEYS[1] .. ':'
if call('LLEN', Q .. 'wait') > 0 or call('ZCARD', Q .. 'prioritized') > 0
  or has_turns(Q) then
  wake(Q)
end
wake_delay(Q)
return 0
]])

return M
