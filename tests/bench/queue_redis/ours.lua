-- One test of perigee.queue: `return function(test, count) -> result`. Run by
-- queue_redis.mjs as a service of an application of its own.

local json = require "perigee.json"
local queue = require "perigee.queue"
local runner = require "perigee.queue.runner"
local signal = require("perigee.core.queue").signal
local task = require "perigee.task"
local time = require "perigee.time"

local OPTIONS = { remove_on_complete = true, remove_on_fail = true }

local function data(i)
  return { n = i, user = "user-" .. i, note = ("x"):rep(64) }
end

local function cpu_s()
  local file = assert(io.open "/proc/self/stat")
  local fields, n = {}, 2
  for word in file:read("*a"):match("%) (.*)"):gmatch "%S+" do
    n = n + 1
    fields[n] = tonumber(word)
  end
  file:close()
  return (fields[14] + fields[15]) / 100
end

local function timed(count, fn)
  local cpu, began = cpu_s(), time.monotonic()
  fn()
  local ms = time.monotonic() - began
  return { rate = count / ms * 1000, cpu_us = (cpu_s() - cpu) / count * 1e6 }
end

local function add(count, flight)
  local q, i, list = queue.get "bench", 0, {}
  for k = 1, flight do
    list[k] = k
  end
  assert(task.map(list, function()
    while i < count do
      i = i + 1
      assert(q:add("job", data(i), OPTIONS))
    end
    return true
  end))
end

local function fill(count, size)
  for i = 0, count - 1, size do
    local list = {}
    for k = 1, size do
      list[k] = { name = "job", data = data(i + k), opts = OPTIONS }
    end
    assert(queue.get("bench"):add_bulk(list))
  end
end

local function process(count, concurrency)
  local done, all = 0, signal()
  runner.start { { queue = "bench", concurrency = concurrency,
    run = function()
      done = done + 1
      if done == count then
        all:set()
      end
    end } }
  all:wait()
  repeat -- the last ones are stored as ended
    task.sleep(1)
  until queue.get("bench"):counts().active == 0
end

local function latency(count, per_second)
  local late, sent, all = {}, {}, signal()
  runner.start { { queue = "bench", concurrency = 50,
    run = function(job)
      late[#late + 1] = time.monotonic() - sent[job.data.n]
      if #late == count then
        all:set()
      end
    end } }
  task.sleep(300)
  local began = time.monotonic()
  for i = 1, count do
    local wait = began + i * 1000 / per_second - time.monotonic()
    if wait > 0 then
      task.sleep(wait)
    end
    sent[i] = time.monotonic()
    task.spawn(function() queue.get("bench"):add("job", data(i), OPTIONS) end)
  end
  all:wait(10000)
  table.sort(late)
  local function at(part)
    return late[math.min(#late, math.floor(#late * part) + 1)]
  end
  return { p50_ms = at(0.5), p99_ms = at(0.99), done = #late }
end

return function(test, count)
  local kind, argument = test:match "^(%a+):(%d+)$"
  argument = tonumber(argument)
  if kind == "add" then
    add(math.floor(count / 10), argument)
    return json.encode(timed(count, function() add(count, argument) end))
  elseif kind == "bulk" then
    fill(math.floor(count / 10), argument)
    return json.encode(timed(count, function() fill(count, argument) end))
  elseif kind == "process" then
    fill(count, 1000)
    return json.encode(timed(count, function() process(count, argument) end))
  end
  return json.encode(latency(count, argument))
end
