--- Applications in processes of their own, as in production.

local client = require "perigee.test.client"
local core = require "perigee.core.test"
local errors = require "perigee.error"
local json = require "perigee.json"
local options = require "perigee.options"
local scope = require "perigee.test.scope"
local task = require "perigee.task"
local units = require "perigee.units"

local SIGKILL, SIGTERM = 9, 15
local START_LIMIT_MS = 20000
local STOP_LIMIT_MS = 30000
local PAUSE_MS = 4

local OPTIONS = {
  dir = true, env = true, settings = true, workers = true, vars = true,
}

-- Its log is how a spec sees it.
local SETTINGS = {
  ["admin.port"] = 0,
  ["log.level"] = "info",
  ["log.format"] = "json",
  ["log.destination"] = "stdout",
}

local M = {}

---@class perigee.test.Process
---@field url string
---@field port integer
---@field pid integer  # of the master
---@field lines table[]  # what it logged so far; `{raw = text}` for other output
local Process = {}
Process.__index = Process

local function keep_line(self, raw)
  local line = json.decode(raw)
  if type(line) ~= "table" then
    line = { raw = raw }
  end
  self.lines[#self.lines + 1] = line
  if line.msg == "listening" and line.port and not line.admin then
    self.port = self.port or line.port
  end
end

local function keep_chunk(self, chunk)
  self.rest = self.rest .. chunk
  while true do
    local raw, rest = self.rest:match "^(.-)\n(.*)$"
    if not raw then
      return
    end
    self.rest = rest
    keep_line(self, raw)
  end
end

-- Takes in what it has printed; false when no more will come.
local function take_output(self)
  local chunk, more = self.process:output()
  keep_chunk(self, chunk)
  return more
end

local function printed(self)
  local list = {}
  for i = math.max(1, #self.lines - 20), #self.lines do
    local line = self.lines[i]
    list[#list + 1] = line.raw or json.encode(line)
  end
  return table.concat(list, "\n")
end

--- Sends a request: a path, or {method, path, query, headers, json, body,
--- timeout}.
---@param request string|table
---@return perigee.test.Response? res
---@return perigee.Error? err
function Process:request(request)
  if type(request) == "string" then
    request = { path = request }
  end
  return client.send("127.0.0.1", self.port, request)
end

-- Waits, by the wall, until found() gives something.
local function wait_for(self, limit_ms, found)
  local late = core.now() + limit_ms
  while true do
    local more = take_output(self)
    local value = found()
    if value or not more or core.now() > late then
      return value
    end
    core.pause(PAUSE_MS)
  end
end

--- Waits for a log line with that message, or one that the function likes.
---@param wanted string|fun(line: table): boolean
---@param limit string|number?  # "10s" unless told
---@return table? line
---@return perigee.Error? err
function Process:line(wanted, limit)
  local seen = 0
  local limit_ms = assert(units.duration(limit or "10s"))
  local found = wait_for(self, limit_ms, function()
    while seen < #self.lines do
      seen = seen + 1
      local line = self.lines[seen]
      if line.msg == wanted
        or (type(wanted) == "function" and wanted(line)) then
        return line
      end
    end
    return nil
  end)
  if found then
    return found
  end
  return nil, errors.new("not_found", "no such line:\n%s", printed(self))
end

--- Sends a signal, by number, to the master.
---@param number integer
function Process:signal(number)
  self.process:kill(number)
end

--- Stops it as an operator would.
---@return integer code  # its exit code
---@return integer signal
function Process:stop()
  self.process:kill(SIGTERM)
  local late = task.spawn(function()
    core.pause(STOP_LIMIT_MS)
    self.process:kill(SIGKILL, true)
  end)
  local code, signal = self.process:wait()
  late:cancel()
  take_output(self)
  return code, signal
end

local function arguments(opts)
  local argv = {
    core.program(), "run", opts.dir or ".",
    "-e", opts.env or "test", "-p", "0",
    "-w", tostring(opts.workers or 1),
  }
  local settings = {}
  for key, value in pairs(SETTINGS) do
    settings[key] = value
  end
  for key, value in pairs(opts.settings or {}) do
    settings[key] = value
  end
  for key, value in pairs(settings) do
    argv[#argv + 1] = "--set"
    argv[#argv + 1] = client.setting(key, value)
  end
  return argv
end

local function environment(vars)
  local list = {}
  for _, entry in ipairs(core.environ()) do
    if not (vars or {})[entry:match "^[^=]+"] then
      list[#list + 1] = entry
    end
  end
  for name, value in pairs(vars or {}) do
    list[#list + 1] = name .. "=" .. tostring(value)
  end
  return list
end

function M.start(opts)
  options.check(opts, OPTIONS, "test.start")
  local process = assert(core.spawn(arguments(opts), environment(opts.vars)))
  local self = setmetatable({
    process = process, pid = process:pid(), lines = {}, rest = "",
  }, Process)
  scope.add(function()
    process:kill(SIGKILL, true)
  end)
  wait_for(self, START_LIMIT_MS, function()
    return self.port
  end)
  if not self.port then
    error("it does not serve:\n" .. printed(self), 3)
  end
  self.url = "http://127.0.0.1:" .. self.port
  return self
end

return M
