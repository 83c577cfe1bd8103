--- What the functions of http.stream and http.sse write to.

local core = require "perigee.core.request"
local json = require "perigee.json"

---@class perigee.Writer
local writer = {}
writer.__index = writer

--- Sends a piece; waits while the client is slow.
---@param chunk string
---@return true? ok
---@return perigee.Error? err  # kind "cancelled": the client has gone
function writer:write(chunk)
  return core.write(self.req, chunk)
end

---@class perigee.EventWriter
local event_writer = {}
event_writer.__index = event_writer

local function add_lines(lines, name, text)
  text = text:gsub("\r\n?", "\n") .. "\n"
  for line in text:gmatch "(.-)\n" do
    lines[#lines + 1] = name .. ": " .. line
  end
end

local function one_line(value)
  return (tostring(value):gsub("[\r\n%z]", " "))
end

--- Sends an event; waits while the client is slow.
---@param event { event: string?, id: string?, data: any, retry: integer? }|string
---@return true? ok
---@return perigee.Error? err  # kind "cancelled": the client has gone
function event_writer:send(event)
  if type(event) == "string" then
    event = { data = event }
  elseif type(event) ~= "table" then
    error("an event is a table or a string, not a " .. type(event), 2)
  end
  local lines = {}
  if event.event then lines[1] = "event: " .. one_line(event.event) end
  if event.id then lines[#lines + 1] = "id: " .. one_line(event.id) end
  if event.retry then lines[#lines + 1] = ("retry: %d"):format(event.retry) end
  if event.data ~= nil then
    local data = event.data
    if type(data) ~= "string" then
      local text, err = json.encode(data)
      if not text then
        return nil, err
      end
      data = text
    end
    add_lines(lines, "data", data)
  end
  return core.write(self.req, table.concat(lines, "\n") .. "\n\n")
end

--- Sends a comment, which clients ignore: keeps a silent connection open.
function event_writer:comment(text)
  return core.write(self.req, ": " .. one_line(text or "") .. "\n\n")
end

return { plain = writer, events = event_writer }
