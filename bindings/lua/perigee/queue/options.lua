--- Options of jobs: checked once, the same for every driver.

local json = require "perigee.json"
local options = require "perigee.options"
local units = require "perigee.units"

local M = {}

local PRIORITY_MAX = 2097151
local DURATION_MAX_MS = 2 ^ 40 -- 34 years
local NUMBER_MAX = 2 ^ 53
local TEXT_MAX = 1000 -- of ids and groups

-- For M.check to raise where its caller is to blame.
local function fail(text, ...)
  error(text:format(...), 0)
end

local function duration(name, value)
  local ms = units.duration(value)
  if not ms or ms < 0 or ms > DURATION_MAX_MS then
    fail("%s: a duration expected (\"30s\", or milliseconds)", name)
  end
  return math.floor(ms)
end

local function whole(name, value, low, high)
  if type(value) ~= "number" or value ~= math.floor(value) or value < low
    or value > high then
    fail("%s: a whole number from %d%s expected", name, low,
      high == NUMBER_MAX and "" or (" to %d"):format(high))
  end
  return value
end

--- Whether a text is UTF-8: ids and names are written into JSON.
---@param value string
---@return boolean
function M.is_utf8(value)
  return json.encode(value) ~= nil
end

local function text(name, value)
  if type(value) ~= "string" or value == "" or #value > TEXT_MAX
    or not M.is_utf8(value) then
    fail("%s: a text (UTF-8) of at most %d bytes expected", name, TEXT_MAX)
  end
  return value
end

-- Keys of a queue in Redis lie where its jobs do.
local RESERVED = {}
for name in ([[active completed delayed events failed id limiter marker meta
    paused pc prioritized repeat stalled stalled-check suspect wait
    waiting-children]]):gmatch "%S+" do
  RESERVED[name] = true
end
local RESERVED_FIRST = {
  de = true, dn = true, metrics = true, ["repeat"] = true,
}

--- Whether a text may be the id of a job: of one's own, of the queue's (whole
--- numbers), of a schedule's ("repeat:ID:TIME") or of Node's (three parts).
---@param id string
---@return boolean
function M.is_job_id(id)
  if not id:find ":" then
    return id ~= "" and not RESERVED[id]
  elseif id:find "^repeat:.+:%d+$" then
    return true
  end
  local first = id:match "^([^:]*):[^:]*:[^:]*$"
  return first ~= nil and not RESERVED_FIRST[first]
end

local function flag(name, value)
  if type(value) ~= "boolean" then
    fail("%s: true or false expected", name)
  end
  return value
end

local function only(name, value, known)
  for key in pairs(value) do
    if not known[key] then
      fail("%s: unknown option %s%s", name, tostring(key),
        options.hint(key, known))
    end
  end
end

local function backoff(name, value)
  if type(value) == "string" or type(value) == "number" then
    return { type = "fixed", delay = duration(name, value) }
  end
  if type(value) ~= "table" then
    fail("%s: {type, delay, jitter} expected", name)
  end
  only(name, value, { type = true, delay = true, jitter = true })
  local kind = value.type or "fixed"
  if kind ~= "fixed" and kind ~= "exponential" and kind ~= "custom" then
    fail("%s.type: \"fixed\", \"exponential\" or \"custom\" expected", name)
  end
  local jitter = value.jitter
  if jitter ~= nil and not (type(jitter) == "number" and jitter >= 0
    and jitter <= 1) then
    fail("%s.jitter: a number from 0 to 1 expected", name)
  end
  return {
    type = kind, jitter = jitter,
    delay = duration(name .. ".delay", value.delay or 0),
  }
end

-- To keep none is to remove it, and no end for those that were kept before.
local function keep(name, value)
  if type(value) == "boolean" then
    return value
  end
  if type(value) == "table" then
    only(name, value, { count = true, age = true })
    local count = value.count ~= nil
      and whole(name .. ".count", value.count, 0, NUMBER_MAX) or nil
    local age = value.age ~= nil and duration(name .. ".age", value.age) or nil
    return count == 0 or { count = count, age = age }
  end
  return whole(name, value, 0, NUMBER_MAX) == 0 or value
end

local function dedup(name, value)
  if type(value) == "string" then
    value = { id = value }
  end
  if type(value) ~= "table" then
    fail("%s: {id, ttl, replace, extend} expected", name)
  end
  only(name, value, { id = true, ttl = true, replace = true, extend = true })
  local ttl = value.ttl ~= nil and duration(name .. ".ttl", value.ttl) or 0
  return {
    id = text(name .. ".id", value.id), ttl = ttl > 0 and ttl or nil,
    replace = value.replace ~= nil
      and flag(name .. ".replace", value.replace) or nil,
    extend = value.extend ~= nil
      and flag(name .. ".extend", value.extend) or nil,
  }
end

local CHILD_FAILURE = {
  fail = true, continue = true, ignore = true, remove = true,
}

local CHECKS = {
  delay = duration,
  priority = function(name, value)
    return whole(name, value, 0, PRIORITY_MAX)
  end,
  attempts = function(name, value)
    return whole(name, value, 1, NUMBER_MAX)
  end,
  backoff = backoff,
  -- Decimal ids and colons are the drivers' own: a queue can move to another
  -- driver only if the rule is the strictest of theirs.
  job_id = function(name, value)
    text(name, value)
    if value:find "^%d+$" or value:find ":" then
      fail("%s: %q: whole numbers and colons are for the queue's "
        .. "own ids", name, value)
    elseif RESERVED[value] then
      fail("%s: %q: a key of the queue's own", name, value)
    end
    return value
  end,
  lifo = flag,
  remove_on_complete = keep,
  remove_on_fail = keep,
  dedup = dedup,
  timeout = duration,
  group = text,
  keep_logs = function(name, value)
    return whole(name, value, 0, NUMBER_MAX)
  end,
  timestamp = function(name, value)
    return whole(name, value, 0, NUMBER_MAX)
  end,
  on_child_failure = function(name, value)
    if not CHILD_FAILURE[value] then
      fail("%s: \"fail\", \"continue\", \"ignore\" or \"remove\" "
        .. "expected", name)
    end
    return value
  end,
}

local NONE = {}

local function check_all(opts)
  if type(opts) ~= "table" then
    fail("options: a table expected, got %s", type(opts))
  end
  local checked
  for key, value in pairs(opts) do
    local check = CHECKS[key]
    if not check then
      fail("job: unknown option %s%s", tostring(key),
        options.hint(key, CHECKS))
    end
    checked = checked or {}
    checked[key] = check(key, value)
  end
  return checked or NONE
end

--- The options, checked and with durations as milliseconds; raises for what is
--- no option.
---@param opts table?
---@param level integer? # of the caller to blame
---@return perigee.queue.Options
function M.check(opts, level)
  if opts == nil then
    return NONE
  end
  local ok, checked = pcall(check_all, opts)
  if not ok then
    error(checked, (level or 1) + 1)
  end
  return checked
end

--- One option's value, as M.check has it.
---@param name string
---@param value any
---@param level integer? # of the caller to blame
---@return any
function M.value(name, value, level)
  local ok, checked = pcall(CHECKS[name], name, value)
  if not ok then
    error(checked, (level or 1) + 1)
  end
  return checked
end

--- How long to wait before the next attempt.
---@param opts perigee.queue.Options
---@param failed integer # attempts that have failed so far, this one included
---@return integer ms
function M.backoff(opts, failed)
  local policy = opts.backoff
  if not policy or policy.delay == 0 then
    return 0
  end
  local delay = policy.delay
  if policy.type == "exponential" then
    delay = math.min(delay * 2 ^ (failed - 1), 2 ^ 40)
  end
  if policy.jitter and policy.jitter > 0 then
    delay = delay * (1 - policy.jitter * math.random())
  end
  return math.floor(delay)
end

return M
