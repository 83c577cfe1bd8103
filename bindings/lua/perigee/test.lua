--- Helpers for specs. `perigee test` runs busted inside of the host's own VM as
--- a task of a running loop: `it`, `before_each` and the others may wait. What
--- these functions make ends with the test that made it, or with the file when
--- it was made in `setup` or `describe`.

local cli = require "perigee.core.cli"
local client = require "perigee.test.client"
local clock = require "perigee.test.clock"
local core = require "perigee.core.test"
local inside = require "perigee.test.inside"
local process = require "perigee.test.process"
local scope = require "perigee.test.scope"
local units = require "perigee.units"

local M = {}

local PAUSE_MS = 10
local shared_app -- of the working directory, for the file that runs

---@class perigee.test.Options
---@field dir string?  # "." unless told
---@field env string?  # "test" unless told
---@field settings table<string, any>?  # {["http.body_max"] = "1kb"}

--- Loads an application into this process; no port is opened. Raises with all
--- faults when it cannot be loaded.
---@param options perigee.test.Options?
---@return perigee.test.App
function M.app(options)
  return inside.open(options or {})
end

--- Hands a request to the application of the working directory, without a
--- socket: a path, or {method, path, query, headers, json, body}, or a method, a
--- path and the rest. The application is loaded once for each spec file.
---@param request string|table
---@param path string?
---@param more table?
---@return perigee.test.Response
function M.request(request, path, more)
  if not shared_app then
    shared_app = inside.open({}, function(undo)
      scope.add_to_file(function()
        shared_app = nil
        undo()
      end)
    end)
  end
  return shared_app:request(request, path, more)
end

---@class perigee.test.StartOptions : perigee.test.Options
---@field workers integer?  # 1 unless told
---@field vars table<string, string>?  # environment variables

--- Starts an application as `perigee run` does, on a port that the kernel
--- picks.
---@param options perigee.test.StartOptions?
---@return perigee.test.Process
function M.start(options)
  return process.start(options or {})
end

--- Stops time: for perigee.time, for every wait and deadline here and in
--- applications that M.app and M.request loaded.
---@return perigee.test.Clock
function M.clock()
  return clock.freeze()
end

--- A new folder, removed at the end.
---@param files table<string, string>?  # path -> text
---@return string path
function M.folder(files)
  local path = assert(core.make_folder())
  scope.add(function()
    core.remove(path)
  end)
  for name, text in pairs(files or {}) do
    cli.make_folders(path .. "/" .. name)
    local file = assert(io.open(path .. "/" .. name, "wb"))
    file:write(text)
    file:close()
  end
  return path
end

--- Sets an environment variable (nil removes it) until the end.
---@param name string
---@param value string?
function M.env(name, value)
  local before = os.getenv(name)
  scope.add(function()
    core.setenv(name, before)
  end)
  core.setenv(name, value)
end

--- Asks again until the answer is true, and gives it. By the wall: a frozen
--- clock does not matter.
---@generic T
---@param ask fun(): T?
---@param limit string|number?  # "5s" unless told
---@return T
function M.eventually(ask, limit)
  local late = core.now() + assert(units.duration(limit or "5s"))
  while true do
    local answer = ask()
    if answer then
      return answer
    end
    if core.now() > late then
      error("it did not come true in time", 2)
    end
    core.pause(PAUSE_MS)
  end
end

--- Sends one request over a socket: {url, method, query, headers, json, body,
--- timeout}, plain http:// to an IP address.
---@param request string|table
---@return perigee.test.Response? res
---@return perigee.Error? err
function M.http(request)
  local options = type(request) == "string" and { url = request } or request
  local host, rest = (options.url or ""):match "^http://([^/?]+)(.*)$"
  if not host then
    error("url: http://ADDRESS[:PORT]/... expected", 2)
  end
  local address, port = host:match "^%[?([^%]]-)%]?:(%d+)$"
  local copy = {}
  for key, value in pairs(options) do
    copy[key] = value
  end
  copy.path = rest:sub(1, 1) == "/" and rest or "/" .. rest
  return client.send(address or host, tonumber(port or 80), copy)
end

return M
