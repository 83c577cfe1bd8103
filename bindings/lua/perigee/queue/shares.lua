--- Weighted queues: a worker runs so many jobs at once, those of all its queues
--- together (`queue.concurrency`). While that is not enough for all, each queue
--- has begun jobs in proportion to its weight.

local core = require "perigee.core.task"

local M = {}

--- One queue's part.
---@class perigee.queue.Share
---@field weight number
---@field due number   # how much it has been given, by its weight
---@field line any[]   # jobs that were taken and wait for their turn: events
---@field coming integer # jobs that were taken and have not come to it yet
---@field freed fun()  # its line has become shorter

---@class perigee.queue.Shares
---@field max integer
---@field running integer
local Shares = {}
Shares.__index = Shares

--- A queue joins.
---@param weight number
---@param freed fun()
---@return perigee.queue.Share
function Shares:join(weight, freed)
  local share = { weight = weight, due = 0, line = {}, coming = 0,
    freed = freed }
  self.shares[#self.shares + 1] = share
  return share
end

--- How many jobs a queue may take now: those that may run, and as many that
--- stand in line, or it would miss its turns while it gets the next one.
---@param share perigee.queue.Share
---@return integer
function Shares:room(share)
  return 2 * self.max - self.running - #share.line - share.coming
end

--- A job was taken; its task, which enters, begins when the one that took it
--- waits.
---@param share perigee.queue.Share
function Shares:expect(share)
  share.coming = share.coming + 1
end

-- Who had nothing to run for a while has no claim to that time.
local function charge(self, share)
  self.running = self.running + 1
  self.now = math.max(self.now, share.due)
  share.due = self.now + 1 / share.weight
end

local function first_in_line(self)
  local first
  for _, share in ipairs(self.shares) do
    if #share.line > 0 and (not first or share.due < first.due) then
      first = share
    end
  end
  return first
end

local function drop(share, event)
  for i, one in ipairs(share.line) do
    if one == event then
      table.remove(share.line, i)
      return true
    end
  end
  return false
end

--- Waits until a job of the queue may run.
---@param share perigee.queue.Share
function Shares:enter(share)
  share.coming = share.coming - 1
  if self.running < self.max and not first_in_line(self) then
    charge(self, share)
    return
  end
  local event = core.event()
  share.line[#share.line + 1] = event
  local ok, err = pcall(event.wait, event)
  if not ok then
    if not drop(share, event) then
      self:leave() -- it had been called meanwhile
    end
    error(err, 0)
  end
end

--- A job has run.
function Shares:leave()
  self.running = self.running - 1
  local share = first_in_line(self)
  if share then
    charge(self, share)
    local event = table.remove(share.line, 1)
    share.freed()
    event:set()
  end
end

---@param max integer
---@return perigee.queue.Shares
function M.new(max)
  return setmetatable({ max = max, running = 0, now = 0, shares = {} }, Shares)
end

return M
