--- Scripts: what the cache's level in Redis does there in one step.

local core = require "perigee.core.redis"

local M = {}

local SOURCES = {
  -- The value if it is fresh; else the lock is taken when it is free, or when
  -- it holds a word and who asks has not waited for that.
  enter = [[
local value = redis.call('get', KEYS[1])
local left = value and redis.call('pttl', KEYS[1]) or 0
if value and ARGV[3] == '0'
  and left > tonumber(string.sub(value, 17, 28)) then
  return {value, left}
end
local held = redis.call('get', KEYS[2])
if not held or (string.sub(held, 1, 1) == '!' and ARGV[4] == '0') then
  redis.call('set', KEYS[2], ARGV[1], 'px', ARGV[2])
  held = ARGV[1]
end
return {value, left, held}]],
  store = [[
if redis.call('get', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('del', KEYS[2])
redis.call('set', KEYS[1], ARGV[2], 'px', ARGV[3])
return 1]],
  keep = [[
if redis.call('get', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('pexpire', KEYS[1], ARGV[2])]],
  leave = [[
if redis.call('get', KEYS[1]) ~= ARGV[1] then
  return 0
elseif ARGV[2] == '' then
  return redis.call('del', KEYS[1])
end
redis.call('set', KEYS[1], ARGV[2], 'px', ARGV[3])
return 1]],
}

local HASHES = {}

--- Adds a script to a pipeline, by its hash; full: with its source, for a server
--- that does not know it.
---@param p perigee.redis.Pipeline
---@param full boolean
---@param name string
---@param keys string[]
---@param ... string|number
function M.add(p, full, name, keys, ...)
  if full then
    p:eval(SOURCES[name], #keys, keys, ...)
    return
  end
  HASHES[name] = HASHES[name] or core.sha1_hex(SOURCES[name])
  p:evalsha(HASHES[name], #keys, keys, ...)
end

return M
