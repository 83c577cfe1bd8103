--- Health: whether the host can do its work; what /readyz says.
---
--- What the configuration calls required (`redis.main.required = true`) is looked
--- at every second; while it is away the host is not ready. At the first start it
--- has to be there, or the host ends with 69. Other checks of an application's
--- own are added by `health.check`.

local core = require "perigee.core.health"
local errors = require "perigee.error"
local options = require "perigee.options"
local task = require "perigee.task"
local units = require "perigee.units"

local M = {}

local EVERY_MS = 1000
local TIMEOUT_MS = 1000
local HOLDS_MS = 15000 -- without anybody who looks it is forgotten
local FIRST_MS = 3000
local FIRST_PAUSE_MS = 200

-- The master knows the end with 69 by these words (core/cluster/seat.c).
local REQUIRED = "a required dependency is not available: "

local OPTIONS = { required = true, every = true, timeout = true }

local checks = {} -- { name, fn, required, every, timeout }
local running = false

-- How to ask a dependency that the configuration names.
local PROBES = {
  redis = function(name)
    return function()
      return require("perigee.redis").get(name):ping()
    end
  end,
  sqlite = function(name)
    return function()
      return require("perigee.sqlite").get(name):one "select 1"
    end
  end,
}

-- What code or a library said, and is not for strangers: as of answers.
local function is_internal(err)
  return errors.is(err) and (err.kind == "internal" or err.code ~= nil)
end

local function look(check)
  local ok, value, err = pcall(task.with_deadline, check.timeout, check.fn)
  if not ok then
    value, err = nil, value
  end
  if value == nil or value == false then
    return false, tostring(err or "it says no"), is_internal(err)
  end
  return true
end

local function note(check, ok, why, internal)
  local required = check.required and "required, " or ""
  if ok then
    core.set(check.name, "pass", required .. "there", HOLDS_MS + check.every)
  elseif check.required then
    core.set(check.name, "fail", required .. why, HOLDS_MS + check.every,
      internal)
  else
    core.set(check.name, "warn", "warn: " .. why, HOLDS_MS + check.every,
      internal)
  end
end

local function watch(check)
  while true do
    note(check, look(check))
    task.sleep(check.every)
  end
end

local function add(check)
  for _, other in ipairs(checks) do
    if other.name == check.name then
      for key, value in pairs(check) do -- its task looks at this table
        other[key] = value
      end
      return
    end
  end
  checks[#checks + 1] = check
  if running then
    task.spawn_detached(watch, check)
  end
end

local function duration(value, what, default)
  local ms, why = units.duration(value or default)
  if not ms or ms < 1 then
    error(("%s: %s"):format(what, why or "at least 1 ms"), 3)
  end
  return ms
end

local function check_name(name, what)
  if type(name) ~= "string" or name == "" or #name > 80
    or name:find "%c" then
    error(what .. ": a name of up to 80 bytes expected", 3)
  end
end

---@class perigee.HealthOptions
---@field required boolean?          # not ready while it fails; else degraded: warn
---@field every (string|number)?     # "1s"
---@field timeout (string|number)?   # "1s"

--- Adds a check of the application's own: fn gives a true value, or nil and an
--- error. Every worker runs it.
---@param name string
---@param fn fun(): any, any
---@param opts perigee.HealthOptions?
function M.check(name, fn, opts)
  check_name(name, "health.check")
  if type(fn) ~= "function" then
    error("health.check: a function expected, not a " .. type(fn), 2)
  end
  opts = opts or {}
  options.check(opts, OPTIONS, "health.check")
  add {
    name = name, fn = fn, required = opts.required == true,
    every = duration(opts.every, "health.check: every", EVERY_MS),
    timeout = duration(opts.timeout, "health.check: timeout", TIMEOUT_MS),
  }
end

--- Says that something is degraded, for a while: /readyz shows it as `warn`.
---@param name string
---@param detail string
---@param ttl (string|number)? # "10s"
function M.warn(name, detail, ttl)
  check_name(name, "health.warn")
  if type(detail) ~= "string" and not errors.is(detail) then
    error("health.warn: a text expected, not a " .. type(detail), 2)
  end
  core.set(name, "warn", "warn: " .. tostring(detail),
    duration(ttl, "health.warn: ttl", 10000),
    is_internal(detail))
end

--- What /readyz knows of, but for the host itself.
---@return { name: string, status: "pass"|"warn"|"fail", detail: string }[]
function M.list()
  return core.list()
end

local function add_configured()
  local config = require "perigee.config"
  for section, probe in pairs(PROBES) do
    for name, settings in pairs(config[section] or {}) do
      if settings.required then
        M.check(section .. "." .. name, probe(name), { required = true })
      end
    end
  end
end

-- The first start of the host: what is required has to be there soon.
local function await_required()
  local left_ms = FIRST_MS
  while true do
    local missing, why
    for _, check in ipairs(checks) do
      if check.required then
        local ok, reason, internal = look(check)
        note(check, ok, reason, internal)
        if not ok then
          missing, why = check.name, reason
        end
      end
    end
    if not missing then
      core.seen_ready(true)
      return
    elseif left_ms <= 0 then
      error(errors.new("unavailable", "%s%s: %s", REQUIRED, missing, why), 0)
    end
    task.sleep(FIRST_PAUSE_MS)
    left_ms = left_ms - FIRST_PAUSE_MS
  end
end

--- For perigee.app: a worker's generation has loaded.
function M.start()
  add_configured()
  if not core.seen_ready(false) then
    await_required()
  end
  running = true
  for _, check in ipairs(checks) do
    task.spawn_detached(watch, check)
  end
end

return M
