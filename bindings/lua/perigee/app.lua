--- The application: how a generation is loaded, started and stopped. C calls
--- load, committed and stop, each as a task (bindings/host.c).

local core = require "perigee.core.app"
local answer = require "perigee.answer"
local errors = require "perigee.error"
local health = require "perigee.health"
local hot = require "perigee.hot"
local middleware = require "perigee.middleware"
local request = require "perigee.request"
local response = require "perigee.response"
local router = require "perigee.router"
local scripts = require "perigee.scripts"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

local MAIN_FIELDS = {
  before = "table", on_start = "function", on_stop = "function",
  selfcheck = "function",
}

local main = {}
local started = false

local function load_main()
  if not core.file "scripts/main.lua" then
    return {}
  end
  local value = require "main"
  if type(value) ~= "table" then
    error("scripts/main.lua:1: returns " .. (value == true and "nothing"
      or "a " .. type(value)) .. ", not a table", 0)
  end
  for key, given in pairs(value) do
    local expected = MAIN_FIELDS[key]
    if not expected then
      error(("scripts/main.lua:1: unknown field %q"):format(tostring(key)), 0)
    end
    if type(given) ~= expected then
      error(("scripts/main.lua:1: %s is a %s, not a %s"):format(key,
        type(given), expected), 0)
    end
  end
  for i, fn in ipairs(value.before or {}) do
    if type(fn) ~= "function" then
      error(("scripts/main.lua:1: before[%d] is a %s, not a function"):format(
        i, type(fn)), 0)
    end
  end
  return value
end

local function load_routes_file(routes, file)
  local declare = scripts.load(file)
  if type(declare) ~= "function" then
    error(("%s:1: a routes file returns function(router), this one "
      .. "returns %s"):format(file, declare == true and "nothing"
      or "a " .. type(declare)), 0)
  end
  declare(routes)
end

-- attempt(fn, ...) calls fn; for check it goes on after a fault.
local function load_routes(attempt)
  local routes = router.new()
  for _, file in ipairs(core.files "scripts/routes/") do
    if file:find "%.lua$" then
      attempt(load_routes_file, routes, file)
      task.yield()
    end
  end
end

local function load_jobs()
  if #core.files "scripts/jobs/" > 0 then
    require("perigee.jobs").load()
  end
end

local function has_jobs()
  return package.loaded["perigee.jobs"] ~= nil
    and #require("perigee.jobs").list() > 0
end

local function call(fn, ...)
  return fn(...)
end

local function setup()
  local common = main.before or {}
  core.setup {
    request_metatable = request.metatable,
    answer_metatable = answer.metatable,
    shape = response.shape,
    fail = response.fail,
    refused = core.host().env == "development"
      and router.entry(require("perigee.error_page").refused) or nil,
    not_found = #common > 0
      and router.entry(middleware.compose(common, response.not_found)) or nil,
  }
  router.build(common)
end

-- In a worker os.exit would end everybody's requests with the caller's, in an
-- embedder's process all of that, and in `perigee check` with a 0.
local function forbid_exit()
  os.exit = function() -- luacheck: ignore
    error("os.exit would end the worker and every request in it", 2)
  end
end

-- Modules of old (lfs, whatever calls module()) name themselves in _G, from C,
-- and may be required late: that is no slip.
local function lock_globals()
  setmetatable(_G, {
    __newindex = function(globals, name, value)
      if debug.getinfo(2, "S").what == "C" then
        return rawset(globals, name, value)
      end
      error(("assignment to the global %q: make it local, or a field of a "
        .. "module"):format(tostring(name)), 2)
    end,
  })
end

local function has_migrations()
  if #core.files "scripts/data/migrations/" > 0 then
    return true
  end
  local config = require "perigee.config"
  for _, options in pairs(config.sqlite or {}) do
    if options.migrations then
      return true
    end
  end
  return false
end

local function migrate()
  if not has_migrations() then
    return
  end
  local ok, err = require("perigee.sqlite").migrate()
  if not ok and err then
    error(err, 0)
  end
end

local function selfcheck()
  if not main.selfcheck then
    return
  end
  local ok, err = main.selfcheck()
  if ok == false or (ok == nil and err ~= nil) then
    error("selfcheck: " .. tostring(err or "false"), 0)
  end
end

local function load_scripts()
  main = load_main()
  load_routes(call)
  load_jobs()
  setup()
  lock_globals()
end

local function run_load(start)
  load_scripts()
  if start then
    if core.in_worker() then
      health.start()
    end
    migrate()
    if main.on_start then
      started = true
      local ok, err = main.on_start()
      if ok == nil and err ~= nil then
        error("on_start: " .. tostring(err), 0)
      end
    end
    started = true
    selfcheck()
  end
end

local function describe(err)
  if errors.is(err) then
    return err
  end
  local text = tostring(err)
  -- A place is worth most: where the message has none, the traceback's first.
  if not text:find "^[^\n]-:%d+: " then
    for line in debug.traceback("", 3):gmatch "[^\n]+" do
      local place = line:match "(scripts/[^:]+:%d+):"
      if place then
        return place .. ": " .. text
      end
    end
  end
  return text
end

local function guarded_load(start)
  local ok, err = xpcall(function()
    run_load(start)
  end, describe)
  if ok then
    return true
  end
  return nil, tostring(err)
end

local late_at = math.huge -- when a command gives up loading

-- Not one that a script has raised because somebody else was late.
local function is_late(err)
  return errors.is(err) and err.kind == "timeout"
    and time.monotonic() >= late_at
end

-- For commands: fn(...) as a task of its own, that a script which never ends
-- loading does not outlive, be it busy or waiting. What it returns, or nil and
-- what it raised; over: it was stopped.
local function bounded(fn, ...)
  local limit = require("perigee.config").reload.selfcheck_timeout
  local exit = os.exit
  late_at = time.monotonic() + limit
  core.bound_loading(true)
  forbid_exit()
  local value, err = task.spawn(task.with_deadline, limit, fn, ...):join()
  os.exit = exit -- luacheck: ignore
  local over = core.bound_loading(false)
  if is_late(err) then
    over = over or "the scripts were not ready within reload.selfcheck_timeout"
  end
  return value, err, err ~= nil and over or nil
end

--- Loads and starts the application: true, or nil and why not, with file:line.
function M.load()
  forbid_exit()
  return guarded_load(true)
end

--- As load, but nothing is started: for `perigee check` and `perigee routes`.
function M.inspect()
  local ok, err, over = bounded(guarded_load, false)
  return ok, over or err
end

local function check_all(faults)
  local told = {}
  for _, text in ipairs(faults) do told[text] = true end
  local function attempt(fn, ...)
    local args, count = { ... }, select("#", ...)
    local ok, err = xpcall(function()
      return fn(unpack(args, 1, count))
    end, describe)
    local text = tostring(err)
    if is_late(err) then
      error(err, 0)
    elseif not ok and not told[text] then
      told[text] = true
      faults[#faults + 1] = text
    end
  end
  attempt(function()
    main = load_main()
  end)
  load_routes(attempt)
  attempt(load_jobs)
  router.build(main.before or {}, attempt)
end

--- For `perigee check`: loads what there is, past faults, and lists them. With
--- a script that never ends, the last one.
---@param faults string[]  # that are known already
---@return string[] faults  # with file:line
function M.check(faults)
  local _, err, over = bounded(check_all, faults)
  if over then
    faults[#faults + 1] = over
  elseif err then
    error(err, 0)
  end
  return faults
end

--- The generation has taken over.
function M.committed()
  hot.run "load"
  if has_jobs() then
    require("perigee.queue.runner").start(require("perigee.jobs").list())
  end
end

--- It is to end, or another one has taken over: begins no more jobs.
function M.stop_jobs()
  require("perigee.queue.runner").stop()
end

--- The last request has ended.
function M.stop()
  hot.run "unload"
  if package.loaded["perigee.queue.driver"] then
    require("perigee.queue.driver").close_all()
  end
  if started and main.on_stop then
    main.on_stop()
  end
end

return M
