--- Queues in Redis: how jobs are taken and begin, as parts of scripts.

-- What scripts are put together from: see parts.lua.
local M = {}

M.begin = { needs = { "places" }, source = [[
-- A job's fields, as they are handed out: names and values in turn; of a job
-- that is gone none.
local function read(Q, id)
  return call('HGETALL', Q .. id)
end

local function field(v, name)
  for i = 1, #v, 2 do
    if v[i] == name then
      return v[i + 1]
    end
  end
  return nil
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
  if field(v, 'defa') or int(field(v, 'stc')) < SUSPECT then
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
  local added, started = field(v, 'timestamp'), field(v, 'ats')
  local stamp = (tonumber(added) or 0) > run.now and added or run.stamp
  started = started and text(int(started) + 1) or '1'
  if want.worker ~= '' then
    call('HSET', J, 'processedOn', stamp, 'ats', started, 'pb',
      want.worker)
  else
    call('HSET', J, 'processedOn', stamp, 'ats', started)
  end
  out[#out + 1] = id
  out[#out + 1] = cmsgpack.pack(v)
end
]] }

M.fetch = { needs = { "turns" }, source = [[
local function in_order(run, n)
  local Q = run.Q
  local ids = pop(Q, n)
  for i = 1, #ids do
    local id = ids[i]
    local v = read(Q, id)
    if #v > 0 and not stands_back(Q, id, v, run.now) then
      begin(run, id, v)
    end
  end
end

-- want: n token lock worker max duration. Appends to out what was begun: id
-- and packed fields of each, as they were before. Gives how many, how long the limit holds, and whether
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

return M
