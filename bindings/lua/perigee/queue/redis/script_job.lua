--- Queues in Redis: the scripts that look at single jobs and change them.

local parts = require "perigee.queue.redis.parts"

local M = {}

parts.state = { needs = { "groups" }, source = [[
local function state_of(Q, id)
  if is_parked(Q, id) then
    return meta(Q).paused and 'paused' or 'wait'
  end
  for _, name in ipairs { 'completed', 'failed', 'delayed', 'prioritized' } do
    if redis.call('ZSCORE', Q .. name, id) then
      return name
    end
  end
  for _, name in ipairs { 'active', 'wait', 'paused' } do
    if redis.call('LPOS', Q .. name, id) then
      return name
    end
  end
  if redis.call('ZSCORE', Q .. 'waiting-children', id) then
    return 'waiting-children'
  end
  return 'unknown'
end
]] }

--- A job: its state, its hash as names and values. KEYS: root. ARGV: id.
M.job = parts.compose({ "state" }, [[
local Q = KEYS[1] .. ':'
local hash = redis.call('HGETALL', Q .. ARGV[1])
if #hash == 0 then
  return false
end
return { state_of(Q, ARGV[1]), hash }
]])

--- Children of a job: pending, results, failures. KEYS: root. ARGV: id.
M.children = [[
local call, J = redis.call, KEYS[1] .. ':' .. ARGV[1]
return {
  call('EXISTS', J), call('SCARD', J .. ':dependencies'),
  call('HGETALL', J .. ':processed'), call('HGETALL', J .. ':failed'),
  call('ZRANGE', J .. ':unsuccessful', 0, -1),
}
]]

--- KEYS: root. ARGV: id, line, how many to keep (-1: all).
M.log = [[
local call, J = redis.call, KEYS[1] .. ':' .. ARGV[1]
if call('EXISTS', J) == 0 then
  return -1
end
local n, keep = call('RPUSH', J .. ':logs', ARGV[2]), tonumber(ARGV[3])
if keep >= 0 and n > keep then
  call('LTRIM', J .. ':logs', n - keep, -1)
  return keep
end
return n
]]

--- KEYS: root. ARGV: id, JSON.
M.progress = parts.compose({ "base" }, [[
local Q = KEYS[1] .. ':'
if call('EXISTS', Q .. ARGV[1]) == 0 then
  return -1
end
call('HSET', Q .. ARGV[1], 'progress', ARGV[2])
evt(Q, 'progress', 'jobId', ARGV[1], 'data', ARGV[2])
return 0
]])

--- A job that runs is to be cut off. KEYS: root. ARGV: id, why.
M.cancel = [[
local Q = KEYS[1] .. ':'
if redis.call('EXISTS', Q .. ARGV[1]) == 0 then
  return -1
elseif not redis.call('LPOS', Q .. 'active', ARGV[1]) then
  return -3
end
redis.call('HSET', Q .. ARGV[1], 'cancel', ARGV[2])
return 0
]]

--- KEYS: root. ARGV: id, JSON.
M.update = [[
local J = KEYS[1] .. ':' .. ARGV[1]
if redis.call('EXISTS', J) == 0 then
  return -1
end
redis.call('HSET', J, 'data', ARGV[2])
return 0
]]

--- KEYS: root. ARGV: id, field, value.
M.remember = [[
local J = KEYS[1] .. ':' .. ARGV[1]
if redis.call('EXISTS', J) == 0 then
  return -1
end
redis.call('HSET', J, ARGV[2], ARGV[3])
return 0
]]

--- Ended jobs run again. KEYS: root. ARGV: id.
M.retry = parts.compose({ "places" }, [[
local Q, id = KEYS[1] .. ':', ARGV[1]
local J = Q .. id
if call('EXISTS', J) == 0 then
  return -1
end
local prev
for _, state in ipairs { 'failed', 'completed' } do
  if not prev and call('ZREM', Q .. state, id) == 1 then
    prev = state
  end
end
if not prev then
  return -3
end
call('HDEL', J, 'finishedOn', 'processedOn', 'failedReason', 'returnvalue',
  'defa', 'stc', 'cancel')
local v = call('HMGET', J, 'opts', 'parentKey')
local ok, opts = pcall(cjson.decode, v[1] or '{}')
push(Q, id, 0, ok and opts.lifo == true)
if v[2] and call('EXISTS', v[2]) == 1 then
  local known = call('ZREM', v[2] .. ':unsuccessful', J)
    + call('HDEL', v[2] .. ':failed', J) + call('HDEL', v[2] .. ':processed', J)
  if known > 0 then
    call('SADD', v[2] .. ':dependencies', J)
  end
end
evt(Q, 'waiting', 'jobId', id, 'prev', prev)
return 0
]])

--- KEYS: root. ARGV: id.
M.promote = parts.compose({ "groups" }, [[
local Q, id = KEYS[1] .. ':', ARGV[1]
if call('EXISTS', Q .. id) == 0 then
  return -1
elseif is_parked(Q, id) or call('ZREM', Q .. 'delayed', id) == 0 then
  return -3
end
push(Q, id, int(call('HGET', Q .. id, 'priority')))
call('HSET', Q .. id, 'delay', '0')
ev(Q, 'waiting', 'jobId', id, 'prev', 'delayed')
return 0
]])

--- KEYS: root. ARGV: id, delay, now.
M.change_delay = parts.compose({ "groups" }, [[
local Q, id, due = KEYS[1] .. ':', ARGV[1], ARGV[2] + ARGV[3]
if call('EXISTS', Q .. id) == 0 then
  return -1
elseif is_parked(Q, id) or call('ZREM', Q .. 'delayed', id) == 0 then
  return -3
end
call('HSET', Q .. id, 'delay', ARGV[2])
delay_until(Q, id, due)
evt(Q, 'delayed', 'jobId', id, 'delay', text(due))
wake_delay(Q)
return 0
]])

--- KEYS: root. ARGV: id, priority.
M.change_priority = parts.compose({ "groups" }, [[
local Q, id = KEYS[1] .. ':', ARGV[1]
if call('EXISTS', Q .. id) == 0 then
  return -1
end
local group = is_parked(Q, id) and group_of(Q, id)
if group then
  local key = order_key(Q, group)
  call('ZREM', key, id)
  call('ZADD', key, place(Q, group, tonumber(ARGV[2]), false), id)
elseif call('ZREM', Q .. 'prioritized', id) == 1
  or call('LREM', meta(Q).target, 0, id) > 0 then
  push(Q, id, tonumber(ARGV[2]))
end
call('HSET', Q .. id, 'priority', ARGV[2])
return 0
]])

--- KEYS: root. ARGV: id. Gives 1; 0: it runs; -1, -8.
M.remove = parts.compose({ "removal" }, [[
local function children_of(J)
  local out = {}
  local function put(list, step)
    for i = 1, #list, step do
      out[#out + 1] = list[i]
    end
  end
  put(call('SMEMBERS', J .. ':dependencies'), 1)
  put(call('HKEYS', J .. ':processed'), 1)
  put(call('HKEYS', J .. ':failed'), 1)
  put(call('ZRANGE', J .. ':unsuccessful', 0, -1), 1)
  return out
end

-- A queue's name has no colon, a prefix may have.
local function split(J)
  local parts = KEYS[1] == string.sub(J, 1, #KEYS[1])
    and string.sub(J, #KEYS[1] + 1, #KEYS[1] + 1) == ':'
  if parts then
    return KEYS[1] .. ':', string.sub(J, #KEYS[1] + 2)
  end
  local prefix = string.match(KEYS[1], '^(.*:)')
  local queue, id = string.match(string.sub(J, #prefix + 1), '^([^:]+):(.+)$')
  return prefix .. queue .. ':', id
end

local function any_locked(J)
  if call('EXISTS', J .. ':lock') == 1 then
    return true
  end
  for _, child in ipairs(call('SMEMBERS', J .. ':dependencies')) do
    if any_locked(child) then
      return true
    end
  end
  return false
end

local function remove(Q, id)
  local J = Q .. id
  for _, child in ipairs(children_of(J)) do
    call('SREM', J .. ':dependencies', child)
    if call('EXISTS', child) == 1 then
      remove(split(child))
    end
  end
  local known = call('EXISTS', J) == 1
  detach(Q, id, false)
  release_dedup(Q, id, call('HGET', J, 'deid'))
  local prev = take_out(Q, id)
  delete_keys(Q, id)
  if known then
    evt(Q, 'removed', 'jobId', id, 'prev', prev)
  end
  return known
end

local Q, id = KEYS[1] .. ':', ARGV[1]
if is_live_iteration(Q, id) then
  return -8
elseif any_locked(Q .. id) then
  return 0
end
return remove(Q, id) and 1 or -1
]])

return M
