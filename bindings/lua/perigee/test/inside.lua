--- Applications inside of the process that runs the specs, without a socket:
--- through the same door as embedders use (perigee.h).

local client = require "perigee.test.client"
local core = require "perigee.core.test"
local json = require "perigee.json"
local options = require "perigee.options"
local scope = require "perigee.test.scope"

local M = {}

local OPTIONS = { dir = true, env = true, settings = true }

---@class perigee.test.App
local App = {}
App.__index = App

local hosts = {} -- open ones
local frozen = false

--- The open hosts, for the clock.
---@package
function M.hosts()
  return hosts
end

--- Whether the clock of applications that open now stands still.
---@package
function M.freeze_new(freeze)
  frozen = freeze
end

--- Hands a request in and waits for the answer: a path, or {method, path,
--- query, headers, json, body}, or a method, a path and the rest.
---@param request string|table
---@param path string?
---@param more table?
---@return perigee.test.Response
function App:request(request, path, more)
  if not self.host then
    error("the application has been stopped", 2)
  end
  local method, target, fields, body = client.parts(request, path, more)
  local has_length = false
  for _, field in ipairs(fields) do
    has_length = has_length or field[1]:lower() == "content-length"
  end
  if body and not has_length then
    fields[#fields + 1] = { "content-length", tostring(#body) }
  end
  local status, answered, text =
    self.host:request(method, target, fields, body)
  if not status then
    options.blame(("%s %s: %s"):format(method, target, answered.message))
  end
  return client.response(status, answered, text)
end

--- What it logged since the last call, decoded.
---@return table[]
function App:logs()
  local lines = {}
  for raw in (self.host and self.host:logs() or ""):gmatch "[^\n]+" do
    lines[#lines + 1] = json.decode(raw) or { raw = raw }
  end
  return lines
end

--- Runs its on_stop and frees it. Happens by itself at the end of the test.
function App:stop()
  local host = self.host
  if not host then
    return
  end
  self.host = nil
  for i, other in ipairs(hosts) do
    if other == host then
      table.remove(hosts, i)
    end
  end
  host:close()
end

local function overrides(settings)
  local list = {}
  for key, value in pairs(settings or {}) do
    list[#list + 1] = client.setting(key, value)
  end
  return list
end

---@package
function M.open(opts, add)
  options.check(opts, OPTIONS, "test.app")
  local host = core.host()
  local ok, err = host:open(
    opts.dir or ".", opts.env or "test", overrides(opts.settings))
  if not ok then
    error(err.message, 3)
  end
  local app = setmetatable({ host = host }, App)
  hosts[#hosts + 1] = host
  if frozen then
    host:freeze()
  end
  (add or scope.add)(function()
    app:stop()
  end)
  return app
end

return M
