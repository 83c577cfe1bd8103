--- Rate limits in Redis: one state for all hosts that name the same server, by
--- its clock. A state is one key, "limit:{NAME:KEY}", that ends by itself.

local breaker = require "perigee.resilience.breaker"
local config = require "perigee.config"
local errors = require "perigee.error"
local redis = require "perigee.redis"
local task = require "perigee.task"

local M = {}

-- As the host's own (core/shm/dict_limit.c): the state is the time (us) at
-- which all that was taken is paid for. Replies the ms to wait; 0: taken.
local BUCKET = [[
local t = redis.call('time')
local now = t[1] * 1000000 + t[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local paid = tonumber(redis.call('get', KEYS[1]) or now)
if paid < now then
  paid = now
end
paid = paid + tonumber(ARGV[3]) * interval
local over = paid - now - burst * interval * (1 + 1e-9)
if over > 0 then
  return math.max(1, math.ceil((paid - now - burst * interval) / 1000))
end
redis.call('set', KEYS[1], string.format('%.3f', paid), 'px',
  string.format('%d', math.ceil((paid - now) / 1000) + 10))
return 0]]

-- What was taken in each 32nd of the window, at the time of the last there:
-- "time count " and again.
local WINDOW = [[
local t = redis.call('time')
local now = t[1] * 1000000 + t[2]
local limit, length, count = tonumber(ARGV[1]) * (1 + 1e-9),
  tonumber(ARGV[2]) * 1000, tonumber(ARGV[3])
local times, counts, total = {}, {}, 0
for at, n in (redis.call('get', KEYS[1]) or ''):gmatch('(%S+) (%S+) ') do
  at, n = tonumber(at), tonumber(n)
  if at > now - length then
    times[#times + 1], counts[#counts + 1] = at, n
    total = total + n
  end
end
if total + count > limit then
  local free = times[#times] or now
  for i = 1, #times do
    total = total - counts[i]
    if total + count <= limit then
      free = times[i]
      break
    end
  end
  return math.max(1, math.ceil((free + length - now) / 1000))
end
local last, part = #times, length / 32
if last == 0 or math.floor(times[last] / part) < math.floor(now / part) then
  last = last + 1
  counts[last] = 0
end
times[last], counts[last] = now, counts[last] + count
local state = {}
for i = 1, last do
  state[i] = string.format('%.0f %.17g ', times[i], counts[i])
end
redis.call('set', KEYS[1], table.concat(state), 'px', ARGV[2])
return 0]]

local KEY_MAX = 4096

---@class perigee.RemoteLimit
local remote = {}
remote.__index = remote

local function run(self, key, count)
  if self.window then
    return self.script({ key }, { self.rate, self.per_ms, count })
  end
  return self.script({ key }, { self.interval_us, self.burst, count })
end

--- How long to wait, in ms; 0: it has been taken; below 0: the key is too long;
--- nil: Redis could not be asked in time.
---@param key string
---@param count number
---@return number? wait_ms
---@return perigee.Error? err
function remote:take(key, count)
  if #key > KEY_MAX then
    return -1
  end
  return self.breaker:call(task.with_deadline, self.timeout_ms, run, self,
    self.prefix .. key .. "}", count)
end

--- Raises when the configuration has no such Redis.
---@param limiter table
---@param name string # of the Redis
---@param timeout_ms number
---@return perigee.RemoteLimit
function M.new(limiter, name, timeout_ms)
  if not config.redis[name] then
    error(errors.new("invalid", "limiter %s: there is no redis.%s.url",
      limiter.name, name))
  end
  return setmetatable({
    prefix = "limit:{" .. limiter.name .. ":",
    script = redis.get(name):script(limiter.window and WINDOW or BUCKET),
    rate = limiter.rate, per_ms = limiter.per_ms, window = limiter.window,
    interval_us = limiter.interval_us, burst = limiter.burst,
    timeout_ms = timeout_ms,
    breaker = breaker.new("limiter.redis." .. name,
      { failures = 3, window = "10s", open = "1s", probes = 1 }),
  }, remote)
end

return M
