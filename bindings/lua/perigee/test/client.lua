--- A plain HTTP/1.1 client for specs: one request a connection.

local core = require "perigee.core.test"
local errors = require "perigee.error"
local json = require "perigee.json"
local options = require "perigee.options"
local task = require "perigee.task"

local M = {}

local REQUEST = {
  method = true, path = true, url = true, query = true, headers = true,
  json = true, body = true, timeout = true,
}

---@class perigee.test.Response
---@field status integer
---@field headers table<string, string|string[]>  # lower case; a list when repeated
---@field body string
local Response = {}
Response.__index = Response

--- The body, decoded; raises when it is no JSON.
---@return any
function Response:json()
  local value, err = json.decode(self.body)
  if err then
    error(("no JSON (%s): %s"):format(err.message, self.body:sub(1, 200)), 2)
  end
  return value
end

function Response:_add(name, value)
  local headers, key = self.headers, name:lower()
  local before = headers[key]
  if type(before) == "table" then
    before[#before + 1] = value
  elseif before then
    headers[key] = { before, value }
  else
    headers[key] = value
  end
end

--- A response from a list of {name, value}.
---@package
function M.response(status, fields, body)
  local res = setmetatable(
    { status = status, headers = {}, body = body }, Response)
  for _, field in ipairs(fields) do
    res:_add(field[1], field[2])
  end
  return res
end

local function escape(text)
  return (tostring(text):gsub("[^%w%-%._~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function add_query(path, query)
  local parts = {}
  for key, value in pairs(query) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      parts[#parts + 1] = escape(key) .. "=" .. escape(one)
    end
  end
  table.sort(parts)
  return path .. (path:find("?", 1, true) and "&" or "?")
    .. table.concat(parts, "&")
end

local function has_header(headers, wanted)
  for name in pairs(headers) do
    if name:lower() == wanted then
      return true
    end
  end
  return false
end

-- A path; a method and a path, and perhaps more; or all of it in a table.
local function as_table(request, path, more)
  if type(request) == "table" then
    return request
  end
  if type(path) ~= "string" then
    return { path = request }
  end
  local all = { method = request, path = path }
  for key, value in pairs(more or {}) do all[key] = value end
  return all
end

--- Method, target, fields and body of a request as a spec writes it.
---@package
function M.parts(request, path, more)
  request = as_table(request, path, more)
  options.check(request, REQUEST, "the request")
  local headers, body = request.headers or {}, request.body
  local fields = {}
  for name, value in pairs(headers) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      fields[#fields + 1] = { name, tostring(one) }
    end
  end
  if request.json ~= nil then
    body = assert(json.encode(request.json))
    if not has_header(headers, "content-type") then
      fields[#fields + 1] = { "content-type", "application/json" }
    end
  end
  path = request.path or request.url or "/"
  if request.query and next(request.query) ~= nil then
    path = add_query(path, request.query)
  end
  local method = request.method or (body and "POST" or "GET")
  return method:upper(), path, fields, body
end

--- A setting's value as --set takes it.
---@package
function M.setting(key, value)
  return ("%s=%s"):format(key, type(value) == "table"
    and assert(json.encode(value)) or tostring(value))
end

-- ---- over a socket ----

local Reader = {}
Reader.__index = Reader

function Reader:more()
  local chunk, err = self.socket:read()
  if err then
    return nil, err
  end
  if not chunk then
    return nil
  end
  self.text = self.text .. chunk
  return true
end

function Reader:line()
  while true do
    local line, rest = self.text:match "^(.-)\r\n(.*)$"
    if line then
      self.text = rest
      return line
    end
    local ok, err = self:more()
    if not ok then
      error(err or errors.new("unavailable", "the answer is cut short"), 0)
    end
  end
end

function Reader:bytes(count)
  while #self.text < count do
    local ok, err = self:more()
    if not ok then
      error(err or errors.new("unavailable", "the body is cut short"), 0)
    end
  end
  local bytes = self.text:sub(1, count)
  self.text = self.text:sub(count + 1)
  return bytes
end

function Reader:rest()
  repeat
    local ok, err = self:more()
    if err then
      error(err, 0)
    end
  until not ok
  return self.text
end

function Reader:chunks()
  local parts = {}
  while true do
    local size = tonumber(self:line():match "^%x+", 16)
    if size == 0 then
      break
    end
    parts[#parts + 1] = self:bytes(size)
    self:line()
  end
  repeat
    local trailer = self:line()
  until trailer == ""
  return table.concat(parts)
end

local function read_body(reader, method, res)
  local status, headers = res.status, res.headers
  if method == "HEAD" or status < 200 or status == 204 or status == 304 then
    return ""
  elseif headers["transfer-encoding"] == "chunked" then
    return reader:chunks()
  elseif headers["content-length"] then
    return reader:bytes(tonumber(headers["content-length"]))
  end
  return reader:rest()
end

local function read_response(reader, method)
  local line = reader:line()
  local status = tonumber(line:match "^HTTP/1%.[01] (%d%d%d)")
  if not status then
    error(errors.new("unavailable", "no HTTP: %s", line:sub(1, 80)), 0)
  end
  local fields = {}
  for text in function() return reader:line() end do
    if text == "" then
      break
    end
    local name, value = text:match "^([^:]+):%s*(.-)%s*$"
    fields[#fields + 1] = { name, value }
  end
  if status == 100 then
    return read_response(reader, method)
  end
  local res = M.response(status, fields)
  res.body = read_body(reader, method, res)
  return res
end

local function head_of(method, path, fields, body, host)
  local lines = { ("%s %s HTTP/1.1"):format(method, path) }
  local seen = {}
  for _, field in ipairs(fields) do
    seen[field[1]:lower()] = true
    lines[#lines + 1] = field[1] .. ": " .. field[2]
  end
  if not seen.host then
    lines[#lines + 1] = "Host: " .. host
  end
  if not seen.connection then
    lines[#lines + 1] = "Connection: close"
  end
  if body and not seen["content-length"] and not seen["transfer-encoding"] then
    lines[#lines + 1] = "Content-Length: " .. #body
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

--- Sends a request to an address and port.
---@package
function M.send(address, port, request)
  local method, path, fields, body = M.parts(request)
  local host = ("%s:%d"):format(address, port)
  local socket = core.socket()
  local res, err = task.with_deadline(request.timeout or "30s", function()
    assert(socket:connect(address, port))
    assert(socket:write(head_of(method, path, fields, body, host)))
    local reader = setmetatable({ socket = socket, text = "" }, Reader)
    return read_response(reader, method)
  end)
  socket:close()
  return res, err
end

return M
