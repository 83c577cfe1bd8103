--- What a driver of queues is: the whole of it is written down here. The rest
--- of perigee.queue (options, jobs as objects, the runner, the command line)
--- knows of a driver nothing else, so another engine is one more module
--- `perigee.queue.NAME` with `open(settings)`.
---
--- Rules for all functions:
--- * They run in tasks and may wait. What may happen while running is
---   `nil, err` (perigee.error); kinds: "not_found" (no such job), "conflict"
---   (not in a state for that), "unavailable", "timeout", "invalid".
--- * Payloads (`data`, `result`, `progress`) are JSON *texts*, passed on byte for
---   byte. Times are Unix milliseconds, durations milliseconds. Ids are strings.
--- * Options are those of the contract, checked already and normalised by
---   perigee.queue.options (durations are numbers, `backoff` is a table).
--- * A change that is told as done survives a crash of the host.

local M = {}

--- States: "waiting" "prioritized" "active" "delayed" "completed" "failed"
--- "paused" (waiting in a queue that is paused) "waiting_children".
---@alias perigee.queue.State
---| "waiting" | "prioritized" | "active" | "delayed" | "completed" | "failed"
---| "paused" | "waiting_children"

---@class perigee.queue.Backoff
---@field type "fixed"|"exponential"|"custom" # or what Node's side calls its own
---@field delay integer   # ms
---@field jitter number?  # 0 to 1: that part of the delay is random

---@class perigee.queue.Dedup
---@field id string
---@field ttl integer?     # ms; without: until the job has ended
---@field replace boolean? # a delayed job is replaced by the new one
---@field extend boolean?  # each add starts the ttl again

--- Options of a job, normalised. Absent means: not given.
---@class perigee.queue.Options
---@field delay integer?        # ms
---@field priority integer?     # 0 to 2097151; none and 0 are served first
---@field attempts integer?     # 1 or more
---@field backoff perigee.queue.Backoff?
---@field job_id string?
---@field lifo boolean?
---@field remove_on_complete boolean|integer|{count: integer?, age: integer?}|nil # integer: keep that many; age in ms
---@field remove_on_fail boolean|integer|{count: integer?, age: integer?}|nil
---@field dedup perigee.queue.Dedup?
---@field timeout integer?      # ms a run may take
---@field group string?         # tenant
---@field keep_logs integer?
---@field timestamp integer?    # ms; now unless given
---@field on_child_failure "fail"|"continue"|"ignore"|"remove"|nil # of a child, towards its parent

--- A job to be added.
---@class perigee.queue.Entry
---@field name string
---@field data string          # JSON text
---@field opts perigee.queue.Options

--- A job as it was when it was read.
---@class perigee.queue.Record
---@field id string
---@field queue string
---@field name string
---@field data string          # JSON text
---@field opts perigee.queue.Options
---@field state perigee.queue.State?
---@field timestamp integer
---@field delay integer
---@field priority integer
---@field attempts integer     # that were made (ended), not counting a running one
---@field started integer      # how often it was begun, ended or not
---@field crashed integer      # how often its worker died in it
---@field processed_on integer?
---@field finished_on integer?
---@field progress string?     # JSON text
---@field result string?       # JSON text
---@field failure string?      # plain text
---@field stacktrace string[]?
---@field parent {id: string, queue: string}?
---@field scheduler string?
---@field worker string?
---@field token any            # of the lease; only from consumer:take

--- Why a run failed.
---@class perigee.queue.Failure
---@field message string
---@field stack string?

---@alias perigee.queue.EventName
---| "added" | "waiting" | "active" | "delayed" | "progress" | "completed"
---| "failed" | "stalled" | "removed" | "paused" | "resumed" | "drained"
---| "retries_exhausted" | "deduplicated" | "duplicated"
---| "waiting_children"

---@class perigee.queue.Event
---@field event perigee.queue.EventName
---@field id string?
---@field name string?         # "added"
---@field result string?       # JSON text, "completed"
---@field failure string?      # "failed"
---@field progress string?     # JSON text
---@field prev perigee.queue.State?
---@field cut boolean?         # what it carried was too long, and could not be kept

--- One who runs jobs of one queue in this worker. take and what ends a job may
--- be called by many tasks at once.
---
--- The driver renews what leases it has, from a thread of its own that no busy
--- script holds up, from take until complete, fail or release has been called.
---
--- take: waits until there is at least one job, gives n at most; nil alone once
--- closed. Delayed jobs that are due, limits, pauses and jobs of dead workers
--- are the driver's to see to. An error is for the log: the runner calls again
--- after a pause.
--- complete: "conflict": the lease is not his any more (fencing), nothing was
--- changed
--- fail: retry_in ms (0: at once) when it is to be tried again; nil: failed for
--- good
---@class perigee.queue.Consumer
---@field take fun(self, n: integer): perigee.queue.Record[]?, perigee.Error?
---@field complete fun(self, job: perigee.queue.Record, result: string): true?, perigee.Error?
---@field fail fun(self, job: perigee.queue.Record, failure: perigee.queue.Failure, retry_in: integer?): true?, perigee.Error?
---@field release fun(self, job: perigee.queue.Record): true?, perigee.Error? # back to the front of the queue; the attempt does not count
---@field heartbeat fun(self, job: perigee.queue.Record): true?, perigee.Error? # asks at once whether the lease is still his
---@field close fun(self) # take gives nil; jobs that run may still be ended. Never waits

---@class perigee.queue.ConsumeOptions
---@field concurrency integer
---@field room (fun(): integer)?    # how many jobs could begin now
---@field name string?              # of the worker
---@field on_lost fun(job: perigee.queue.Record)? # the lease has gone to another one: stop the run
---@field on_cancel fun(job: perigee.queue.Record, reason: string)? # somebody has cancelled it: stop the run and fail it

---@class perigee.queue.Limit
---@field concurrency integer?              # of the whole queue
---@field rate {max: integer, duration: integer}? # starts in so many ms
---@field group {concurrency: integer?, rate: {max: integer, duration: integer}?}? # of each group

---@class perigee.queue.Schedule
---@field every integer?      # ms
---@field cron string?        # 5 or 6 fields
---@field tz string?
---@field limit integer?      # iterations
---@field start integer?      # ms
---@field finish integer?     # ms
---@field catch_up "one"|"none"|"all"|nil # of the times that were missed; "one" unless told
---@field immediately boolean?
---@field next integer?       # read only: when the next iteration is due
---@field iterations integer? # read only
---@field id string?          # read only

---@class perigee.queue.FlowNode
---@field queue string
---@field entry perigee.queue.Entry
---@field children perigee.queue.FlowNode[]?

---
--- add: all or none of them; the id of the job that is there already for a
--- taken job_id or dedup id
--- jobs: from 0, both included; in the order of being served (waiting, ...), or
--- of being finished. ascending false: the other way round
--- clean: ids of those removed that ended (came) more than grace ms ago; limit
--- 0: all
--- children: "QUEUE:ID" → result as JSON text, or why it failed
--- subscribe: gives what ends it; fn is called in a task of its own and may
--- wait
---@class perigee.queue.Driver
---@field name string
---@field is_shared boolean? # other applications may have queues there
---@field add fun(self, queue: string, entries: perigee.queue.Entry[]): {id: string, duplicate: boolean?}[]?, perigee.Error?
---@field counts fun(self, queue: string): table<perigee.queue.State, integer>?, perigee.Error? # all eight states
---@field jobs fun(self, queue: string, state: perigee.queue.State, from: integer, to: integer, ascending: boolean): perigee.queue.Record[]?, perigee.Error?
---@field job fun(self, queue: string, id: string): perigee.queue.Record?, perigee.Error? # nil alone: there is none
---@field logs fun(self, queue: string, id: string): string[]?, perigee.Error?
---@field log fun(self, queue: string, id: string, line: string, keep: integer?): integer?, perigee.Error? # how many there are
---@field progress fun(self, queue: string, id: string, progress: string): true?, perigee.Error?
---@field update fun(self, queue: string, id: string, data: string): true?, perigee.Error?
---@field retry fun(self, queue: string, id: string): true?, perigee.Error? # failed or completed → waiting
---@field promote fun(self, queue: string, id: string): true?, perigee.Error? # delayed → waiting
---@field remove fun(self, queue: string, id: string): true?, perigee.Error? # "conflict" when it runs
---@field cancel fun(self, queue: string, id: string, reason: string): true?, perigee.Error? # its runner is told; "conflict" when it does not run
---@field change_priority fun(self, queue: string, id: string, priority: integer): true?, perigee.Error?
---@field change_delay fun(self, queue: string, id: string, delay: integer): true?, perigee.Error?
---@field pause fun(self, queue: string): true?, perigee.Error?
---@field resume fun(self, queue: string): true?, perigee.Error?
---@field is_paused fun(self, queue: string): boolean?, perigee.Error?
---@field drain fun(self, queue: string, delayed: boolean): integer?, perigee.Error? # how many were removed
---@field clean fun(self, queue: string, grace: integer, limit: integer, state: perigee.queue.State): string[]?, perigee.Error?
---@field obliterate fun(self, queue: string, force: boolean): true?, perigee.Error?
---@field limit fun(self, queue: string, limit: perigee.queue.Limit): true?, perigee.Error? # replaces what was set
---@field queues fun(self): string[]?, perigee.Error?
---@field flow fun(self, root: perigee.queue.FlowNode): table?, perigee.Error? # {id, queue, children = {...}}; all or nothing
---@field children fun(self, queue: string, id: string): {values: table<string, string>, pending: integer, failed: table<string, string>}?, perigee.Error?
---@field schedule fun(self, queue: string, id: string, schedule: perigee.queue.Schedule, entry: perigee.queue.Entry): {next: integer}?, perigee.Error?
---@field unschedule fun(self, queue: string, id: string): boolean?, perigee.Error? # whether it was there
---@field schedules fun(self, queue: string): perigee.queue.Schedule[]?, perigee.Error?
---@field subscribe fun(self, queue: string, fn: fun(event: perigee.queue.Event)): fun()
---@field last_word fun(self, queue: string, id: string): perigee.queue.Event? # how a job went that is gone, where that is still known
---@field consume fun(self, queue: string, options: perigee.queue.ConsumeOptions): perigee.queue.Consumer
---@field stats fun(self, queue: string): {completed: integer, failed: integer}?, perigee.Error? # ever
---@field recall fun(self, queue: string, id: string, key: string): string?, perigee.Error? # what remember has kept with the job
---@field remember fun(self, queue: string, id: string, key: string, value: string): true?, perigee.Error?
---@field close fun(self)

-- settings' text → driver: one for all who ask with the same settings.
local open = {}

local function key_of(settings)
  local parts = {}
  for key, value in pairs(settings) do
    if type(value) ~= "table" then
      parts[#parts + 1] = key .. "=" .. tostring(value)
    end
  end
  table.sort(parts)
  return table.concat(parts, "\n")
end

--- The driver that settings (section `queue` of the configuration) name.
---@param settings table
---@return perigee.queue.Driver
function M.open(settings)
  local key = key_of(settings)
  local driver = open[key]
  if not driver then
    local name = settings.driver or "embedded"
    local found, module = pcall(require, "perigee.queue." .. name)
    if not found then
      error(("queue.driver: %s cannot be used: %s"):format(name,
        tostring(module)), 0)
    end
    driver = module.open(settings)
    open[key] = driver
  end
  return driver
end

--- Every driver that was opened: jobs that were taken go back.
function M.close_all()
  for key, driver in pairs(open) do
    open[key] = nil
    driver:close()
  end
end

return M
