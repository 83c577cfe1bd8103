--- Queues in Redis: groups (tenants) and their limits, as parts of scripts.
---
--- BullMQ's open layout has none, so what it knows of them is nothing that it
--- has to know. A job that has to wait for its group is *parked* when it comes to
--- be taken: in `delayed`, ten minutes from now, where Node's side sees, removes
--- and promotes it like any delayed job, and where it comes from by itself if
--- nobody looks after groups any more. Beside that there is, under
--- names that no job's id can have:
---   Q:perigee:parked    zset: id → its score in `delayed`. One whose score
---                       differs was put there by others: it is not parked
---   Q:perigee:groups:wait:GROUP  zset of its parked ids: its order
---   Q:perigee:groups    zset of the groups that have some. Below TURNS: they may
---                       begin one, and this is their turn; above: until then (ms)
---                       their rate does not let them; inf: as many run as may
---   Q:perigee:running   hash: id → group, of grouped jobs that run
---   Q:perigee:counts    hash: group → how many of these there are
---   Q:perigee:groups:rate:GROUP  begun in the window; ends with it
--- A job that has left `active` by another's hand is found in `running` by the
--- check for stalled jobs. `meta` has the limits, and a flag for queues that
--- have ever had some: others pay nothing for all this.

-- What scripts are put together from: see parts.lua.
local M = {}

M.groups = { needs = { "places" }, source = [[
local PARK_MS, GROUP_MAX = 600000, 1000

local function order_key(Q, group)
  return Q .. 'perigee:groups:wait:' .. group
end

-- The group, and whether the job goes in front, by its options.
local function group_in(opts)
  if not opts or not string.find(opts, '"group"', 1, true) then
    return nil
  end
  local ok, o = pcall(cjson.decode, opts)
  local group = ok and type(o) == 'table' and o.group
  if type(group) ~= 'string' or group == '' or #group > GROUP_MAX then
    return nil
  end
  return group, o.lifo == true
end

local function group_of(Q, id)
  return group_in(call('HGET', Q .. id, 'opts'))
end

-- Its turn comes after all the others'.
local function to_turn(Q, group)
  local last = call('ZREVRANGEBYSCORE', Q .. 'perigee:groups', '(' .. TURNS,
    '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  call('ZADD', Q .. 'perigee:groups', int(last[2]) + 1, group)
end

local function next_group(Q)
  return call('ZRANGEBYSCORE', Q .. 'perigee:groups', '-inf', '(' .. TURNS,
    'LIMIT', 0, 1)[1]
end

local function has_turns(Q)
  return meta(Q).groups and next_group(Q)
end

-- nil: it may begin one; else the score that says until when not.
local function barred_until(Q, group, now)
  local m = meta(Q)
  if m.group_concurrency
    and int(call('HGET', Q .. 'perigee:counts', group)) >= m.group_concurrency
    then
    return '+inf'
  end
  local key = Q .. 'perigee:groups:rate:' .. group
  if m.group_max and int(call('GET', key)) >= m.group_max then
    local left = call('PTTL', key)
    if left > 0 then
      return text(now + left)
    end
    call('DEL', key)
  end
  return nil
end

local function uncount(Q, id, group)
  call('HDEL', Q .. 'perigee:running', id)
  if call('HINCRBY', Q .. 'perigee:counts', group, -1) <= 0 then
    call('HDEL', Q .. 'perigee:counts', group)
  end
end

local function count_in(Q, id, group)
  local known = call('HGET', Q .. 'perigee:running', id)
  if known then
    uncount(Q, id, known)
  end
  call('HSET', Q .. 'perigee:running', id, group)
  call('HINCRBY', Q .. 'perigee:counts', group, 1)
end

local function enter(Q, id, group)
  count_in(Q, id, group)
  local m = meta(Q)
  local key = Q .. 'perigee:groups:rate:' .. group
  if m.group_max and m.group_duration and call('INCR', key) == 1 then
    call('PEXPIRE', key, m.group_duration)
  end
end

-- A job that runs no more makes room for another one of its group; gives that.
local function leave(Q, id)
  local group = meta(Q).groups and call('HGET', Q .. 'perigee:running', id)
  if not group then
    return nil
  end
  uncount(Q, id, group)
  if call('ZSCORE', Q .. 'perigee:groups', group) == 'inf' then
    to_turn(Q, group)
    wake(Q)
  end
  return group
end

-- Priorities are bands of the order; a job comes last in its own, or first.
local function place(Q, group, priority, front)
  local key = order_key(Q, group)
  local low = priority * 4294967296
  local high, middle = low + 4294967295, low + 2147483648
  local near = front
    and call('ZRANGEBYSCORE', key, low, high, 'WITHSCORES', 'LIMIT', 0, 1)
    or call('ZREVRANGEBYSCORE', key, high, low, 'WITHSCORES', 'LIMIT', 0, 1)
  if not near[2] then
    return middle
  end
  local at = tonumber(near[2]) + (front and -1 or 1)
  return math.max(low, math.min(high, at))
end

-- A place that it has already is kept.
local function park(Q, id, group, priority, front, now)
  local score = (now + PARK_MS) * 4096 + 4095
  call('ZADD', Q .. 'delayed', score, id)
  call('ZADD', Q .. 'perigee:parked', score, id)
  call('ZADD', order_key(Q, group), 'NX', place(Q, group, priority, front), id)
  if not call('ZSCORE', Q .. 'perigee:groups', group) then
    to_turn(Q, group)
  end
end

-- One that goes back comes before those of its group that are parked; false:
-- there are none, the front of the queue will do.
local function park_in_front(Q, id, group, priority, now)
  if not group or call('EXISTS', order_key(Q, group)) == 0 then
    return false
  end
  park(Q, id, group, priority, true, now)
  wake(Q)
  return true
end

local function is_parked(Q, id)
  local score = call('ZSCORE', Q .. 'perigee:parked', id)
  return score and score == call('ZSCORE', Q .. 'delayed', id)
end

-- For whoever takes a job out of `delayed` (its hash is still there).
local function unpark(Q, id)
  if call('ZREM', Q .. 'perigee:parked', id) == 1 then
    local group = group_of(Q, id)
    if group then
      call('ZREM', order_key(Q, group), id)
    end
  end
end

local function forget_groups(Q)
  for _, group in ipairs(call('ZRANGE', Q .. 'perigee:groups', 0, -1)) do
    call('DEL', order_key(Q, group))
  end
  call('DEL', Q .. 'perigee:groups', Q .. 'perigee:parked',
    Q .. 'perigee:running', Q .. 'perigee:counts')
end

-- Which of some ids are parked (1000 at most).
local function only_parked(Q, ids)
  local out = {}
  if #ids > 0 then
    local known = call('ZMSCORE', Q .. 'perigee:parked', unpack(ids))
    local real = call('ZMSCORE', Q .. 'delayed', unpack(ids))
    for i = 1, #ids do
      if known[i] and known[i] == real[i] then
        out[#out + 1] = ids[i]
      end
    end
  end
  return out
end

-- Those that are parked, of these ranks; in about the order of their coming.
local function parked_ids(Q, from, to)
  local out = {}
  for at = from, to, 1000 do
    local ids = only_parked(Q, call('ZRANGE', Q .. 'perigee:parked', at,
      math.min(at + 999, to)))
    for _, id in ipairs(ids) do
      out[#out + 1] = id
    end
  end
  return out
end

local function all_parked(Q)
  return parked_ids(Q, 0, call('ZCARD', Q .. 'perigee:parked') - 1)
end
]] }

-- What is begun now. While there are jobs that have to wait, those of groups are
-- sorted by group, and groups are served in turn. By chance those come first, or
-- what is in `wait` without a group: half of each while there are both.
M.turns = { needs = { "groups", "begin" }, source = [[
local LOOKS = 200 -- at jobs that may not begin, in one go

-- Whether its limits let a group begin no job now; written down if so.
local function is_barred(run, group)
  local score = barred_until(run.Q, group, run.now)
  if score then
    call('ZADD', run.Q .. 'perigee:groups', score, group)
    run.timed = run.timed or score ~= '+inf'
  end
  return score ~= nil
end

local function begin_parked(run, group, id)
  local Q = run.Q
  local parked = is_parked(Q, id)
  call('ZREM', Q .. 'perigee:parked', id)
  if not parked then
    return -- it has gone another way
  end
  call('ZREM', Q .. 'delayed', id)
  local v = read(Q, id)
  if #v > 0 and not stands_back(Q, id, v, run.now) then
    if not field(v, 'defa') then
      enter(Q, id, group)
    end
    begin(run, id, v)
  end
end

local function from_groups(run, n)
  local Q, most = run.Q, #run.began + n
  for _ = 1, LOOKS do
    local group = #run.began < most and next_group(Q)
    if not group then
      return
    elseif not is_barred(run, group) then
      local id = call('ZPOPMIN', order_key(Q, group))[1]
      if id then
        begin_parked(run, group, id)
      end
      if call('EXISTS', order_key(Q, group)) == 0 then
        call('ZREM', Q .. 'perigee:groups', group)
      elseif not is_barred(run, group) then
        to_turn(Q, group)
      end
    end
  end
  run.looked = true
end

-- It is nobody else's turn, and none of its group was there before.
local function may_begin(run, group)
  local Q = run.Q
  return not next_group(Q) and call('EXISTS', order_key(Q, group)) == 0
    and not is_barred(run, group)
end

-- alone: nothing but what was taken with it waits.
local function begin_or_park(run, id, alone)
  local Q = run.Q
  local v = read(Q, id)
  if #v == 0 then
    return
  end
  local group, lifo
  if not field(v, 'defa') then -- one that has it is failed, and does not run
    group, lifo = group_in(field(v, 'opts'))
  end
  if group and not (alone and may_begin(run, group)) then
    park(Q, id, group, int(field(v, 'priority')), lifo, run.now)
  elseif not stands_back(Q, id, v, run.now) then
    if group then
      enter(Q, id, group)
    end
    begin(run, id, v)
  end
end

local function from_wait(run, n)
  local Q, most, looks = run.Q, #run.began + n, LOOKS
  while #run.began < most and looks > 0 do
    local ids = pop(Q, math.min(most - #run.began, looks))
    if #ids == 0 then
      return
    end
    looks = looks - #ids
    local alone = call('EXISTS', Q .. 'wait', Q .. 'prioritized') == 0
    for i = 1, #ids do
      begin_or_park(run, ids[i], alone)
    end
  end
  run.looked = run.looked or looks == 0
end

-- Those whose rate lets them begin one again.
local function reopen(Q, now)
  local opened = call('ZRANGEBYSCORE', Q .. 'perigee:groups', TURNS, text(now),
    'LIMIT', 0, 1000)
  for _, group in ipairs(opened) do
    to_turn(Q, group)
  end
end

local function in_turn(run, n)
  from_groups(run, run.now % 2 == 0 and math.ceil(n / 2) or floor(n / 2))
  from_wait(run, n - #run.began)
  from_groups(run, n - #run.began)
  run.more = run.looked and #run.began < n
  if run.timed then
    wake_delay(run.Q)
  end
end
]] }

-- For the check of stalled jobs: makes good what others have done, or a part of
-- what is there.
M.group_check = { needs = { "groups" }, source = [[
local PORTION = 1000

-- Jobs stay parked for as long as there is somebody to do this.
local function park_on(Q, now)
  local ids = call('ZRANGEBYSCORE', Q .. 'perigee:parked', '-inf',
    (now + PARK_MS / 2) * 4096, 'LIMIT', 0, PORTION)
  for i = 1, #ids do
    local id = ids[i]
    local group = is_parked(Q, id) and group_of(Q, id)
    if group then
      park(Q, id, group, int(call('HGET', Q .. id, 'priority')), false, now)
    else
      unpark(Q, id)
    end
  end
  -- Of those that others have taken away some are found each time.
  local some = call('ZRANDMEMBER', Q .. 'perigee:parked', 100)
  for i = 1, #some do
    if not is_parked(Q, some[i]) then
      unpark(Q, some[i])
    end
  end
end

local function check_groups(Q, now, active)
  if not meta(Q).groups then
    return
  end
  local runs = {}
  for _, id in ipairs(active) do
    runs[id] = true
  end
  local ids = call('HKEYS', Q .. 'perigee:running')
  for _, id in ipairs(ids) do
    if not runs[id] then
      leave(Q, id)
    end
  end
  local full = call('ZRANGEBYSCORE', Q .. 'perigee:groups', 'inf', 'inf',
    'LIMIT', 0, PORTION)
  for i = 1, #full do
    if not barred_until(Q, full[i], now) then
      to_turn(Q, full[i])
    end
  end
  park_on(Q, now)
  if next_group(Q) then
    wake(Q)
  end
end
]] }

return M
