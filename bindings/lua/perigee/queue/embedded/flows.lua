--- The embedded driver, continued: parents that wait for their children. What
--- happens when a child ends is a trigger's (perigee.queue.embedded.sql).

local adding = require "perigee.queue.embedded.adding"
local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local sql = require "perigee.queue.embedded.sql"

local M = {}

---@type perigee.queue.embedded.Driver
local Driver = {}
M.methods = Driver

-- The insertion of each job of the tree, by its node.
local function prepare(store, node, ids, insertions)
  insertions[node] = assert(adding.prepare(store, ids[node.queue], node.entry))
  for _, child in ipairs(node.children or {}) do
    prepare(store, child, ids, insertions)
  end
  return insertions
end

local function insert(tx, node, ids, insertions, parent)
  local entry = node.entry
  local id, seq = insertions[node].id, insertions[node].seq
  if entry.opts.group then
    assert(tx:exec(sql.TENANT, ids[node.queue], entry.opts.group))
  end
  if adding.insert(tx, insertions[node]) == 0 then
    error(errors.new("conflict", "there is a job %s in queue %s already",
      entry.opts.job_id, node.queue), 0)
  end
  local added = {
    id = id, queue = node.queue,
    children = {},
  }
  if parent then
    assert(tx:exec("UPDATE job SET parent = ?, on_failure = ?, extras = 1 "
      .. "WHERE seq = ?", parent, entry.opts.on_child_failure, seq))
  end
  if node.children then
    assert(tx:exec("UPDATE job SET state = 5, prio = 0, pending = ?, "
      .. "extras = 1 WHERE seq = ?", #node.children, seq))
    for i, child in ipairs(node.children) do
      added.children[i] = insert(tx, child, ids, insertions, seq)
    end
  end
  return added
end

local function queue_ids(store, node, ids)
  if not ids[node.queue] then
    local id, err = store:queue(node.queue)
    if not id then
      return nil, err
    end
    ids[node.queue] = id
  end
  for _, child in ipairs(node.children or {}) do
    local ok, err = queue_ids(store, child, ids)
    if not ok then
      return nil, err
    end
  end
  return ids
end

local function tell(store, node, added, ids)
  events.tell(store, ids[node.queue],
    { event = "added", id = added.id, name = node.entry.name })
  for i, child in ipairs(node.children or {}) do
    tell(store, child, added.children[i], ids)
  end
end

function Driver:flow(root)
  local ids, err = queue_ids(self.store, root, {})
  if not ids then
    return nil, err
  end
  local ok, added, why = pcall(function()
    local insertions = prepare(self.store, root, ids, {})
    return self.store.db:transaction(function(tx)
      return insert(tx, root, ids, insertions)
    end)
  end)
  if not ok then
    return nil, errors.wrap(added)
  elseif not added then
    return nil, why
  end
  tell(self.store, root, added, ids)
  self.store:notify_all()
  return added
end

return M
