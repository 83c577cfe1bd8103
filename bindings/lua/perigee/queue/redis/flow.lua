--- Queues in Redis: trees of jobs, added in one step.

local codec = require "perigee.queue.redis.codec"
local entry = require "perigee.queue.redis.entry"
local errors = require "perigee.error"
local json = require "perigee.json"
local store = require "perigee.queue.redis.store"
local time = require "perigee.time"
local uuid = require("perigee.crypto").uuid

local M = {}

-- The parent's option says it as `queue`, the job's field as `queueKey`.
local function options_text(opts, id, parent)
  local out = codec.options_out(opts)
  out.jobId = id
  if parent then
    out.parent = { id = parent.id, queue = parent.root }
  end
  return json.encode(out)
end

local FLAGS = {
  fail = "fpof", continue = "cpof", ignore = "idof", remove = "rdof",
}

local function parent_text(opts, parent)
  local flag = FLAGS[opts.on_child_failure]
  local out = { id = parent.id, queueKey = parent.root }
  if flag then
    out[flag] = true
  end
  return json.encode(out)
end

local function key_of(tree, root)
  local at = tree.index[root]
  if not at then
    at = #tree.keys + 1
    tree.keys[at], tree.index[root] = root, at
  end
  return at
end

local function put(tree, node, parent)
  local root = tree.store:root(node.queue)
  local opts = node.entry.opts
  local id = opts.job_id or uuid.v4()
  local place = {
    key = key_of(tree, root), now = tree.now, id = id,
    has_children = node.children ~= nil,
    opts_text = options_text(opts, id, parent),
  }
  if parent then
    place.parent_key = parent.root .. ":" .. parent.id
    place.parent = parent_text(opts, parent)
  end
  entry.put(tree.args, node.entry, place)
  local made = { id = id, queue = node.queue, children = {} }
  tree.made[#tree.made + 1] = made
  for i, child in ipairs(node.children or {}) do
    made.children[i] = put(tree, child, { id = id, root = root })
  end
  return made
end

--- Adds a tree.
---@param self perigee.queue.redis.Store
---@param root perigee.queue.FlowNode
---@return table? added # {id, queue, children}
---@return perigee.Error? err
function M.add(self, root)
  local now = time.now()
  local tree = {
    store = self, keys = {}, index = {}, now = now, args = { now }, made = {},
  }
  local added = put(tree, root)
  local reply, err = self:run_on("add", tree.keys, tree.args)
  if not reply then
    return nil, err
  end
  for i, made in ipairs(tree.made) do
    if type(reply[i]) == "number" then
      return nil, errors.wrap(store.refusal(reply[i]), "flow")
    end
    made.duplicate = reply[i]:sub(1, 1) == "=" or nil
    made.id = made.duplicate and reply[i]:sub(2) or reply[i]
  end
  return added
end

--- What became of a job's children so far.
---@param self perigee.queue.redis.Store
---@param queue string
---@param id string
---@return {values: table<string, string>, pending: integer, failed: table<string, string>}?
---@return perigee.Error? err
function M.children(self, queue, id)
  local reply, err = self:run("children", queue, { id })
  if not reply then
    return nil, err
  elseif reply[1] == 0 then
    return nil, store.refusal(-1)
  end
  local from = #self.prefix + 2
  local out = { values = {}, pending = reply[2], failed = {} }
  for key, value in pairs(codec.map(reply[3])) do
    out.values[key:sub(from)] = value
  end
  for key, value in pairs(codec.map(reply[4])) do
    out.failed[key:sub(from)] = value
  end
  for i = 1, #reply[5] do
    local key = reply[5][i]
    local reason = self.client:hget(key, "failedReason")
    out.failed[key:sub(from)] = reason or "failed"
  end
  return out
end

return M
