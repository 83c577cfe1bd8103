--- The embedded driver, continued: how jobs are added.

local errors = require "perigee.error"
local events = require "perigee.queue.embedded.events"
local json = require "perigee.json"
local sql = require "perigee.queue.embedded.sql"
local time = require "perigee.time"

local M = {}

---@class perigee.queue.embedded.Driver: perigee.queue.Driver
local Driver = {}
M.methods = Driver

local function place_of(store, opts)
  local pos = store:place()
  local delay = opts.delay or 0
  if delay > 0 then
    return sql.DELAYED, 0, pos + delay * 1000, delay
  end
  local state = opts.group and sql.GROUPED or sql.WAITING
  return state, opts.priority or 0, opts.lifo and -pos or pos, 0
end

-- Jobs that are added together mostly have the same options, which do not change
-- after they were checked.
local last_opts, last_text

local function text_of(opts)
  if next(opts) == nil then
    return nil
  elseif opts ~= last_opts then
    last_text = json.encode(opts)
    last_opts = opts
  end
  return last_text
end

--- The statement that adds a job; state and pending for one with children.
---@return table? statement
---@return string|perigee.Error id_or_err
function M.insertion(store, queue_id, entry, scheduler)
  local opts = entry.opts
  local seq, err = store:number()
  if not seq then
    return nil, err
  end
  local state, prio, pos, delay = place_of(store, opts)
  local cid = entry.cid or opts.job_id
  local text = text_of(opts)
  if cid then
    return { sql.INSERT_CID, seq, queue_id, state, prio, pos,
      opts.priority or 0, delay, opts.timestamp or time.now(), opts.group,
      entry.name, text, entry.data, cid, scheduler, n = 14 }, cid, seq
  end
  return { sql.INSERT, seq, queue_id, state, prio, pos, opts.priority or 0,
    delay, opts.timestamp or time.now(), opts.group, entry.name, text,
    entry.data, n = 12 }, ("%d"):format(seq), seq
end

local function tell_added(store, queue_id, entries, added)
  local ready, delayed = 0, false
  for _, entry in ipairs(entries) do
    if entry.opts.delay and entry.opts.delay > 0 or entry.opts.group then
      delayed = true
    else
      ready = ready + 1
    end
  end
  if delayed then
    store:notify(queue_id)
  else
    store:notify(queue_id, ready)
  end
  if not events.wanted(store, queue_id) then
    return
  end
  for i, entry in ipairs(entries) do
    local late = entry.opts.delay and entry.opts.delay > 0
    if added[i].replaced then
      events.tell(store, queue_id,
        { event = "removed", id = added[i].replaced, prev = "delayed" })
    end
    if not added[i].duplicate then
      events.tell(store, queue_id,
        { event = "added", id = added[i].id, name = entry.name })
      events.tell(store, queue_id,
        { event = late and "delayed" or "waiting", id = added[i].id })
    else
      events.tell(store, queue_id, { event = added[i].of_dedup
        and "deduplicated" or "duplicated", id = added[i].id })
    end
  end
end

--- What adds a job inside of a transaction. Prepared before that begins: it may
--- take new numbers, which are written, and would wait for the transaction.
---@return {statement: table, id: string, seq: integer}? insertion
---@return perigee.Error? err
function M.prepare(store, queue_id, entry)
  local statement, id, seq = M.insertion(store, queue_id, entry)
  if not statement then
    return nil, id
  end
  return { statement = statement, id = id, seq = seq }
end

--- How many were added: 0 when there is one with that id. Raises.
---@return integer
function M.insert(tx, insertion)
  local statement = insertion.statement
  return assert(tx:exec(unpack(statement, 1, statement.n + 1))).changes
end

-- Who has a dedup id now, if that holds.
local function holder(tx, queue_id, dedup_id, now)
  local owner = tx:one([[SELECT d.job, d.until, j.state, j.cid, j.seq
    FROM dedup d LEFT JOIN job j ON j.seq = d.job
    WHERE d.queue = ? AND d.id = ?]], queue_id, dedup_id)
  local live = owner and (owner["until"] and owner["until"] > now
    or not owner["until"] and owner.seq ~= nil
    and owner.state ~= sql.COMPLETED and owner.state ~= sql.FAILED)
  return live and owner or nil
end

-- One at a time in a transaction of its own: what is there decides. A job of
-- the same id comes first: what is not added replaces nothing.
local function add_unique(store, tx, queue_id, entry, insertion)
  local dedup, cid = entry.opts.dedup, entry.opts.job_id
  if cid and tx:one("SELECT 1 AS there FROM job WHERE queue = ? AND cid = ?",
    queue_id, cid) then
    return { id = cid, duplicate = true }
  end
  local now = math.floor(store:now())
  local owner = holder(tx, queue_id, dedup.id, now)
  local replaced = owner and (owner.cid or ("%d"):format(owner.job))
  if owner and not (dedup.replace and owner.state == sql.DELAYED) then
    if dedup.extend and dedup.ttl then
      tx:exec("UPDATE dedup SET until = ? WHERE queue = ? AND id = ?",
        now + dedup.ttl, queue_id, dedup.id)
    end
    return { id = replaced, duplicate = true, of_dedup = true }
  elseif owner then
    for _, text in ipairs(sql.removal "seq = ?") do
      assert(tx:exec(text, owner.job))
    end
  end
  M.insert(tx, insertion)
  assert(tx:exec("UPDATE job SET dedup = ?, extras = 1 WHERE seq = ?",
    dedup.id, insertion.seq))
  local till = dedup.ttl and now + dedup.ttl
  if owner and till and not dedup.extend then
    till = owner["until"] -- the new one has what is left
  end
  assert(tx:exec("INSERT OR REPLACE INTO dedup(queue, id, job, until) "
    .. "VALUES (?, ?, ?, ?)", queue_id, dedup.id, insertion.seq, till))
  return { id = insertion.id, replaced = replaced }
end

local function add_in_transaction(store, queue_id, entries)
  local insertions = {}
  for i, entry in ipairs(entries) do
    insertions[i] = assert(M.prepare(store, queue_id, entry))
  end
  return store.db:transaction(function(tx)
    local added = {}
    for i, entry in ipairs(entries) do
      if entry.opts.group then
        assert(tx:exec(sql.TENANT, queue_id, entry.opts.group))
      end
      local insertion = insertions[i]
      if entry.opts.dedup then
        added[i] = add_unique(store, tx, queue_id, entry, insertion)
      else
        added[i] = { id = insertion.id,
          duplicate = M.insert(tx, insertion) == 0 or nil }
      end
    end
    return added
  end)
end

-- The most frequent case; tables that grow are most of what adding costs.
local function add_one(store, queue_id, entries)
  local statement, id = M.insertion(store, queue_id, entries[1])
  if not statement then
    return nil, id
  end
  local outcomes, why, from = store:run { statement }
  if not outcomes then
    return nil, why
  end
  local added = {
    { id = id, duplicate = outcomes[from + 1] == 0 or nil },
  }
  tell_added(store, queue_id, entries, added)
  return added
end

function Driver:add(queue, entries)
  local store = self.store
  local queue_id, err = store:queue(queue)
  if not queue_id then
    return nil, err
  elseif #entries == 1 and not entries[1].opts.dedup
    and not entries[1].opts.group then
    return add_one(store, queue_id, entries)
  end
  local list, places, ids, unique = {}, {}, {}, false
  for i = 1, #entries do
    local entry = entries[i]
    if entry.opts.dedup then
      unique = true
      break
    end
    if entry.opts.group then
      list[#list + 1] = { sql.TENANT, queue_id, entry.opts.group, n = 2 }
    end
    local statement, id = M.insertion(store, queue_id, entry)
    if not statement then
      return nil, id
    end
    list[#list + 1], ids[i] = statement, id
    places[i] = #list
  end
  local added
  if unique then
    local done
    done, added, err = pcall(add_in_transaction, store, queue_id, entries)
    if not done then
      added, err = nil, errors.wrap(added)
    end
    if not added then
      return nil, err
    end
  else
    local outcomes, why, from = store:run(list)
    if not outcomes then
      return nil, why
    end
    added = {}
    for i = 1, #entries do
      added[i] = {
        id = ids[i], duplicate = outcomes[from + places[i]] == 0 or nil,
      }
    end
  end
  tell_added(store, queue_id, entries, added)
  return added
end

return M
