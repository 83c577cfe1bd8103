--- Queues in Redis: the scripts that find jobs whose worker is gone, and take
--- them back.

local parts = require "perigee.queue.redis.parts"

local M = {}

parts.recover = { needs = { "groups" }, source = [[
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

return M
