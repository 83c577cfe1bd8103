--- Redis: pipelines over several servers, and commands for all of them.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"
local keys = require "perigee.redis.keys"
local task = require "perigee.task"

local M = {}

local ASKING = core.encode "ASKING"
local REDIRECTS = {
  MOVED = true, ASK = true, TRYAGAIN = true, CLUSTERDOWN = true,
  READONLY = true, MASTERDOWN = true, closed = true,
}

--- Notes a pipelined command's slot.
---@param p table
---@param n integer
---@param upper string
---@param ... any
function M.note(p, n, upper, ...)
  if upper == "PUBLISH" and p.blocking then
    p.slots[n] = false -- in a transaction: where its keys are
    return
  end
  local slot, err = keys.slot(upper, ...)
  p.slots[n] = slot or err or false
end

--- The slot that all commands share; nil: none of them has one.
---@param p table
---@return integer|false|nil slot
---@return perigee.Error? err
function M.common_slot(p)
  local common
  for n = 1, p.count do
    local slot = p.slots[n]
    if errors.is(slot) then
      return false, slot
    elseif slot and common and slot ~= common then
      local err = errors.new("invalid", "redis: the keys of the transaction "
        .. "are in different slots of the cluster: give them a common {tag}")
      err.code = "CROSSSLOT"
      return false, err
    end
    common = slot or common
  end
  return common
end

-- {handle, n...} for each server, the commands in order.
local function group(self, p, pending, target, results)
  local groups, by_handle = {}, {}
  for _, n in ipairs(pending) do
    local handle, err = target[n], nil
    if not handle then
      handle, err = self.router:pick(p.slots[n] or nil)
    end
    if not handle then
      results[n] = err
    else
      local list = by_handle[handle]
      if not list then
        list = { handle = handle }
        by_handle[handle] = list
        groups[#groups + 1] = list
      end
      list[#list + 1] = n
    end
  end
  return groups
end

local function send(p, list, asking)
  local parts, places = {}, {}
  for i, n in ipairs(list) do
    if asking[n] then
      parts[#parts + 1] = ASKING
    end
    parts[#parts + 1] = p[n]
    places[i] = #parts
  end
  local replies, err = core.many(list.handle, commands.LIST,
    table.concat(parts), #parts)
  return { replies = replies, err = err, places = places }
end

local function send_all(p, groups, asking)
  if #groups == 1 then
    return { send(p, groups[1], asking) }
  end
  return task.map(groups, function(list)
    return send(p, list, asking)
  end)
end

-- Takes the replies; what has to be sent again, and where.
local function sort_out(self, groups, answers, results, target, asking, try)
  local pending = {}
  for i, list in ipairs(groups) do
    local answer = answers[i]
    if answer.err then
      self.router:failed(answer.err, list.handle)
    end
    for j, n in ipairs(list) do
      local reply = answer.err or answer.replies[answer.places[j]]
      results[n] = reply
      if errors.is(reply) and REDIRECTS[reply.code] then
        local handle, ask = self.router:again(reply, list.handle,
          self.slot_of(n), try)
        if handle then
          target[n], asking[n] = handle, ask
          pending[#pending + 1] = n
        end
      end
    end
  end
  table.sort(pending)
  return pending
end

--- Sends a pipeline: each command to the server of its slot, all at the same
--- time; the replies in the order of the commands.
---@param client perigee.redis.Routed
---@param p table
---@return any[]? list
---@return perigee.Error? err # when no server could be reached
function M.run(client, p)
  local self = {
    router = client.router,
    slot_of = function(n) return p.slots[n] or nil end,
  }
  local results, pending, target, asking = {}, {}, {}, {}
  for n = 1, p.count do
    if errors.is(p.slots[n]) then
      results[n] = p.slots[n]
    else
      pending[#pending + 1] = n
    end
  end
  local try, failed = 0, nil
  while #pending > 0 do
    try = try + 1
    local groups = group(self, p, pending, target, results)
    local answers, err = send_all(p, groups, asking)
    if not answers then
      return nil, err
    end
    failed = #groups == 1 and try == 1 and answers[1].err or nil
    pending = sort_out(self, groups, answers, results, target, asking, try)
  end
  if failed and p.count == #p and not REDIRECTS[failed.code] then
    return nil, failed
  end
  return results
end

local function merge(upper, replies)
  if upper == "DBSIZE" then
    local sum = 0
    for _, count in ipairs(replies) do
      sum = sum + count
    end
    return sum
  elseif upper == "KEYS" then
    local all = {}
    for _, list in ipairs(replies) do
      for _, key in ipairs(list) do
        all[#all + 1] = key
      end
    end
    return all
  end
  return replies[1]
end

--- A command for all masters.
---@param router table
---@param upper string
---@param ... any
---@return any reply
---@return perigee.Error? err
function M.everywhere(router, upper, ...)
  local masters, err = router:masters()
  if not masters then
    return nil, err
  end
  local text = core.encode(upper, ...)
  local replies
  replies, err = task.map(masters, function(handle)
    local list, why = core.many(handle, commands.LIST, text, 1)
    if not list then
      router:failed(why, handle)
      return nil, why
    end
    if errors.is(list[1]) then
      return nil, list[1]
    end
    return list[1]
  end)
  if not replies then
    return nil, err
  end
  return merge(upper, replies)
end

return M
