--- Queues in Redis: the scripts, bound to a client.

local core = require "perigee.core.task"
local entry = require "perigee.queue.redis.entry"
local errors = require "perigee.error"
local redis = require "perigee.core.redis"
local time = require "perigee.time"

local M = {}

local SOURCES = {}
for _, name in ipairs { "add", "work", "lost", "queue", "job", "schedule" } do
  for key, value in pairs(require("perigee.queue.redis.script_" .. name)) do
    SOURCES[key] = value
  end
end

-- What a script answers when it has changed nothing.
local REFUSALS = {
  [-1] = { "not_found", "there is no such job" },
  [-2] = { "conflict", "the lease has run out" },
  [-3] = { "conflict", "the job is not in a state for that" },
  [-4] = { "conflict", "the job has children that are not done" },
  [-5] = { "not_found", "there is no such parent" },
  [-6] = { "conflict", "another worker has the lease" },
  [-7] = { "conflict", "the job has another parent" },
  [-8] = { "conflict", "the job belongs to a schedule" },
  [-9] = { "conflict", "the job has children that failed" },
  [-10] = { "conflict", "the schedule's next job is there already" },
}

--- The error for a script's number.
---@param code integer
---@return perigee.Error
function M.refusal(code)
  local known = REFUSALS[code]
  local err = errors.new(known and known[1] or "internal",
    known and known[2] or "unknown answer " .. tostring(code))
  err.code = (code == -4 or code == -9) and "children" or nil
  return err
end

---@class perigee.queue.redis.Store
---@field client perigee.redis.Client
---@field prefix string
local Store = {}
Store.__index = Store

--- The queue's root and a list with it, which scripts take as their keys.
---@param queue string
---@return string[]
function Store:keys(queue)
  local keys = self.roots[queue]
  if not keys then
    keys = { self.prefix .. ":" .. queue }
    self.roots[queue] = keys
  end
  return keys
end

function Store:root(queue)
  return self:keys(queue)[1]
end

--- Runs a script on a queue.
---@param name string
---@param queue string
---@param args any[]?
---@return any reply
---@return perigee.Error? err
function Store:run(name, queue, args)
  return self:run_on(name, self:keys(queue), args)
end

--- By what a script is called once it has been run.
---@param name string
---@return string
function Store:sha(name)
  local sha = self.shas[name]
  if not sha then
    sha = redis.sha1_hex(SOURCES[name])
    self.shas[name] = sha
  end
  return sha
end

function Store:run_on(name, keys, args)
  local script = self.scripts[name]
  if not script then
    script = self.client:script(SOURCES[name])
    self.scripts[name] = script
  end
  return script(keys, args)
end

--- Runs a script that gives 0 or more, or a refusal.
---@return integer? value
---@return perigee.Error? err
function Store:change(name, queue, args)
  local reply, err = self:run(name, queue, args)
  if reply == nil then
    return nil, err
  elseif reply < 0 then
    return nil, M.refusal(reply)
  end
  return reply
end

-- ---- adds: those of one turn of the loop go together ----

local BATCH = 48

local function send_plain(store, batch)
  local first, err = store:run("add_plain", batch.queue, batch.args)
  if not first then
    batch.err = err
    return
  end
  for i = 1, batch.n do
    batch[i] = { id = ("%.0f"):format(first + i - 1) }
  end
end

local function send_any(store, batch)
  local reply, err = store:run("add", batch.queue, batch.args)
  if not reply then
    batch.err = err
    return
  end
  for i = 1, batch.n do
    local id = reply[i]
    if type(id) == "number" then
      batch[i] = M.refusal(id)
    elseif id:sub(1, 1) == "=" then
      batch[i] = { id = id:sub(2), duplicate = true }
    else
      batch[i] = { id = id }
    end
  end
end

local function flush(store, open, batch)
  core.yield() -- others of this turn may add, too
  if open[batch.queue] == batch then
    open[batch.queue] = nil
  end
  local ok, why = pcall(batch.send, store, batch)
  if not ok then
    batch.err = errors.wrap(why)
  end
  batch.event:set() -- whatever happens: the others wait for it
  if not ok then
    error(why, 0)
  end
end

local function new_batch(store, open, queue, send)
  local batch = {
    queue = queue, n = 0, args = { time.now() }, event = core.event(),
    send = send,
  }
  open[queue] = batch
  core.start(flush, store, open, batch)
  return batch
end

local function take_results(batch, from, to)
  if batch.err then
    return nil, batch.err
  end
  local out = {}
  for i = from, to do
    local one = batch[i]
    if errors.is(one) then
      return nil, one
    end
    out[#out + 1] = one
  end
  return out
end

--- Adds jobs to a queue: all of them, or none.
---@param queue string
---@param entries perigee.queue.Entry[]
---@return {id: string, duplicate: boolean?}[]?
---@return perigee.Error? err
function Store:add(queue, entries)
  local plain = true
  for i = 1, #entries do
    plain = plain and entry.is_plain(entries[i].opts)
  end
  local open = plain and self.plain or self.any
  local batch = open[queue]
  if not batch or batch.n + #entries > BATCH then
    batch = new_batch(self, open, queue, plain and send_plain or send_any)
  end
  local from, args = batch.n + 1, batch.args
  for i = 1, #entries do
    if plain then
      entry.put_plain(args, entries[i])
    else
      entry.put(args, entries[i], { key = 1, now = args[1] })
    end
  end
  batch.n = batch.n + #entries
  batch.event:wait()
  return take_results(batch, from, from + #entries - 1)
end

--- Opens the queues of a Redis.
---@param client perigee.redis.Client
---@param prefix string
---@return perigee.queue.redis.Store
function M.open(client, prefix)
  return setmetatable({
    client = client, prefix = prefix, scripts = {}, shas = {}, roots = {},
    plain = {}, any = {},
  }, Store)
end

return M
