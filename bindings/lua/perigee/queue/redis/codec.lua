--- Queues in Redis: between the driver's records and what is written there.

local json = require "perigee.json"

local M = {}

local null = json.null
local NONE = {}

-- A field that is not there comes as json.null.
local function present(value)
  if value == nil or value == null or value == "" then
    return nil
  end
  return value
end

M.present = present

-- ---- options ----

local CHILD_FLAGS = {
  fail = "fpof", continue = "cpof", ignore = "idof", remove = "rdof",
}

local LONG_CHILD_FLAGS = {
  failParentOnFailure = "fail", continueParentOnFailure = "continue",
  ignoreDependencyOnFailure = "ignore", removeDependencyOnFailure = "remove",
}

-- Ages are seconds there, milliseconds here.
local function keep_out(value)
  if type(value) ~= "table" then
    return value
  end
  return {
    count = value.count,
    age = value.age and math.ceil(value.age / 1000),
  }
end

local function keep_in(value)
  if type(value) ~= "table" then
    return present(value)
  end
  local age = tonumber(present(value.age))
  return { count = tonumber(present(value.count)), age = age and age * 1000 }
end

--- Options as Node writes them; with delay, priority and the like in them, too.
---@param opts perigee.queue.Options
---@return table
function M.options_out(opts)
  local out = {
    attempts = opts.attempts or 0,
    backoff = opts.backoff,
    delay = opts.delay,
    priority = opts.priority,
    jobId = opts.job_id,
    lifo = opts.lifo,
    timestamp = opts.timestamp,
    removeOnComplete = keep_out(opts.remove_on_complete),
    removeOnFail = keep_out(opts.remove_on_fail),
    kl = opts.keep_logs,
    tm = opts.telemetry,
    de = opts.dedup,
    timeout = opts.timeout,
    group = opts.group,
  }
  local flag = CHILD_FLAGS[opts.on_child_failure]
  if flag then
    out[flag] = true
  end
  return out
end

local PLAIN = '{"attempts":0}'

-- Jobs that are added together mostly have the same options.
local last_out, last_out_text = NONE, PLAIN

--- The same as JSON text. Options that were checked do not change.
---@param opts perigee.queue.Options
---@return string
function M.options_text(opts)
  if next(opts) == nil then
    return PLAIN
  elseif opts ~= last_out then
    last_out_text = json.encode(M.options_out(opts))
    last_out = opts
  end
  return last_out_text
end

local function put_steady(value, out)
  local text = json.encode(value)
  local first = text:sub(1, 1)
  if first ~= "{" and first ~= "[" then
    out[#out + 1] = text
    return
  end
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  out[#out + 1] = first
  for i, key in ipairs(keys) do
    out[#out + 1] = i > 1 and "," or ""
    if first == "{" then
      out[#out + 1] = json.encode(key) .. ":"
    end
    put_steady(value[key], out)
  end
  out[#out + 1] = first == "{" and "}" or "]"
end

--- The same JSON in every process: a table's keys come in any order.
---@param text string
---@return string
function M.steady(text)
  local out = {}
  put_steady(json.decode(text), out)
  return table.concat(out)
end

local function backoff_in(value)
  value = present(value)
  if type(value) == "number" then
    return { type = "fixed", delay = value }
  elseif type(value) ~= "table" then
    return nil
  end
  return {
    type = present(value.type) or "fixed",
    delay = tonumber(present(value.delay)) or 0,
    jitter = tonumber(present(value.jitter)),
  }
end

local function dedup_in(value)
  if type(value) ~= "table" or not present(value.id) then
    return nil
  end
  return {
    id = value.id, ttl = tonumber(present(value.ttl)),
    extend = present(value.extend), replace = present(value.replace),
  }
end

local function child_failure_in(o)
  for name, flag in pairs(CHILD_FLAGS) do
    if o[flag] == true then
      return name
    end
  end
  for flag, name in pairs(LONG_CHILD_FLAGS) do
    if o[flag] == true then
      return name
    end
  end
  return nil
end

local function positive(value)
  value = tonumber(present(value))
  return value and value > 0 and value or nil
end

local function decode_options(text)
  local o = json.decode(text)
  if type(o) ~= "table" then
    return NONE, NONE
  end
  local keep_logs = o.kl
  if keep_logs == nil then
    keep_logs = o.keepLogs
  end
  return {
    attempts = positive(o.attempts),
    backoff = backoff_in(o.backoff),
    delay = positive(o.delay),
    priority = positive(o.priority),
    job_id = present(o.jobId),
    lifo = present(o.lifo),
    timestamp = tonumber(present(o.timestamp)),
    remove_on_complete = keep_in(o.removeOnComplete),
    remove_on_fail = keep_in(o.removeOnFail),
    keep_logs = tonumber(present(keep_logs)),
    dedup = dedup_in(o.de or o.deduplication),
    timeout = o.timeout == 0 and 0 or positive(o.timeout),
    group = type(o.group) == "string" and o.group or nil,
    on_child_failure = child_failure_in(o),
    telemetry = type(o.tm) == "string" and o.tm or nil,
  }, o
end

-- Most jobs of a queue have the same options.
local last_text, last_options, last_raw = "{}", NONE, NONE

--- Options of a job, and the JSON object that they were in.
---@param text string?
---@return perigee.queue.Options
---@return table raw
function M.options_in(text)
  if text ~= last_text then
    text = present(text)
    if not text then
      return NONE, NONE
    end
    last_options, last_raw = decode_options(text)
    last_text = text
  end
  return last_options, last_raw
end

--- How a job is kept after its end, for the scripts: "0": not at all, "": for
--- ever, else "COUNT SECONDS MOST".
---@param value boolean|integer|table|nil
---@return string
function M.keep_text(value)
  if value == nil or value == false then
    return ""
  elseif value == true or value == 0 then
    return "0"
  elseif type(value) == "number" then
    return ("%d -1 1000"):format(value)
  end
  if value.count == 0 then
    return "0"
  end
  return ("%d %d 1000"):format(value.count or -1,
    value.age and math.floor(value.age / 1000) or -1)
end

-- ---- jobs ----

--- Names and values as a table.
---@param list string[]
---@return table<string, string>
function M.map(list)
  local map = {}
  for i = 1, #list, 2 do
    map[list[i]] = list[i + 1]
  end
  return map
end

local function stack_in(text)
  local rows = text and json.decode(text)
  return type(rows) == "table" and #rows > 0 and rows or nil
end

--- Which queue a root ("bull:mails") belongs to.
---@param root string
---@return string
function M.queue_of(root)
  return root:match "([^:]+)$" or root
end

function M.parent_in(text)
  local parent = present(text) and json.decode(text)
  if type(parent) ~= "table" or not present(parent.id) then
    return nil
  end
  return { id = parent.id, queue = M.queue_of(tostring(parent.queueKey)) }
end

--- A job's record from its hash.
---@param queue string
---@param id string
---@param hash table<string, string>
---@param state string?
---@return perigee.queue.Record
function M.record(queue, id, hash, state)
  return {
    id = id, queue = queue, state = state,
    name = hash.name or "", data = hash.data or "{}",
    opts = M.options_in(hash.opts),
    timestamp = tonumber(hash.timestamp) or 0,
    delay = tonumber(hash.delay) or 0,
    priority = tonumber(hash.priority) or 0,
    attempts = tonumber(hash.atm) or 0,
    started = tonumber(hash.ats) or 0,
    crashed = tonumber(hash.stc) or 0,
    processed_on = tonumber(hash.processedOn),
    finished_on = tonumber(hash.finishedOn),
    progress = hash.progress, result = hash.returnvalue,
    failure = state ~= "completed" and hash.failedReason or nil,
    stacktrace = stack_in(hash.stacktrace),
    parent = M.parent_in(hash.parent), scheduler = hash.rjk,
    worker = hash.pb,
  }
end

return M
