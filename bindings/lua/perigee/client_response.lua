--- Answers of other servers, as the HTTP client gives them.

local core = require "perigee.core.client"
local errors = require "perigee.error"
local json = require "perigee.json"
local time = require "perigee.time"

local M = {}

---@class perigee.ClientResponse
---@field status integer
---@field headers table<string, string|string[]> # lower case; a list when repeated
---@field body string?   # nil with stream = true
---@field url string     # where it came from, after redirects
local Response = {}

-- Of the quick way's answers the head is kept as it came, in place 1, until
-- somebody asks for the headers.
local function read_field(res, key)
  local method = Response[key]
  if method ~= nil then
    return method
  end
  if key == "headers" then
    local raw = rawget(res, 1)
    if raw then
      local headers = core.headers(raw, res[2])
      res[1], res[2], res.headers = nil, nil, headers
      return headers
    end
  end
  return nil
end

local RESPONSE = { __index = read_field }

-- The wait for each piece of a stream, and the call behind it.
local calls = setmetatable({}, { __mode = "k" })

--- The body as a value.
---@return any value
---@return perigee.Error? err # kind "unavailable", code "bad_response"
function Response:json()
  local body, err = self:read()
  if not body then
    return nil, err
  end
  local value, why = json.decode(body)
  if why then
    local bad = errors.wrap(why, "%s: no JSON", self.url)
    bad.kind, bad.code = "unavailable", "bad_response"
    return nil, bad
  end
  return value
end

-- One piece: nil at the end, or nil and an error.
local function next_chunk(self)
  local stream = calls[self]
  if not stream then
    return nil
  end
  local chunk, err = core.chunk(stream.call, stream.timeout)
  if not chunk then
    calls[self] = nil
    core.close(stream.call)
  end
  return chunk, err
end

--- The whole body, of a stream too (up to body_max then).
---@return string? body
---@return perigee.Error? err
function Response:read()
  if self.body then
    return self.body
  end
  local stream = calls[self]
  local parts, size = {}, 0
  while true do
    local chunk, err = next_chunk(self)
    if not chunk then
      if err then
        return nil, err
      end
      self.body = table.concat(parts)
      return self.body
    end
    parts[#parts + 1], size = chunk, size + #chunk
    if size > stream.body_max then
      self:close()
      return nil, errors.new("too_large", "%s: the body is larger than "
        .. "body_max", self.url)
    end
  end
end

--- The body piece by piece; a failure is raised. The other side waits while
--- nobody asks for more.
---@return fun(): string?
function Response:chunks()
  local whole = self.body
  if whole then
    return function()
      local piece = whole
      whole = nil
      return piece ~= "" and piece or nil
    end
  end
  return function()
    local chunk, err = next_chunk(self)
    if err then
      error(err, 0)
    end
    return chunk
  end
end

--- For how long its Retry-After asks not to be called again, in seconds or by a
--- date; nil: it says nothing that makes sense.
---@return number? ms # 0 or more, as large as the other side likes
function Response:retry_after()
  local text = self.headers["retry-after"]
  if type(text) ~= "string" then
    return nil
  elseif text:find "^%d+$" then
    return tonumber(text) * 1000
  end
  local at = core.date(text)
  return at and math.max(at * 1000 - time.now(), 0)
end

--- Gives the rest of a stream up.
function Response:close()
  local stream = calls[self]
  calls[self] = nil
  if stream then
    core.close(stream.call)
  end
end

--- An answer. Of the quick way's the head is in place 1, as it came, and in
--- place 2 whether its body was unpacked.
---@param fields table
---@return perigee.ClientResponse
function M.new(fields)
  return setmetatable(fields, RESPONSE)
end

--- Its body is still to come, from that call.
---@param res perigee.ClientResponse
---@param stream { call: any, timeout: number, body_max: integer }
function M.streams(res, stream)
  calls[res] = stream
end

return M
