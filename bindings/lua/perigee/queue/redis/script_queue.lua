--- Queues in Redis: the scripts that operate queues.

local parts = require "perigee.queue.redis.parts"

local M = {}

--- KEYS: root.
M.pause = parts.compose({ "base" }, [[
local Q = KEYS[1] .. ':'
if call('EXISTS', Q .. 'wait') == 1 then
  if call('EXISTS', Q .. 'paused') == 0 then
    call('RENAME', Q .. 'wait', Q .. 'paused')
  else
    while call('RPOPLPUSH', Q .. 'wait', Q .. 'paused') do end
  end
end
call('HSET', Q .. 'meta', 'paused', '1')
call('DEL', Q .. 'marker')
evt(Q, 'paused')
return 1
]])

--- Nothing that is in `wait` already is lost: others may put it there while
--- the queue is paused. KEYS: root.
M.resume = parts.compose({ "groups" }, [[
local Q = KEYS[1] .. ':'
local from, to = Q .. 'paused', Q .. 'wait'
if call('EXISTS', from) == 1 then
  if call('EXISTS', to) == 0 then
    call('RENAME', from, to)
  else
    local id = call('LPOP', from)
    while id do
      call('RPUSH', to, id)
      id = call('LPOP', from)
    end
  end
end
call('HDEL', Q .. 'meta', 'paused')
if call('EXISTS', to) == 1 or call('ZCARD', Q .. 'prioritized') > 0
  or has_turns(Q) then
  wake(Q)
else
  wake_delay(Q)
end
evt(Q, 'resumed')
return 1
]])

--- Limits of the whole queue and of each group. What runs already counts. KEYS:
--- root. ARGV: concurrency, max and duration of the queue, the same of groups;
--- "": none.
M.limit = parts.compose({ "groups" }, [[
local Q = KEYS[1] .. ':'
local NAMES = { 'concurrency', 'max', 'duration', 'group.concurrency',
  'group.max', 'group.duration' }
local first = not call('HGET', Q .. 'meta', 'groups')
for i = 1, #NAMES do
  if ARGV[i] ~= '' then
    call('HSET', Q .. 'meta', NAMES[i], ARGV[i])
  else
    call('HDEL', Q .. 'meta', NAMES[i])
  end
end
if first and (ARGV[4] ~= '' or ARGV[5] ~= '') then
  forget_groups(Q)
  call('HSET', Q .. 'meta', 'groups', '1')
  for _, id in ipairs(call('LRANGE', Q .. 'active', 0, -1)) do
    local group = group_of(Q, id)
    if group then
      count_in(Q, id, group)
    end
  end
end
local waiting = call('ZRANGE', Q .. 'perigee:groups', 0, -1)
for i = 1, #waiting do
  call('ZADD', Q .. 'perigee:groups', i, waiting[i])
end
wake(Q)
return 1
]])

--- Jobs of a state: id and hash of each. KEYS: root. ARGV: "list" or "zset", key,
--- from, to (-1: to the end), 1: ascending. What is parked waits: it comes after
--- those that have not been looked at yet.
M.jobs = parts.compose({ "groups" }, [[
local Q = KEYS[1] .. ':'
local key, from, to = Q .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local ascending = ARGV[5] == '1'

-- The first that is served of a list is its last.
local function of_list(a, b)
  local ids, out = call('LRANGE', key, -b - 1, -a - 1), {}
  for i = #ids, 1, -1 do
    out[#out + 1] = ids[i]
  end
  return out
end

-- Delayed ones that are not parked.
local function of_delayed()
  local out, seen, at = {}, 0, 0
  repeat
    local ids = call(ascending and 'ZRANGE' or 'ZREVRANGE', key, at, at + 999)
    local skip = {}
    for _, id in ipairs(only_parked(Q, ids)) do
      skip[id] = true
    end
    for _, id in ipairs(ids) do
      if not skip[id] then
        if seen >= from and (to < 0 or seen <= to) then
          out[#out + 1] = id
        end
        seen = seen + 1
      end
    end
    at = at + 1000
  until #ids == 0 or to >= 0 and seen > to
  return out
end

local function of_lists()
  local n = call('LLEN', key)
  local last = n - 1
    + (key == meta(Q).target and call('ZCARD', Q .. 'perigee:parked') or 0)
  local a, b = from, (to < 0 or to > last) and last or to
  if not ascending then
    a, b = math.max(last - b, 0), last - a
  end
  local out = {}
  if a < n and b >= a then
    out = of_list(a, math.min(b, n - 1))
  end
  for _, id in ipairs(parked_ids(Q, math.max(a, n) - n, b - n)) do
    out[#out + 1] = id
  end
  if not ascending then
    for i = 1, floor(#out / 2) do
      out[i], out[#out - i + 1] = out[#out - i + 1], out[i]
    end
  end
  return out
end

local ids
if ARGV[1] == 'list' then
  ids = of_lists()
elseif ARGV[2] == 'delayed' and call('EXISTS', Q .. 'perigee:parked') == 1 then
  ids = of_delayed()
else
  ids = call(ascending and 'ZRANGE' or 'ZREVRANGE', key, from, to)
end
local out = {}
for i = 1, #ids do
  out[2 * i - 1], out[2 * i] = ids[i], call('HGETALL', Q .. ids[i])
end
return out
]])

--- How many there are of each state. KEYS: root.
M.counts = [[
local call, Q = redis.call, KEYS[1] .. ':'
return {
  call('LLEN', Q .. 'wait'), call('LLEN', Q .. 'paused'),
  call('LLEN', Q .. 'active'), call('ZCARD', Q .. 'prioritized'),
  call('ZCARD', Q .. 'delayed'), call('ZCARD', Q .. 'completed'),
  call('ZCARD', Q .. 'failed'), call('ZCARD', Q .. 'waiting-children'),
  call('HEXISTS', Q .. 'meta', 'paused'), call('ZCARD', Q .. 'perigee:parked'),
}
]]

--- Removes what waits. KEYS: root. ARGV: 1: delayed ones too. Gives how many.
M.drain = parts.compose({ "removal" }, [[
local Q, n = KEYS[1] .. ':', 0
local function drain(key, list)
  local ids = list and call('LRANGE', key, 0, -1) or call('ZRANGE', key, 0, -1)
  local kept = {}
  for i = 1, #ids do
    if is_live_iteration(Q, ids[i]) then
      kept[#kept + 1] = ids[i]
    end
  end
  local scores = {}
  for i = 1, #kept do
    scores[i] = not list and call('ZSCORE', key, kept[i])
  end
  call('DEL', key)
  for i = 1, #kept do
    if list then
      call('RPUSH', key, kept[i])
    else
      call('ZADD', key, scores[i], kept[i])
    end
  end
  for i = 1, #ids do
    if not is_live_iteration(Q, ids[i]) then
      delete_job(Q, ids[i], true)
      n = n + 1
    end
  end
end
for _, id in ipairs(all_parked(Q)) do
  if not is_live_iteration(Q, id) then
    take_out(Q, id)
    delete_job(Q, id, true)
    n = n + 1
  end
end
drain(Q .. 'wait', true)
drain(Q .. 'paused', true)
drain(Q .. 'prioritized')
if ARGV[1] == '1' then
  drain(Q .. 'delayed')
end
return n
]])

--- Removes what ended (came) before. KEYS: root. ARGV: key of the state, "list"
--- or "zset", until, how many (0: all). Gives the ids.
M.clean = parts.compose({ "removal" }, [[
local Q = KEYS[1] .. ':'
local key, list = Q .. ARGV[1], ARGV[2] == 'list'
local before, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local by_score = ARGV[1] == 'completed' or ARGV[1] == 'failed'
local ids, out = nil, {}
if list then
  ids = call('LRANGE', key, 0, -1)
  local parked = key == meta(Q).target and all_parked(Q) or {}
  for i = #parked, 1, -1 do
    ids[#ids + 1] = parked[i]
  end
elseif by_score then
  local limit = most > 0 and most or -1
  ids = call('ZRANGEBYSCORE', key, '-inf', text(before), 'LIMIT', 0, limit)
else
  ids = call('ZRANGE', key, 0, -1)
end
local function old(id)
  if by_score then
    return true
  elseif ARGV[1] == 'delayed' and is_parked(Q, id) then
    return false
  end
  local v = call('HMGET', Q .. id, 'processedOn', 'timestamp')
  return int(v[1] or v[2]) <= before
end
for i = #ids, 1, -1 do
  local id = ids[i]
  if most > 0 and #out >= most then
    break
  end
  if old(id) and not is_live_iteration(Q, id)
    and (ARGV[1] ~= 'active' or call('EXISTS', Q .. id .. ':lock') == 0) then
    if by_score then
      call('ZREM', key, id)
    else
      take_out(Q, id)
    end
    delete_job(Q, id, true)
    out[#out + 1] = id
  end
end
evt(Q, 'cleaned', 'count', text(#out))
return out
]])

--- Removes a queue, in portions. KEYS: root. ARGV: 1: also with active jobs,
--- size of a portion. Gives 1 when there is more, 0 at the end; -1 not paused,
--- -2 jobs are active.
M.obliterate = parts.compose({ "removal" }, [[
local Q, most = KEYS[1] .. ':', tonumber(ARGV[2])
if not meta(Q).paused then
  return -1
elseif ARGV[1] ~= '1' and call('LLEN', Q .. 'active') > 0 then
  return -2
end
local function empty(name, list)
  while most > 0 do
    local id = list and call('RPOP', Q .. name)
      or not list and call('ZPOPMIN', Q .. name)[1]
    if not id then
      return
    end
    release_dedup(Q, id, call('HGET', Q .. id, 'deid'))
    delete_keys(Q, id)
    most = most - 1
  end
end
for _, name in ipairs { 'active', 'wait', 'paused' } do
  empty(name, true)
end
for _, name in ipairs { 'delayed', 'prioritized', 'completed', 'failed',
  'waiting-children' } do
  empty(name)
end
for _, id in ipairs(call('ZRANGE', Q .. 'repeat', 0, -1)) do
  call('DEL', Q .. 'repeat:' .. id)
end
if most == 0 then
  return 1
end
forget_groups(Q)
for _, name in ipairs { 'repeat', 'events', 'stalled', 'stalled-check',
  'stalled-check:lease', 'id', 'pc', 'marker', 'meta', 'limiter', 'suspect',
  'metrics:completed', 'metrics:failed', 'metrics:completed:data',
  'metrics:failed:data' } do
  call('DEL', Q .. name)
end
return 0
]])

return M
