--- Queues in Redis: how jobs that ran end or go back, as a part of scripts.

-- What scripts are put together from: see parts.lua.
local M = {}

M.settle = { needs = { "parents", "removal", "store" }, source = [[
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

-- Those that end alike come after what they have in common: kind, token, keep, n,
-- stack, how many; then id and text of each.
local ids, texts, ends = {}, {}, {}

local function read_ends(at)
  local n = 0
  while at <= #ARGV do
    local kind = ARGV[at]
    local alike = {
      kind = kind, failed = kind == 'f', ended = kind == 'f' or kind == 'c',
      token = ARGV[at + 1], keep = ARGV[at + 2], n = tonumber(ARGV[at + 3]),
      stack = ARGV[at + 4],
    }
    local last = at + 2 * ARGV[at + 5] + 5
    for i = at + 6, last, 2 do
      n = n + 1
      ids[n], texts[n], ends[n] = ARGV[i], ARGV[i + 1], alike
    end
    at = last + 1
  end
end

local function read_all(Q)
  local keys, more = {}, {}
  for i = 1, #ids do
    local J, n = Q .. ids[i], #more
    keys[i] = J .. ':lock'
    more[n + 1], more[n + 2] = J .. ':dependencies', J .. ':unsuccessful'
    if ends[i].keep == '0' then -- it is not kept
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
  local group = leave(Q, id)
  if group then
    groups[id] = group -- nil would make the table grow, too
  end
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
    call('HDEL', J, 'defa', 'cancel')
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

-- The most frequent end, with nobody else to tell: it has completed and goes.
-- nil: it is more than that.
local function finish_plainly(Q, id, text, token)
  local v = call('HMGET', Q .. id, 'deid', 'parentKey', 'timestamp')
  if v[1] or v[2] or not v[3] then
    return nil
  end
  local why = unlock(Q, id, token)
  if why then
    return why
  end
  dead[#dead + 1] = Q .. id
  evt(Q, 'completed', 'jobId', id, 'returnvalue', text, 'prev', 'active')
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

-- The i-th of those that end. Gives 0 or why not.
local function settle_one(Q, i, now)
  local how, id = ends[i], ids[i]
  if how.kind == 'c' and how.keep == '0' and not any_more then
    local status = finish_plainly(Q, id, texts[i], how.token)
    if status then
      return status
    end
  end
  local job = {
    kind = how.kind, failed = how.failed, id = id, token = how.token,
    text = texts[i], stack = how.stack, keep = how.keep, n = how.n,
  }
  return (how.ended and finish or put_back)(Q, job, now)
end
]] }

return M
