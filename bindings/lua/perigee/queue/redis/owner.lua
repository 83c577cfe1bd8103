--- Queues in Redis: who holds a lease. Its text names the machine, the process
--- and when that began, so that a worker's death is seen on its machine at once.

local M = {}

local function read(path)
  local file = io.open(path, "r")
  if not file then
    return nil
  end
  local text = file:read "*a"
  file:close()
  return text
end

-- Field 22 of stat, after the name, which may have blanks in it.
local function start_of(pid)
  local stat = read("/proc/" .. pid .. "/stat")
  local rest = stat and stat:match "%) (.*)$"
  if not rest then
    return nil
  end
  local n = 2
  for word in rest:gmatch "%S+" do
    n = n + 1
    if n == 3 and (word == "Z" or word == "X") then
      return nil
    elseif n == 22 then
      return word
    end
  end
  return nil
end

-- Containers of one kernel have other first processes.
local function machine()
  local boot = read "/proc/sys/kernel/random/boot_id" or "0"
  local space = (start_of(1) or "") .. (read "/proc/sys/kernel/hostname" or "")
  local sum = 0
  for i = 1, #space do
    sum = (sum * 33 + space:byte(i)) % 4294967296
  end
  return boot:gsub("%X", ""):sub(1, 8) .. ("%08x"):format(sum)
end

---@class perigee.queue.redis.Owner
---@field machine string
---@field prefix string # of this process's tokens
local Owner = {}
Owner.__index = Owner

--- A token that nobody has had before.
---@return string
function Owner:token()
  self.count = self.count + 1
  return self.prefix .. ":" .. self.count
end

--- Whether a token is of a process of this machine that is no more.
---@param token string
---@param seen table<string, boolean> # what was found out in this round
---@return boolean
function Owner:is_dead(token, seen)
  local where, pid, start = token:match "^p%-(%x+)%-(%d+)%-(%d+):"
  if where ~= self.machine then
    return false
  end
  local key = pid .. "-" .. start
  if seen[key] == nil then
    seen[key] = start_of(pid) ~= start
  end
  return seen[key]
end

--- This process.
---@return perigee.queue.redis.Owner
function M.new()
  local pid = require("perigee.host").pid
  local where = machine()
  return setmetatable({
    machine = where, count = 0,
    prefix = ("p-%s-%d-%s"):format(where, pid, start_of(pid) or "0"),
  }, Owner)
end

return M
