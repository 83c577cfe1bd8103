--- Redis: where a command's keys stand, and which slot of a cluster they are in.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"

local M = {}

local function words(text)
  local set = {}
  for word in text:gmatch "%S+" do
    set[word] = true
  end
  return set
end

-- They have no key: any server does. PUBLISH has none either, but what is
-- published to a channel by way of one server stays in order.
local KEYLESS = words [[
  ACL AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DEBUG ECHO
  FAILOVER FLUSHALL FLUSHDB FUNCTION INFO KEYS LASTSAVE LATENCY LOLWUT MEMORY
  MODULE PING PUBSUB RANDOMKEY REPLICAOF ROLE SAVE SCAN SCRIPT SHUTDOWN
  SLAVEOF SLOWLOG SWAPDB TIME WAIT WAITAOF]]

-- All that follow are keys.
local ALL = words [[
  DEL EXISTS MGET PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION
  SUNIONSTORE TOUCH UNLINK WATCH SSUBSCRIBE]]

local TWO = words [[
  BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH
  SMOVE ZRANGESTORE]]

-- Where the number of keys stands, which follow it.
local COUNTED = {
  EVAL = 2, EVALSHA = 2, EVAL_RO = 2, EVALSHA_RO = 2, FCALL = 2, FCALL_RO = 2,
  BLMPOP = 2, BZMPOP = 2, ZDIFFSTORE = 2, ZINTERSTORE = 2, ZUNIONSTORE = 2,
  LMPOP = 1, ZMPOP = 1, SINTERCARD = 1, ZDIFF = 1, ZINTER = 1, ZINTERCARD = 1,
  ZUNION = 1,
}

-- The first argument is a key, too.
local STORED = words "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"

-- The second is the key: OBJECT ENCODING key.
local SECOND = words "OBJECT XGROUP XINFO"

local SPECIAL = words [[
  BITOP BLPOP BRPOP BZPOPMAX BZPOPMIN MSET MSETNX XREAD XREADGROUP]]

--- Commands that only read: replicas may answer them.
M.READS = words [[
  BITCOUNT BITFIELD_RO BITPOS DUMP EVAL_RO EVALSHA_RO EXISTS EXPIRETIME
  FCALL_RO GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH
  GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN
  HSTRLEN HVALS LCS LINDEX LLEN LPOS LRANGE MGET OBJECT PEXPIRETIME PFCOUNT
  PTTL SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO
  SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TTL TYPE XINFO XLEN XPENDING XRANGE
  XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE
  ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX
  ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION]]

-- First, last and step of the keys in the list; nil: none.
local function special(upper, list)
  if upper == "BITOP" then
    return 2, #list, 1
  elseif upper == "MSET" or upper == "MSETNX" then
    return 1, #list, 2
  elseif upper == "XREAD" or upper == "XREADGROUP" then
    -- Behind GROUP stand names, which may be any word.
    for i = upper == "XREAD" and 1 or 4, #list do
      if tostring(list[i]):upper() == "STREAMS" then
        return i + 1, i + (#list - i) / 2, 1
      end
    end
    return nil
  end
  return 1, #list - 1, 1 -- and a time
end

local function range(upper, list)
  local counted = COUNTED[upper]
  if counted then
    return counted + 1, counted + (tonumber(list[counted]) or 0), 1
  elseif ALL[upper] then
    return 1, #list, 1
  elseif TWO[upper] then
    return 1, 2, 1
  elseif SECOND[upper] then
    return 2, 2, 1
  elseif SPECIAL[upper] then
    return special(upper, list)
  elseif KEYLESS[upper] then
    if upper == "MEMORY" and tostring(list[1]):upper() == "USAGE" then
      return 2, 2, 1
    end
    return nil
  end
  return 1, 1, 1
end

local function text_of(key)
  return type(key) == "string" and key or tostring(key)
end

local function slot_of_all(upper, list)
  local first, last, step = range(upper, list)
  if not first then
    return nil
  end
  local slot
  if STORED[upper] and list[1] ~= nil then
    slot = core.slot(text_of(list[1]))
  end
  for i = first, math.min(last, #list), step do
    local other = core.slot(text_of(list[i]))
    if slot and other ~= slot then
      local err = errors.new("invalid",
        "redis: the keys of %s are in different slots of the cluster: give "
        .. "them a common {tag}", upper)
      err.code = "CROSSSLOT"
      return false, err
    end
    slot = other
  end
  return slot
end

local plain = {}

-- Whether the first argument is the only key.
local function is_plain(upper)
  local known = plain[upper]
  if known == nil then
    known = not (COUNTED[upper] or ALL[upper] or TWO[upper] or SECOND[upper]
      or SPECIAL[upper] or KEYLESS[upper])
    plain[upper] = known
  end
  return known
end

--- The slot of a command's keys; nil: it has none, any server will do.
---@param upper string
---@param first any
---@param ... any
---@return integer|false|nil slot # false: they are in several
---@return perigee.Error? err
function M.slot(upper, first, ...)
  if type(first) == "string" and is_plain(upper) then
    return core.slot(first)
  end
  return slot_of_all(upper, commands.flatten(first, ...))
end

return M
