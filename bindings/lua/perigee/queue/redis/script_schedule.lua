--- Queues in Redis: the scripts of schedules (BullMQ's job schedulers).

local parts = require "perigee.queue.redis.parts"

local M = {}

parts.iterations = { needs = { "store", "removal" }, source = [[
local function iteration(Q, key, at, now, job)
  job.id = 'repeat:' .. key .. ':' .. text(at)
  job.timestamp, job.delay = now, math.max(at - now, 0)
  job.repeat_key = key
  call('INCR', Q .. 'id')
  ensure_meta(Q)
  store(Q, job)
  enqueue(Q, job)
  return job.id
end

-- The one that waits for its time; false when it runs or has gone.
local function drop_pending(Q, key)
  local score = call('ZSCORE', Q .. 'repeat', key)
  local id = score and 'repeat:' .. key .. ':' .. text(tonumber(score))
  if not id then
    return false
  end
  if call('ZREM', Q .. 'delayed', id) == 1
    or call('ZREM', Q .. 'prioritized', id) == 1
    or call('LREM', meta(Q).target, 0, id) > 0 then
    unpark(Q, id)
    delete_keys(Q, id)
    return true
  end
  return false
end
]] }

-- When a schedule is next, and whether the job for that has yet to end. One that
-- nobody was there for is not waited for where nothing is caught up with.
parts.next_iteration = { source = [[
local LATE = 2000
local function next_iteration(Q, key, now)
  local score = redis.call('ZSCORE', Q .. 'repeat', key)
  local id = string.format('repeat:%s:%.0f', key, score or 0)
  local live = score and redis.call('EXISTS', Q .. id) == 1
    and not redis.call('ZSCORE', Q .. 'completed', id)
    and not redis.call('ZSCORE', Q .. 'failed', id)
  if live and tonumber(score) < now - LATE
    and redis.call('HGET', Q .. 'repeat:' .. key, 'catchUp') == 'none'
    and redis.call('ZSCORE', Q .. 'delayed', id) then
    return score, false
  end
  return score, live
end
]] }

--- Puts a schedule in place of what there was, unless it is there: another worker
--- of the same code has put it meanwhile. KEYS: root. ARGV: id, now, when
--- it is next, name, data, options of its jobs (JSON), priority, lifo, then the
--- fields of its hash. Gives when it is next; -10: that job is there already.
M.schedule = parts.compose({ "iterations", "next_iteration" }, [[
local Q, key, now = KEYS[1] .. ':', ARGV[1], tonumber(ARGV[2])
local at = tonumber(ARGV[3])
local hash = Q .. 'repeat:' .. key
local function is_there()
  local old, known = call('HGETALL', hash), {}
  for i = 1, #old, 2 do
    local name = old[i]
    known[name] = old[i + 1]
  end
  known.ic, known.offset = nil, nil
  for i = 9, #ARGV, 2 do
    local name = ARGV[i]
    if name ~= 'offset' then
      if known[name] ~= ARGV[i + 1] then
        return false
      end
      known[name] = nil
    end
  end
  return next(known) == nil
end
local score, live = next_iteration(Q, key, now)
if live and is_there() then
  return score
end
local count = call('HGET', hash, 'ic') or '1'
drop_pending(Q, key)
if call('EXISTS', Q .. 'repeat:' .. key .. ':' .. text(at)) == 1 then
  return -10
end
call('DEL', hash)
call('HSET', hash, 'ic', count, unpack(ARGV, 9))
call('ZADD', Q .. 'repeat', text(at), key)
iteration(Q, key, at, now, {
  name = ARGV[4], data = ARGV[5], opts = ARGV[6],
  priority = tonumber(ARGV[7]), lifo = ARGV[8] == '1',
})
return text(at)
]])

--- What the next iteration is made from, and whether the one that is due is
--- there. KEYS: root. ARGV: id of the schedule, now.
M.schedule_read = parts.compose({ "next_iteration" }, [[
local Q = KEYS[1] .. ':'
local score, live = next_iteration(Q, ARGV[1], tonumber(ARGV[2]))
return { score, redis.call('HGETALL', Q .. 'repeat:' .. ARGV[1]),
  live and 1 or 0 }
]])

--- The iteration after one that has begun; once, whoever asks. KEYS: root. ARGV:
--- id of the schedule, now, id of the job that has begun, when it is next, name,
--- options, priority, lifo, data for a schedule without. Gives 1, or 0 when
--- there is nothing to do.
M.schedule_next = parts.compose({ "iterations" }, [[
local Q, key, now = KEYS[1] .. ':', ARGV[1], tonumber(ARGV[2])
local at = tonumber(ARGV[4])
local score = call('ZSCORE', Q .. 'repeat', key)
if not score
  or 'repeat:' .. key .. ':' .. text(tonumber(score)) ~= ARGV[3] then
  return 0
end
local id = 'repeat:' .. key .. ':' .. text(at)
if call('EXISTS', Q .. id) == 1 then
  evt(Q, 'duplicated', 'jobId', id)
  return 0
end
call('ZADD', Q .. 'repeat', text(at), key)
local hash = Q .. 'repeat:' .. key
call('HINCRBY', hash, 'ic', 1)
iteration(Q, key, at, now, {
  name = ARGV[5], opts = ARGV[6], priority = tonumber(ARGV[7]),
  lifo = ARGV[8] == '1', data = call('HGET', hash, 'data') or ARGV[9],
})
if call('EXISTS', Q .. ARGV[3]) == 1 then
  call('HSET', Q .. ARGV[3], 'nrjid', id)
end
return 1
]])

--- KEYS: root. ARGV: id of the schedule. Gives whether there was one.
M.unschedule = parts.compose({ "iterations" }, [[
local Q, key = KEYS[1] .. ':', ARGV[1]
local score = call('ZSCORE', Q .. 'repeat', key)
if not score then
  return 0
end
local id = 'repeat:' .. key .. ':' .. text(tonumber(score))
if drop_pending(Q, key) then
  evt(Q, 'removed', 'jobId', id, 'prev', 'delayed')
end
call('ZREM', Q .. 'repeat', key)
call('DEL', Q .. 'repeat:' .. key)
return 1
]])

--- All: id, score, hash of each. KEYS: root.
M.schedules = [[
local call, Q, out = redis.call, KEYS[1] .. ':', {}
local list = call('ZRANGE', Q .. 'repeat', 0, -1, 'WITHSCORES')
for i = 1, #list, 2 do
  out[#out + 1], out[#out + 2] = list[i], list[i + 1]
  out[#out + 1] = call('HGETALL', Q .. 'repeat:' .. list[i])
end
return out
]]

return M
