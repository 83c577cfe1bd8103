--- Queues in Redis: the scripts that add jobs.

local parts = require "perigee.queue.redis.parts"

local M = {}

--- Jobs without delay, priority, id of their own, parent. KEYS: the queue's
--- root. ARGV: now, then name, data, options of each. Gives the first id; the
--- others follow it.
M.add_plain = parts.compose({ "store" }, [[
local Q, now = KEYS[1] .. ':', ARGV[1]
local n = (#ARGV - 1) / 3
local first = call('INCRBY', Q .. 'id', n) - n + 1
ensure_meta(Q)
local events, ids = Q .. 'events', {}
for i = 1, n do
  local id, at = text(first + i - 1), 3 * i - 1
  local name = ARGV[at]
  call('HSET', Q .. id, 'name', name, 'data', ARGV[at + 1], 'opts',
    ARGV[at + 2], 'timestamp', now, 'delay', '0', 'priority', '0')
  call('XADD', events, '*', 'event', 'added', 'jobId', id, 'name', name)
  call('XADD', events, '*', 'event', 'waiting', 'jobId', id)
  ids[i] = id
end
for i = 1, n, 1000 do
  call('LPUSH', meta(Q).target, unpack(ids, i, math.min(i + 999, n)))
end
call('XTRIM', events, 'MAXLEN', '~', meta(Q).events)
wake(Q)
return first
]])

--- Any jobs, of several queues too, children after their parent. KEYS: the
--- queues' roots. ARGV: now, then 14 texts for each job, as perigee.queue.redis
--- .entry writes them. Gives for each its id, or the id of the one that is
--- there already after a "=", or an error's number.
M.add = parts.compose({ "store", "parents", "dedup" }, [[
local FIELDS = 14
local now = tonumber(ARGV[1])

local function adopt(Q, job)
  local J = Q .. job.id
  local v = call('HMGET', J, 'parentKey', 'returnvalue', 'finishedOn')
  if v[1] and v[1] ~= job.parent_key and call('EXISTS', v[1]) == 1 then
    return false
  end
  local parent = cjson.decode(job.parent)
  if call('ZSCORE', Q .. 'completed', job.id) then
    call('HSET', job.parent_key .. ':processed', J, v[2] or 'null')
    if call('SCARD', job.parent_key .. ':dependencies') == 0 then
      release_parent(parent.queueKey .. ':', parent.id, now)
    end
  else
    call('SADD', job.parent_key .. ':dependencies', J)
  end
  call('HSET', J, 'parentKey', job.parent_key, 'parent', job.parent)
  return true
end

local function add(Q, job)
  local child = job.parent_key ~= ''
  if child and call('EXISTS', job.parent_key) == 0 then
    return -5
  end
  local counter = call('INCR', Q .. 'id')
  ensure_meta(Q)
  if job.id == '' then
    job.id = text(counter)
  elseif call('EXISTS', Q .. job.id) == 1 then
    if child and not adopt(Q, job) then
      return -7
    end
    evt(Q, 'duplicated', 'jobId', job.id)
    return '=' .. job.id
  end
  local owner = job.dedup and deduplicate(Q, job)
  if owner then
    return '=' .. owner
  end
  store(Q, job)
  enqueue(Q, job)
  if child then
    call('SADD', job.parent_key .. ':dependencies', Q .. job.id)
  end
  return job.id
end

-- A child that is another's: nothing is added.
for at = 1, #ARGV - FIELDS, FIELDS do
  local id, parent_key = ARGV[at + 3], ARGV[at + 10]
  if id ~= '' and parent_key ~= '' then
    local other = call('HGET', KEYS[tonumber(ARGV[at + 1])] .. ':' .. id,
      'parentKey')
    if other and other ~= parent_key and call('EXISTS', other) == 1 then
      return { -7 }
    end
  end
end

local out = {}
for i = 1, (#ARGV - 1) / FIELDS do
  local at = (i - 1) * FIELDS + 1
  local flags = ARGV[at + 2]
  local job = {
    id = ARGV[at + 3], name = ARGV[at + 4], data = ARGV[at + 5],
    opts = ARGV[at + 6], timestamp = int(ARGV[at + 7]),
    delay = int(ARGV[at + 8]), priority = int(ARGV[at + 9]),
    parent_key = ARGV[at + 10], parent = ARGV[at + 11],
    repeat_key = ARGV[at + 12], dedup_id = ARGV[at + 13],
    lifo = string.find(flags, 'l', 1, true),
    has_children = string.find(flags, 'p', 1, true),
  }
  if job.dedup_id ~= '' then
    job.dedup = {
      id = job.dedup_id, ttl = int(ARGV[at + 14]),
      extend = string.find(flags, 'e', 1, true),
      replace = string.find(flags, 'r', 1, true) and not job.has_children,
      last = string.find(flags, 'k', 1, true),
    }
  end
  out[i] = add(KEYS[tonumber(ARGV[at + 1])] .. ':', job)
end
return out
]])

return M
