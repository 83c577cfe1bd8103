--- Queues in Redis: how jobs go, and how there is only one, as parts of scripts.

-- What scripts are put together from: see parts.lua.
local M = {}

-- Jobs that go: their keys, what others know of them.
M.removal = { needs = { "groups" }, source = [[
local function delete_keys(Q, id)
  local J = Q .. id
  return call('DEL', J, J .. ':logs', J .. ':dependencies', J .. ':processed',
    J .. ':failed', J .. ':unsuccessful', J .. ':lock')
end

local function release_dedup(Q, id, dedup_id)
  if dedup_id and call('GET', Q .. 'de:' .. dedup_id) == id then
    call('DEL', Q .. 'de:' .. dedup_id, Q .. 'dn:' .. dedup_id)
  end
end

local delete_job

-- hard: a parent that has nothing left to wait for goes, too.
local function detach(Q, id, hard)
  local v = call('HMGET', Q .. id, 'parentKey', 'parent')
  if not v[1] or not v[2]
    or call('SREM', v[1] .. ':dependencies', Q .. id) == 0
    or call('SCARD', v[1] .. ':dependencies') > 0 then
    return
  end
  local ok, parent = pcall(cjson.decode, v[2])
  if not ok then
    return
  end
  local PQ, pid = parent.queueKey .. ':', parent.id
  if call('ZREM', PQ .. 'waiting-children', pid) == 0 then
    return
  end
  if hard and PQ == Q then
    delete_job(Q, pid, true)
    return
  end
  call('RPUSH', meta(PQ).target, pid)
  wake(PQ)
  if not hard then
    ev(PQ, 'waiting', 'jobId', pid, 'prev', 'waiting-children')
  end
end

function delete_job(Q, id, hard)
  detach(Q, id, hard)
  release_dedup(Q, id, call('HGET', Q .. id, 'deid'))
  return delete_keys(Q, id)
end

local ZSETS = { 'completed', 'failed', 'delayed', 'prioritized',
  'waiting-children' }

-- Takes an id out of the state that it is in; gives the state.
local function take_out(Q, id)
  unpark(Q, id)
  for i = 1, #ZSETS do
    if call('ZREM', Q .. ZSETS[i], id) == 1 then
      return ZSETS[i]
    end
  end
  for _, list in ipairs { 'wait', 'paused', 'active' } do
    if call('LREM', Q .. list, 0, id) > 0 then
      leave(Q, id)
      return list
    end
  end
  return 'unknown'
end

-- The iteration that its schedule waits for: without it the schedule stops.
local function is_live_iteration(Q, id)
  if string.sub(id, 1, 7) ~= 'repeat:' then
    return false
  end
  local key = call('HGET', Q .. id, 'rjk')
  local score = key and call('ZSCORE', Q .. 'repeat', key)
  return score and id == 'repeat:' .. key .. ':' .. text(tonumber(score))
    or false
end
]] }

-- "Only once": BullMQ's deduplication.
M.dedup = { needs = { "removal" }, source = [[
-- Gives the id of the job that is there already, or false. job.dedup: id, ttl,
-- extend, replace, last.
local function deduplicate(Q, job)
  local d = job.dedup
  local key = Q .. 'de:' .. d.id
  local function claim(id, keep)
    if d.ttl > 0 and not d.last then
      if keep then
        call('SET', key, id, 'KEEPTTL')
      else
        call('SET', key, id, 'PX', d.ttl)
      end
    else
      call('SET', key, id)
    end
  end
  local function tell(id, other)
    evt(Q, 'debounced', 'jobId', id, 'debounceId', d.id)
    evt(Q, 'deduplicated', 'jobId', id, 'deduplicationId', d.id,
      'deduplicatedJobId', other)
  end
  local owner = call('GET', key)
  if not owner then
    claim(job.id)
    return false
  end
  if d.last then
    local place = call('LRANGE', Q .. 'active', 0, -1)
    for i = 1, #place do
      if place[i] == owner then
        call('DEL', Q .. 'dn:' .. d.id)
        call('HSET', Q .. 'dn:' .. d.id, 'name', job.name, 'data', job.data,
          'opts', job.opts, 'jid', job.id)
        call('PERSIST', key)
        tell(owner, job.id)
        return owner
      end
    end
  end
  if d.replace then
    if is_parked(Q, owner) or call('ZREM', Q .. 'delayed', owner) == 0 then
      return owner
    end
    delete_keys(Q, owner)
    ev(Q, 'removed', 'jobId', owner, 'prev', 'delayed')
    tell(job.id, owner)
    claim(job.id, not d.extend)
    return false
  end
  if d.extend and d.ttl > 0 then
    call('SET', key, owner, 'PX', d.ttl)
  end
  tell(owner, job.id)
  return owner
end
]] }

return M
