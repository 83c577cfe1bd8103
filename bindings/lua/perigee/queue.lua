--- Queues: work off the request, lost by no crash. One API over every driver:
--- see perigee.queue.driver.

local check = require "perigee.queue.check"
local check_options = require("perigee.options").check
local config = require "perigee.config"
local drivers = require "perigee.queue.driver"
local flow = require "perigee.queue.flow"
local jobs = require "perigee.queue.job"
local json = require "perigee.json"
local units = require "perigee.units"
local watch = require "perigee.queue.watch"

local M = {}

---@class perigee.Queue
---@field name string
local Queue = {}
Queue.__index = Queue

-- opts.tx is no option of the job: {tx, the others}.
local function split_tx(opts)
  if type(opts) ~= "table" or opts.tx == nil then
    return nil, opts
  end
  local rest = {}
  for key, value in pairs(opts) do
    if key ~= "tx" then
      rest[key] = value
    end
  end
  return opts.tx, rest
end

local function add_watched(self, entries, tx)
  local span = watch.producing(self.driver.name, self.name, entries)
  local added, err
  if tx then
    added, err = require("perigee.queue.outbox").put(tx, self.driver,
      self.name, entries)
  else
    added, err = self.driver:add(self.name, entries)
  end
  watch.done(span, not added and err or nil)
  return added, err
end

--- Adds a job; it is stored durably when this returns. With `opts.tx`, a
--- transaction of perigee.sqlite, it is part of that: it comes to be if, and
--- only if, the transaction commits.
---@param name string
---@param data any        # what JSON can carry
---@param opts table?     # delay priority attempts backoff job_id lifo remove_on_complete remove_on_fail dedup timeout group keep_logs
---@return perigee.Job? job
---@return perigee.Error? err # kind "invalid", "too_large", "unavailable"
function Queue:add(name, data, opts)
  local tx
  tx, opts = split_tx(opts)
  local entry, err = check.entry(name, data, opts, 2)
  if not entry then
    return nil, err
  end
  local added
  added, err = add_watched(self, { entry }, tx)
  if not added then
    return nil, err
  end
  return jobs.added(self.driver, self.name, entry, data, added[1])
end

--- Adds many: all or none.
---@param list {name: string, data: any, opts: table?}[]
---@param opts {tx: table?}? # as for add
---@return perigee.Job[]? jobs
---@return perigee.Error? err
function Queue:add_bulk(list, opts)
  if type(list) ~= "table" then
    error("a list of {name, data, opts} expected", 2)
  end
  check_options(opts or {}, { tx = true }, "add_bulk", 2)
  local entries, known = {}, {}
  for i, one in ipairs(list) do
    if type(one) ~= "table" then
      error(("a list of {name, data, opts} expected: item %d is a %s")
        :format(i, type(one)), 2)
    end
    check_options(one, check.JOB_FIELDS, ("item %d"):format(i), 2)
    local entry, err = check.entry(one.name, one.data, one.opts, 2, known)
    if not entry then
      return nil, err
    end
    entries[i] = entry
  end
  if #entries == 0 then
    return json.array {}
  end
  local added, err = add_watched(self, entries, opts and opts.tx)
  if not added then
    return nil, err
  end
  local made = json.array {}
  for i, entry in ipairs(entries) do
    made[i] = jobs.added(self.driver, self.name, entry, list[i].data, added[i])
  end
  return made
end

--- How many jobs are in each state.
---@return table<perigee.queue.State, integer>? counts
---@return perigee.Error? err
function Queue:counts()
  return self.driver:counts(self.name)
end

--- Jobs of a state: the first that will be served, or the one that has ended
--- last, comes first.
---@param state perigee.queue.State
---@param range {from: integer?, to: integer?, ascending: boolean?}|integer|nil # from 0, both included; 0 to 99 unless told
---@param to integer?
---@return perigee.Job[]? jobs
---@return perigee.Error? err
function Queue:jobs(state, range, to)
  check.state(state, 2)
  local from, ascending = 0, state ~= "completed" and state ~= "failed"
  if type(range) == "table" then
    from, to = range.from or range[1] or 0, range.to or range[2]
    if range.ascending ~= nil then
      ascending = range.ascending
    end
  elseif range ~= nil then
    from = range
  end
  to = to or type(from) == "number" and from + 99
  if not check.is_whole(from, 0) or not check.is_whole(to, -1) then
    error("a range from 0 on expected, such as {0, 99} (to -1: to the end)", 2)
  end
  local records, err = self.driver:jobs(self.name, state, from, to, ascending)
  if not records then
    return nil, err
  end
  local list = json.array {}
  for i, record in ipairs(records) do
    list[i] = jobs.of(self.driver, record)
  end
  return list
end

--- A job as it is now, with its logs; nil alone when there is none.
---@param id string
---@return perigee.Job? job
---@return perigee.Error? err
function Queue:job(id)
  local record, err = self.driver:job(self.name, tostring(id))
  if not record then
    return nil, err
  end
  local logs
  logs, err = self.driver:logs(self.name, record.id)
  if not logs then
    if err and err.kind == "not_found" then
      return nil -- it has gone since
    end
    return nil, err
  end
  return jobs.of(self.driver, record, logs)
end

--- No job is begun any more; those that run are not touched.
---@return true? ok
---@return perigee.Error? err
function Queue:pause()
  return self.driver:pause(self.name)
end

---@return true? ok
---@return perigee.Error? err
function Queue:resume()
  return self.driver:resume(self.name)
end

---@return boolean? paused
---@return perigee.Error? err
function Queue:is_paused()
  return self.driver:is_paused(self.name)
end

--- Removes the jobs that wait.
---@param opts {delayed: boolean?}|boolean|nil # the delayed ones too
---@return integer? removed
---@return perigee.Error? err
function Queue:drain(opts)
  local delayed = opts
  if type(opts) == "table" then
    delayed = opts.delayed
  end
  return self.driver:drain(self.name, delayed == true)
end

-- Also without items a list, where it is an answer.
local function listed(list, err)
  return list and json.array(list), err
end

--- Removes jobs that ended (for other states: came) longer than `grace` ago.
---@param grace string|number
---@param limit integer?  # 0: all
---@param state perigee.queue.State?  # "completed" unless told
---@return string[]? ids
---@return perigee.Error? err
function Queue:clean(grace, limit, state)
  local ms, why = units.duration(grace)
  if not ms then
    error("grace: " .. why, 2)
  end
  state = state or "completed"
  check.state(state, 2)
  if limit ~= nil and not check.is_whole(limit, 0) then
    error("limit: a whole number from 0 expected (0: all)", 2)
  end
  return listed(self.driver:clean(self.name, math.floor(ms), limit or 0, state))
end

--- Removes the queue with all that belongs to it. It must be paused; jobs that
--- run are "conflict" unless forced.
---@param opts {force: boolean?}?
---@return true? ok
---@return perigee.Error? err
function Queue:obliterate(opts)
  return self.driver:obliterate(self.name, opts ~= nil and opts.force == true)
end

--- Limits that hold for the whole queue, whoever runs its jobs: how many at
--- once, how many begun in a time; and the same for each group. Replaces what
--- was set; an empty table takes the limits away.
---@param limit perigee.queue.Limit
---@return true? ok
---@return perigee.Error? err
function Queue:limit(limit)
  return self.driver:limit(self.name, check.limit(limit, 2))
end

--- Adds a job again and again: every so often, or when a cron pattern of 5 or
--- 6 fields (with seconds in front) says so, by the clock of a time zone. The
--- same id again replaces the schedule.
---@param id string
---@param schedule perigee.queue.Schedule
---@param template {name: string?, data: any, opts: table?}?
---@return {next: integer?}? scheduled # next: nil when it has ended
---@return perigee.Error? err
function Queue:schedule(id, schedule, template)
  check.schedule_id(id, 2)
  local checked = check.schedule(schedule, 2)
  template = template or {}
  check_options(template, check.JOB_FIELDS, "a schedule's job", 2)
  local entry, err = check.entry(template.name or id, template.data,
    template.opts, 2)
  if not entry then
    return nil, err
  end
  return self.driver:schedule(self.name, id, checked, entry)
end

---@param id string
---@return boolean? existed
---@return perigee.Error? err
function Queue:unschedule(id)
  return self.driver:unschedule(self.name, id)
end

---@return perigee.queue.Schedule[]? list
---@return perigee.Error? err
function Queue:schedules()
  return listed(self.driver:schedules(self.name))
end

--- Calls a function for each event of that name, whichever worker it happens
--- in: "added" "active" "delayed" "progress" "completed" "failed" "stalled"
--- "removed" "paused" "resumed" ... It may wait.
---@param name perigee.queue.EventName
---@param fn fun(event: {event: string, id: string?, result: any, failure: string?, progress: any})
---@return fun() off
function Queue:on(name, fn)
  if type(name) ~= "string" or type(fn) ~= "function" then
    error("an event and a function expected", 2)
  end
  return self.driver:subscribe(self.name, function(event)
    if event.event ~= name then
      return
    end
    local told = {}
    for key, value in pairs(event) do
      told[key] = value
    end
    if told.result ~= nil then
      told.result = json.decode(told.result)
    end
    if told.progress ~= nil then
      told.progress = json.decode(told.progress)
    end
    fn(told)
  end)
end

--- How many jobs have ended, ever.
---@return {completed: integer, failed: integer}? stats
---@return perigee.Error? err
function Queue:stats()
  return self.driver:stats(self.name)
end

---@class perigee.queue.Client
local Client = {}
Client.__index = Client

---@param name string
---@return perigee.Queue
function Client:get(name)
  check.name(name, 2)
  local queue = self.queues[name]
  if not queue then
    queue = setmetatable({
      name = name, driver = self.driver, settings = self.settings,
    }, Queue)
    self.queues[name] = queue
  end
  return queue
end

--- Names of the queues that there are.
---@return string[]? names
---@return perigee.Error? err
function Client:names()
  return self.driver:queues()
end

--- Adds a tree of jobs, all or none: each waits until its children have
--- completed, and finds their results in `job:children_values()`.
---@param root {name: string, queue: string, data: any, opts: table?, children: table[]?}
---@return perigee.Job? job # with `children`
---@return perigee.Error? err
function Client:flow(root)
  local node, err = flow.check(root, 2)
  if not node then
    return nil, err
  end
  local added
  added, err = self.driver:flow(node)
  if not added then
    return nil, err
  end
  return flow.jobs(self.driver, node, added)
end

---@class perigee.queue.Settings
---@field driver string?            # "embedded" or "redis"
---@field path string?              # embedded: the file
---@field synchronous string?       # embedded: "off" "normal" "full" "extra"
---@field redis string?             # redis: which redis.NAME
---@field prefix string?            # redis: of the keys
---@field lock integer?             # redis: ms
---@field stalled_interval integer? # ms
---@field stalled_max integer?
---@field idle_timeout integer?     # ms
---@field metrics (boolean|integer)? # redis: kept with each queue

-- The other settings of section `queue` are the worker's.
local SETTINGS = {
  driver = true, path = true, synchronous = true, redis = true, prefix = true,
  lock = true, stalled_interval = true, stalled_max = true,
  idle_timeout = true, metrics = true,
}

--- Queues with settings of their own (section `queue` of the configuration,
--- what is absent is as configured).
---@param settings perigee.queue.Settings?
---@return perigee.queue.Client
function M.open(settings)
  if settings ~= nil then
    check_options(settings, SETTINGS, "queue", 2)
  end
  local merged = {}
  for key, value in pairs(config.queue or {}) do
    merged[key] = value
  end
  for key, value in pairs(settings or {}) do
    merged[key] = value
  end
  return setmetatable({
    driver = drivers.open(merged), settings = merged, queues = {},
  }, Client)
end

local default

local function client()
  default = default or M.open()
  return default
end

--- The queue of that name.
---@param name string
---@return perigee.Queue
function M.get(name)
  check.name(name, 2)
  return client():get(name)
end

--- Adds a tree of jobs: see perigee.queue.Client.flow.
---@param root table
---@return perigee.Job? job
---@return perigee.Error? err
function M.flow(root)
  return client():flow(root)
end

--- Names of the queues that there are.
---@return string[]? names
---@return perigee.Error? err
function M.names()
  return client():names()
end

return M
