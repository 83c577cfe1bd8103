--- Queues in Redis: the scripts of those who run jobs.

local parts = require "perigee.queue.redis.parts"

local M = {}

--- Ends jobs and begins others. KEYS: root. ARGV: now, or by how many ms, with a
--- sign, the worker's clock is ahead of the server's: then this has lain in wait,
--- and does nothing ({ -1 }) unless the worker was alive lately; how many to begin,
--- token, lock in ms, name of the worker, its limit: max and duration, points of
--- metrics; then, for those that end alike: kind ("c" completed, "f" failed, "r"
--- tried again, "w" given back), token, keep, n (attempts, or ms until the next),
--- stack, how many, and of each id and text. Gives { how many, ms of the limit, due time of the next
--- that is delayed, status of each that ended..., then id and
--- packed fields of each job }.
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
read_ends(9)
read_all(Q)
for i = 1, #ids do
  local status = settle_one(Q, i, now)
  if status == 0 and ends[i].ended then
    completed = completed + (ends[i].failed and 0 or 1)
    failed = failed + (ends[i].failed and 1 or 0)
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
