--- Queues: what may be asked of them, checked. Each takes the level of whom to
--- error() takes it where this is called.

local check_options = require("perigee.options").check
local json = require "perigee.json"
local options = require "perigee.queue.options"
local units = require "perigee.units"

local M = {}

--- A queue's name.
---@param name any
---@param level integer
function M.name(name, level)
  if type(name) ~= "string" or name == "" or #name > 200
    or name:find "[:%c]" or not options.is_utf8(name) then
    error("a queue's name is a text (UTF-8) without colons, not "
      .. (type(name) == "string" and ("%q"):format(name) or type(name)),
      level + 1)
  end
end

-- Of a job that is one of many, or a schedule's.
M.JOB_FIELDS = { name = true, data = true, opts = true }

--- A job, in the form that drivers take.
---@param name any
---@param data any
---@param opts table?
---@param level integer
---@param known table? # options that were checked before, by theirs
---@return {name: string, data: string, opts: table}? entry
---@return perigee.Error? err # its data is nothing for JSON
function M.entry(name, data, opts, level, known)
  if type(name) ~= "string" or name == "" then
    error("a job's name is a text, not "
      .. (name == "" and "an empty one" or type(name)), level + 1)
  end
  local checked = known and known[opts] or options.check(opts, level + 1)
  if known and opts ~= nil then
    known[opts] = checked
  end
  if data == nil then
    return { name = name, data = "{}", opts = checked }
  end
  local text, err = json.encode(data)
  if not text then
    return nil, err
  end
  return { name = name, data = text, opts = checked }
end

local STATES = {
  waiting = true, prioritized = true, active = true, delayed = true,
  completed = true, failed = true, paused = true, waiting_children = true,
}

--- A whole number from low on.
---@param value any
---@param low integer
---@return boolean
function M.is_whole(value, low)
  return type(value) == "number" and value >= low
    and value == math.floor(value) and value < 2 ^ 53
end

--- The name of a state.
---@param state any
---@param level integer
function M.state(state, level)
  if not STATES[state] then
    error("unknown state " .. tostring(state), level + 1)
  end
end

local RATE = { max = true, duration = true }

local function check_rate(rate, level)
  if type(rate) ~= "table" or not M.is_whole(rate.max, 1) then
    error("rate = {max, duration} expected", level + 1)
  end
  check_options(rate, RATE, "rate", level + 1)
  local ms, why = units.duration(rate.duration)
  if not ms or ms < 1 then
    error("rate.duration: " .. (why or "more than nothing expected"),
      level + 1)
  end
  return { max = rate.max, duration = math.floor(ms) }
end

--- Limits of a queue, or of its groups; a copy in milliseconds.
---@param limit any
---@param level integer
---@param of_group boolean?
---@return table limit
function M.limit(limit, level, of_group)
  if type(limit) ~= "table" then
    error("{concurrency, rate, group} expected", level + 1)
  end
  for key in pairs(limit) do
    if key ~= "concurrency" and key ~= "rate"
      and (key ~= "group" or of_group) then
      error("unknown limit " .. tostring(key), level + 1)
    end
  end
  local checked = {}
  if limit.concurrency ~= nil then
    if not M.is_whole(limit.concurrency, 1) then
      error("concurrency: a whole number from 1 expected", level + 1)
    end
    checked.concurrency = limit.concurrency
  end
  if limit.rate ~= nil then
    checked.rate = check_rate(limit.rate, level + 1)
  end
  if limit.group ~= nil then
    checked.group = M.limit(limit.group, level + 1, true)
  end
  return checked
end

--- What a schedule is called; its jobs' ids have it in them.
---@param id any
---@param level integer
function M.schedule_id(id, level)
  if type(id) ~= "string" or id == "" or not options.is_utf8(id) then
    error("a schedule's id is a text (UTF-8)", level + 1)
  end
end

local SCHEDULE = {
  every = true, cron = true, tz = true, limit = true, start = true,
  finish = true, catch_up = true, immediately = true,
}

local CATCH_UP = { one = true, none = true, all = true }

--- When jobs are added again and again; a copy in milliseconds.
---@param schedule any
---@param level integer
---@return table schedule
function M.schedule(schedule, level)
  local cron = require "perigee.queue.cron"
  if type(schedule) ~= "table" then
    error("{every} or {cron, tz} expected", level + 1)
  end
  local checked = {}
  for key, value in pairs(schedule) do
    if not SCHEDULE[key] then
      error("unknown option " .. tostring(key) .. " of a schedule", level + 1)
    end
    checked[key] = value
  end
  if checked.catch_up ~= nil and not CATCH_UP[checked.catch_up] then
    error('catch_up: "one", "none" or "all" expected', level + 1)
  end
  for key, low in pairs { limit = 1, start = 0, finish = 0 } do
    if checked[key] ~= nil and not M.is_whole(checked[key], low) then
      error(("%s: a whole number from %d expected"):format(key, low),
        level + 1)
    end
  end
  if checked.immediately ~= nil and type(checked.immediately) ~= "boolean" then
    error("immediately: true or false expected", level + 1)
  end
  if (checked.every == nil) == (checked.cron == nil) then
    error("a schedule has either every or cron", level + 1)
  end
  if checked.every ~= nil then
    local ms, why = units.duration(checked.every)
    if not ms or ms < 1 then
      error("every: " .. (why or "more than nothing expected"), level + 1)
    end
    checked.every = math.floor(ms)
  else
    local _, why = cron.parse(checked.cron, checked.tz)
    if why then
      error(why, level + 1)
    end
  end
  return checked
end

return M
