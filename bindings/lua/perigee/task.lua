--- Tasks: waiting without callbacks. Children end with their parent, and every
--- wait inherits the deadline of the task that it is in.

local core = require "perigee.core.task"
local json = require "perigee.json"
local options = require "perigee.options"
local units = require "perigee.units"

local MAP = { concurrency = true }

local M = {}

local blame = options.blame

---@class perigee.Task
---@field join fun(self: perigee.Task): ...     # its values, or nil and its error
---@field cancel fun(self: perigee.Task, reason: string?)
---@field status fun(self: perigee.Task): "running"|"done"|"failed"

---@class perigee.Semaphore
---@field acquire fun(self: perigee.Semaphore): true?, perigee.Error?
---@field release fun(self: perigee.Semaphore)
---@field with fun(self: perigee.Semaphore, fn: fun(...), ...): ...

--- Starts a function as a child of the running task.
---@param fn fun(...)
---@param ... any
---@return perigee.Task
function M.spawn(fn, ...)
  return core.spawn(fn, ...)
end

--- Starts a function that outlives the running task; it ends with the
--- generation's drain at the latest. It inherits no deadline.
---@param fn fun(...)
---@param ... any
---@return perigee.Task
function M.spawn_detached(fn, ...)
  return core.spawn_detached(fn, ...)
end

--- Waits.
---@param duration string|number  # "30s", or milliseconds
function M.sleep(duration)
  core.sleep(duration)
end

--- Lets other tasks and the loop go on, for work that computes for long.
function M.yield()
  core.yield()
end

local function cancel_all(handles)
  for _, handle in pairs(handles) do
    handle:cancel "another one of the group has ended"
  end
end

-- A failure is what was raised, or `nil, err` returned.
local function failure(first, second)
  if first == nil then
    return second
  end
  return nil
end

-- Waits for the next child of the group to end: its place and its results.
local function next_ended(group, places)
  group:wait()
  local handle = group:ended()
  local place = places[handle]
  places[handle] = nil
  return place, handle:join()
end

local function keep_first(results, place, first, ...)
  local err = failure(first, ...)
  if not err then
    results[place] = first
  end
  return err
end

local function check_functions(fns)
  if type(fns) ~= "table" then
    blame("a list of functions expected")
  end
  for i, fn in ipairs(fns) do
    if type(fn) ~= "function" then
      blame(("a list of functions expected: item %d is a %s")
        :format(i, type(fn)))
    end
  end
end

local function handles_of(places)
  local handles = {}
  for handle in pairs(places) do
    handles[#handles + 1] = handle
  end
  return handles
end

-- Runs body(group, places); whatever it raises, no child is left running.
local function in_group(body, ...)
  local group, places = core.group(), {}
  local function finish(ok, ...)
    cancel_all(handles_of(places))
    if not ok then
      error((...), 0)
    end
    return ...
  end
  return finish(pcall(body, group, places, ...))
end

local function run_map(group, places, list, fn, limit)
  local results, started, running = json.array(), 0, 0 -- no results are []
  while started < #list or running > 0 do
    if started < #list and running < limit then
      started, running = started + 1, running + 1
      places[group:spawn(fn, list[started], started)] = started
    else
      running = running - 1
      local err = keep_first(results, next_ended(group, places))
      if err then
        return nil, err
      end
    end
  end
  return results
end

--- Applies a function to each element, `concurrency` of them at a time (all
--- unless told). The first failure cancels the others.
---@generic T, R
---@param list T[]
---@param fn fun(value: T, index: integer): R?, perigee.Error?
---@param opts { concurrency: integer? }?
---@return R[]? results  # in the order of the list
---@return perigee.Error? err
function M.map(list, fn, opts)
  if type(list) ~= "table" or type(fn) ~= "function" then
    blame("a list and a function expected")
  end
  if opts ~= nil then
    options.check(opts, MAP, "task.map")
  end
  local limit = opts and opts.concurrency or math.huge
  if type(limit) ~= "number" or limit < 1 or limit ~= limit then
    blame("concurrency must be a positive number")
  end
  return in_group(run_map, list, fn, limit)
end

local function call(fn)
  return fn()
end

--- Runs functions at the same time. The first failure cancels the others.
---@param fns (fun(): any)[]
---@return any[]? results  # the first value of each
---@return perigee.Error? err
function M.all(fns)
  check_functions(fns)
  return in_group(run_map, fns, call, math.huge)
end

local function drop_place(_, ...)
  return ...
end

local function run_race(group, places, fns)
  for i = 1, #fns do
    places[group:spawn(fns[i])] = i
  end
  return drop_place(next_ended(group, places))
end

--- Runs functions at the same time; the first to end, well or not, gives the
--- result, and the others are cancelled.
---@param fns (fun(): ...)[]
---@return ...
function M.race(fns)
  check_functions(fns)
  if #fns == 0 then
    blame("at least one function expected")
  end
  return in_group(run_race, fns)
end

--- Runs a function that has so much time; then it is cancelled and the result
--- is `nil, err` of kind "timeout".
---@param duration string|number
---@param fn fun(...): ...
---@param ... any
---@return ...
function M.with_deadline(duration, fn, ...)
  local ms, why = units.duration(duration)
  if not ms then
    blame("with_deadline: " .. why)
  end
  return core.spawn_within(duration, fn, ...):join()
end

--- Runs a function that computes for long on another thread, in a Lua state of
--- its own, and waits for its values; the worker serves others meanwhile. Plain
--- values go in and come out; the function's upvalues are plain values,
--- functions, or modules, which the other state requires for itself. A
--- cancelled or overdue call is stopped.
---@param fn fun(...): ...
---@param ... any
---@return any ... # its values; or nil and an error, with a `traceback` when it was raised
function M.offload(fn, ...)
  return require("perigee.offload").run(fn, ...)
end

local semaphore = {}
semaphore.__index = semaphore

function semaphore:acquire()
  return self.core:acquire()
end

function semaphore:release()
  self.core:release()
end

local function release_after(core_semaphore, ok, ...)
  core_semaphore:release()
  if not ok then
    error((...), 0)
  end
  return ...
end

function semaphore:with(fn, ...)
  local ok, err = self.core:acquire()
  if not ok then
    return nil, err
  end
  return release_after(self.core, pcall(fn, ...))
end

--- At most n at a time.
---@param n integer
---@return perigee.Semaphore
function M.semaphore(n)
  options.number(n, 1, "semaphore: n")
  return setmetatable({ core = core.semaphore(n) }, semaphore)
end

return M
