--- Queues: flows, trees of jobs of which each waits for its children.

local check = require "perigee.queue.check"
local errors = require "perigee.error"
local jobs = require "perigee.queue.job"
local json = require "perigee.json"

local M = {}

local NODE = {
  name = true, queue = true, data = true, opts = true, children = true,
}

-- ids: those of one's own that the tree has.
local function check_node(node, ids, level)
  if type(node) ~= "table" then
    error("{name, queue, data, opts, children} expected", level + 1)
  end
  for key in pairs(node) do
    if not NODE[key] then
      error(("unknown field %s of a flow's job"):format(tostring(key)),
        level + 1)
    end
  end
  if type(node.opts) == "table" and node.opts.dedup then
    error("dedup: not for jobs of a flow", level + 1)
  end
  if node.children ~= nil and type(node.children) ~= "table" then
    error("children: a list of a flow's jobs expected", level + 1)
  end
  check.name(node.queue, level + 1)
  local entry, err = check.entry(node.name, node.data, node.opts, level + 1)
  if not entry then
    return nil, err
  end
  local id = entry.opts.job_id and node.queue .. ":" .. entry.opts.job_id
  if id and ids[id] then
    return nil, errors.new("conflict", "two jobs of the flow are %s", id)
  elseif id then
    ids[id] = true
  end
  local made = { queue = node.queue, entry = entry }
  if node.children and #node.children > 0 then
    made.children = {}
    for i, child in ipairs(node.children) do
      made.children[i], err = check_node(child, ids, level + 1)
      if not made.children[i] then
        return nil, err
      end
    end
  end
  return made
end

--- A tree as the application wrote it, in the form that drivers take.
---@param root any
---@param level integer # whom to blame, as error does
---@return {queue: string, entry: table, children: table[]?}? tree
---@return perigee.Error? err
function M.check(root, level)
  return check_node(root, {}, level + 1)
end

--- The jobs of a tree that a driver has added.
---@param driver perigee.queue.Driver
---@param node table # as check gives it
---@param added table # what the driver gave, in the same form
---@return perigee.Job
function M.jobs(driver, node, added)
  local job = jobs.added(driver, node.queue, node.entry,
    (json.decode(node.entry.data)), added)
  job.children = json.array {} -- a leaf has a list as well
  for i, child in ipairs(node.children or {}) do
    job.children[i] = M.jobs(driver, child, added.children[i])
  end
  return job
end

return M
