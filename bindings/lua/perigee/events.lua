--- Messages to all workers of a host.

local core = require "perigee.core.events"
local core_task = require "perigee.core.task"

local M = {}

local handlers = {} -- topic -> list of {function}

--- Tells every worker, this one too, once; what one worker publishes arrives
--- in order. Data is what JSON can carry, 32 KB at most with the topic.
---@param topic string
---@param data any
---@return true? ok
---@return perigee.Error? err  # kind "too_large", "unavailable", "invalid"
function M.publish(topic, data)
  return core.publish(topic, data)
end

--- Calls a function with the data of each message on a topic. It may wait; an
--- old generation stops hearing when another one takes over.
---@param topic string
---@param fn fun(data: any)
---@return fun() off  # takes the handler back
function M.on(topic, fn)
  if type(topic) ~= "string" or type(fn) ~= "function" then
    error("a topic and a function expected", 2)
  end
  core.listen()
  local list = handlers[topic] or {}
  handlers[topic] = list
  local entry = { fn } -- its own: one function may be there twice
  list[#list + 1] = entry
  return function()
    for i, one in ipairs(list) do
      if one == entry then
        table.remove(list, i)
        return
      end
    end
  end
end

--- For C: a message has come. Handlers that wait do not hold up the others.
function M.deliver(topic, data)
  local list = handlers[topic]
  for i = 1, list and #list or 0 do
    core_task.start(list[i][1], data)
  end
end

return M
