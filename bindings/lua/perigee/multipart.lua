--- multipart/form-data (RFC 7578), read as it arrives: only a part's head and
--- one chunk are ever in memory.

local core = require "perigee.core.request"
local errors = require "perigee.error"

local M = {}

local HEAD_MAX = 16 * 1024
local PARTS_MAX = 1000

---@class perigee.Part
---@field name string?
---@field filename string?
---@field content_type string?
---@field headers table<string, string>  # names in lower case

local function malformed(text)
  error(errors.new("invalid", "multipart: " .. text), 0)
end

-- ---- a reader that can look for a text over chunk borders ----

local Reader = {}
Reader.__index = Reader

local function new_reader(req)
  return setmetatable({ req = req, buffer = "", ended = false }, Reader)
end

function Reader:fill()
  if self.ended then
    return false
  end
  local chunk, err = core.chunk(self.req)
  if err then
    error(err, 0)
  end
  if not chunk then
    self.ended = true
    return false
  end
  self.buffer = self.buffer .. chunk
  return true
end

-- Bytes up to `mark` (which is taken too), at most max; for small things.
function Reader:take_until(mark, max)
  while true do
    local first, last = self.buffer:find(mark, 1, true)
    if first then
      local text = self.buffer:sub(1, first - 1)
      self.buffer = self.buffer:sub(last + 1)
      return text
    end
    if #self.buffer > max then
      malformed("a part's head is too large")
    end
    if not self:fill() then
      malformed("the body ends too early")
    end
  end
end

-- The next bytes before `mark`; nil when it has been reached (and taken).
function Reader:chunk_before(mark)
  while true do
    local first, last = self.buffer:find(mark, 1, true)
    if first == 1 then
      self.buffer = self.buffer:sub(last + 1)
      return nil
    end
    local safe = first and first - 1 or #self.buffer - #mark + 1
    if safe > 0 then
      local text = self.buffer:sub(1, safe)
      self.buffer = self.buffer:sub(safe + 1)
      return text
    end
    if not self:fill() then
      malformed("the body ends too early")
    end
  end
end

-- ---- a part ----

local function unquote(value)
  local quoted = value:match '^"(.*)"$'
  if quoted then
    return (quoted:gsub('\\(["\\])', "%1"):gsub("%%22", '"'))
  end
  return value
end

-- A parameter of a field such as `form-data; name="a;b"; filename=c`.
local function parameter(field, wanted)
  local rest = (field or ""):gsub("^[^;]*", "", 1)
  while rest ~= "" do
    local key, after = rest:match "^;%s*([%w%*%-]+)%s*=%s*(.*)$"
    if not key then
      return nil
    end
    local value = after:match '^"[^"\\]*"' or after:match '^"[^"\\]*\\.-[^\\]"'
      or after:match "^[^;]*"
    rest = after:sub(#value + 1):match "^%s*(.*)$"
    if key:lower() == wanted then
      return unquote((value:gsub("%s+$", "")))
    end
  end
  return nil
end

local function parse_head(text)
  local headers = {}
  for line in (text .. "\r\n"):gmatch "(.-)\r\n" do
    if line ~= "" then
      local name, value = line:match "^([%w!#$%%&'*+%-.^_`|~]+):%s*(.-)%s*$"
      if not name then
        malformed("a part's head has a malformed line")
      end
      headers[name:lower()] = value
    end
  end
  return headers
end

local Part = {}
Part.__index = Part

--- Iterates the part's bytes as they arrive.
---@return fun(): string?
function Part:chunks()
  return function()
    if self.finished then
      return nil
    end
    local chunk = self.reader:chunk_before(self.mark)
    if not chunk then
      self.finished = true
    end
    return chunk
  end
end

--- The whole part, at most max bytes (16 MB unless told).
---@param max integer?
---@return string? bytes
---@return perigee.Error? err  # kind "too_large"
function Part:read(max)
  max = max or 16 * 1024 * 1024
  local pieces, size = {}, 0
  for chunk in self:chunks() do
    size = size + #chunk
    if size > max then
      return nil, errors.new("too_large", "the part is larger than %d bytes",
        max)
    end
    pieces[#pieces + 1] = chunk
  end
  return table.concat(pieces)
end

-- What came is written: its size, or nil and an error.
local function copy(part, file)
  local size = 0
  for chunk in part:chunks() do
    local ok, err = file:write(chunk)
    if not ok then
      return nil, err
    end
    size = size + #chunk
  end
  local ok, err = file:close()
  return ok and size, err
end

--- Writes the part to a file, which must not exist. A part that is not written
--- whole, because the client has gone or the disk is full, leaves none.
---@param path string
---@return integer? bytes
---@return perigee.Error? err  # kind "conflict": there is such a file
function Part:save(path)
  local files = require "perigee.core.file"
  local file, err = files.create(path)
  if not file then
    if err.code == "EEXIST" then
      err = errors.new("conflict", "there is a file of that name")
    end
    return nil, err
  end
  local ok, size, why = pcall(copy, self, file)
  if ok and size then
    return size
  end
  os.remove(path) -- at once: this task may not wait any more
  pcall(file.close, file)
  if not ok then
    error(size, 0)
  end
  return nil, why
end

local function next_part(reader, mark)
  local start = reader:take_until("\r\n", 256)
  if start:match "^%-%-%s*$" then
    return nil
  end
  if not start:match "^%s*$" then
    malformed("text after a boundary")
  end
  -- A part without any head begins with an empty line.
  local head = ""
  while #reader.buffer < 2 and reader:fill() do end
  if reader.buffer:sub(1, 2) == "\r\n" then
    reader:take_until("\r\n", 2)
  else
    head = reader:take_until("\r\n\r\n", HEAD_MAX)
  end
  local headers = parse_head(head)
  local disposition = headers["content-disposition"]
  return setmetatable({
    reader = reader, mark = mark, headers = headers,
    name = parameter(disposition, "name"),
    filename = parameter(disposition, "filename"),
    content_type = headers["content-type"],
  }, Part)
end

--- For req:multipart().
function M.parts(req)
  local content_type = req:header "content-type" or ""
  if content_type:lower():match "^[^;%s]*" ~= "multipart/form-data" then
    local err = errors.new("invalid", "the body must be multipart/form-data")
    err.code = "unsupported_media_type"
    error(err, 0)
  end
  local boundary = parameter(content_type, "boundary")
  if not boundary or #boundary == 0 or #boundary > 70 then
    malformed("the Content-Type names no boundary")
  end
  local reader = new_reader(req)
  reader.buffer = "\r\n" -- so that the first boundary looks like the others
  local mark = "\r\n--" .. boundary
  local part, count
  return function()
    if not count then
      count = 0
      while reader:chunk_before(mark) do end -- a preamble is dropped
    elseif part then
      for _ in part:chunks() do end -- what the caller did not want
    else
      return nil
    end
    count = count + 1
    if count > PARTS_MAX then
      malformed("more than " .. PARTS_MAX .. " parts")
    end
    -- The closing boundary may lack its line break.
    while #reader.buffer < 2 and reader:fill() do end
    if reader.buffer:sub(1, 2) == "--" then
      part = nil
      while reader:fill() do reader.buffer = "" end
      return nil
    end
    part = next_part(reader, mark)
    return part
  end
end

return M
