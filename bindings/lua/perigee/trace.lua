--- Traces: spans of requests, calls and your own code, for a collector that
--- speaks OTLP. Off unless `trace.endpoint` or OTEL_* say otherwise; then all of
--- this costs a call.

local core = require "perigee.core.trace"
local errors = require "perigee.error"
local json = require "perigee.json"
local options = require "perigee.options"

local M = {}

local KINDS = {
  internal = 1, server = 2, client = 3, producer = 4, consumer = 5,
}
local OPTIONS = { kind = true, parent = true, links = true }
local OK, ERROR = 1, 2

local wanted = core.wanted()

---@class perigee.TraceContext
---@field trace_id string   # 32 hexadecimal digits
---@field span_id string    # 16
---@field sampled boolean
---@field random boolean?    # who began the trace says that its id is
---@field debug boolean?     # B3: whoever asked wants all of it
---@field tracestate string?
---@field baggage string?   # as the header carries it

---@class perigee.SpanOptions
---@field kind ("internal"|"server"|"client"|"producer"|"consumer")?
---@field parent perigee.TraceContext? # of another process; trace.extract
---@field links perigee.TraceContext[]?

local function plain(value)
  if type(value) == "table" or value == json.null then
    return json.encode(value) or tostring(value)
  elseif type(value) == "cdata" then
    return (tostring(value):gsub("^(-?%d+)U?LL$", "%1")) -- an int64, whole
  end
  return value
end

---@class perigee.Span
local Span = {}

--- Sets an attribute: text, number or boolean; tables become JSON.
---@param key string
---@param value any
---@return perigee.Span self
function Span:set(key, value)
  if value ~= nil then
    core.set(self, key, plain(value))
  end
  return self
end

--- Notes that something has happened now.
---@param name string
---@param attributes table<string, any>?
---@return perigee.Span self
function Span:event(name, attributes)
  local list = {}
  for key, value in pairs(attributes or {}) do
    list[#list + 1] = tostring(key)
    list[#list + 1] = plain(value)
  end
  core.event(self, name, list)
  return self
end

--- Marks the span as failed, and notes the error.
---@param err any # a perigee.error, or text
---@param stack string?
---@return perigee.Span self
function Span:fail(err, stack)
  local known = errors.is(err)
  local message = known and err.message or tostring(err)
  core.status(self, ERROR, message)
  core.set(self, "error.type", known and err.kind or "error")
  core.event(self, "exception", {
    "exception.type", known and "perigee.Error" or "error",
    "exception.message", message,
    "exception.stacktrace", stack or known and err.traceback or "",
  })
  return self
end

--- Marks the span as failed, without an event.
---@param kind string # its error.type
---@param message string?
---@return perigee.Span self
function Span:fail_as(kind, message)
  core.status(self, ERROR, message or "")
  core.set(self, "error.type", kind)
  return self
end

--- Marks the span as done well, whatever else is said of it.
---@return perigee.Span self
function Span:ok()
  core.status(self, OK)
  return self
end

--- Gives it another name.
---@param name string
---@return perigee.Span self
function Span:rename(name)
  core.rename(self, name)
  return self
end

--- Its context, to be handed to another process.
---@return perigee.TraceContext?
function Span:context()
  return core.current(self)
end

-- What spans have when nobody records them.
local NOTHING = {}

for name, method in pairs(Span) do
  NOTHING[name] = function(self)
    return self
  end
  core.span_metatable[name] = method
end
core.span_metatable.__index = Span
core.span_metatable.__name = "perigee.Span"

function NOTHING.context()
  return core.current()
end

local function with_stack(err)
  return { err, debug.traceback("", 2):gsub("^\n", "") }
end

local function finish(span, ok, ...)
  local first, second = ...
  if not ok then
    span:fail(first[1], first[2])
    core.finish(span)
    error(first[1], 0)
  end
  if first == nil and errors.is(second) then
    span:fail(second)
  end
  core.finish(span)
  return ...
end

local function check_given(given)
  if given.kind and not KINDS[given.kind] then
    error("trace.span: kind: internal, client, server, producer or consumer "
      .. "expected", 4)
  end
  for _, key in ipairs { "parent", "links" } do
    if given[key] ~= nil and type(given[key]) ~= "table" then
      error(("trace.span: %s: a table expected, not a %s")
        :format(key, type(given[key])), 4)
    end
  end
end

-- Wrong calls raise whether or not anybody traces; level 3 is the caller.
local function check_span(name, attributes, fn, given)
  if type(name) ~= "string" then
    error("trace.span: a name expected, not a " .. type(name), 3)
  elseif type(fn) ~= "function" then
    error("trace.span: a function expected, not a " .. type(fn), 3)
  elseif attributes ~= nil and type(attributes) ~= "table" then
    error("trace.span: attributes: a table expected, not a "
      .. type(attributes), 3)
  elseif given then
    check_given(given)
  end
end

local function start(name, attributes, given)
  local kind = given and given.kind
  local span = core.start(name, kind and KINDS[kind] or KINDS.internal,
    given and given.parent)
  if not span then
    return nil
  end
  for key, value in pairs(attributes or {}) do
    core.set(span, key, plain(value))
  end
  for _, context in ipairs(given and given.links or {}) do
    core.link(span, context)
  end
  return span
end

--- Calls fn(span), which may wait, and gives what it gives. What it raises, or
--- gives as `nil, err`, marks the span as failed. Spans, calls and log lines
--- within it belong to this span.
---@param name string
---@param attributes table<string, any>?
---@param fn fun(span: perigee.Span): ...
---@param given perigee.SpanOptions?
---@return any ...
function M.span(name, attributes, fn, given)
  if type(attributes) == "function" then
    attributes, fn, given = nil, attributes, fn
  end
  if given ~= nil then
    options.check(given, OPTIONS, "trace.span")
  end
  check_span(name, attributes, fn, given)
  if not wanted then
    return fn(NOTHING)
  end
  local span = start(name, attributes, given)
  if not span then
    return fn(NOTHING)
  end
  return finish(span, xpcall(fn, with_stack, span))
end

---@class perigee.CurrentSpan: perigee.TraceContext
local Current = {}
Current.__index = Current

--- Sets an attribute of the span that the task is at.
---@param key string
---@param value any
---@return perigee.CurrentSpan self
function Current:set(key, value)
  if value ~= nil then
    core.set(nil, key, plain(value))
  end
  return self
end

--- Notes that something has happened now.
---@param name string
---@param attributes table<string, any>?
---@return perigee.CurrentSpan self
function Current:event(name, attributes)
  Span.event(nil, name, attributes)
  return self
end

--- What the task is at: its own span, else that of its request; nil when
--- nothing is traced.
---@return perigee.CurrentSpan?
function M.current()
  local context = wanted and core.current() or nil
  return context and setmetatable(context, Current)
end

--- Adds the headers that carry the current span onwards (traceparent, and by
--- trace.propagators others) to a table.
---@generic T: table
---@param carrier T?
---@return T carrier
function M.inject(carrier)
  carrier = carrier or {}
  local headers = wanted and core.headers() or {}
  for i = 1, #headers, 2 do
    carrier[headers[i]] = headers[i + 1]
  end
  return carrier
end

--- The context that headers carry, as `parent` of a span or one of its links.
---@param carrier table<string, string>
---@return perigee.TraceContext?
function M.extract(carrier)
  if not wanted or type(carrier) ~= "table" then
    return nil
  end
  local headers = {}
  for name, value in pairs(carrier) do
    if type(name) == "string" and type(value) == "string" then
      headers[name:lower()] = value
    end
  end
  return core.extract(headers)
end

--- What the callers of this request have sent along (W3C baggage).
---@return table<string, string>
function M.baggage()
  local context = wanted and core.current() or nil
  local result = {}
  for item in (context and context.baggage or ""):gmatch "[^,]+" do
    local key, value = item:match "^%s*([^=%s;]+)%s*=%s*([^;]-)%s*$"
    if not key then
      key, value = item:match "^%s*([^=%s;]+)%s*=%s*([^;]-)%s*;"
    end
    if key then
      result[key] = core.decoded(value)
    end
  end
  return result
end

-- For the library's own modules: a span around a call to another server.
M.own = {}

--- Whether anything is traced; else the rest need not be called.
M.own.wanted = wanted

---@param name string
---@param kind integer
---@param parent perigee.TraceContext?
---@return perigee.Span?
function M.own.start(name, kind, parent)
  return core.start(name, kind, parent)
end

--- Below the current span only; nil when that is not recorded.
---@param name string
---@param kind integer
---@return perigee.Span?
function M.own.child(name, kind)
  return core.child(name, kind)
end

--- A URL's target without the credentials in its query.
---@param target string
---@return string
function M.own.masked(target)
  return core.masked(target)
end

--- Where the task is, for adopt() in a task that is no child of it.
---@return userdata?
function M.own.hold()
  return core.hold()
end

---@param here userdata
function M.own.adopt(here)
  core.adopt(here)
end

---@param span perigee.Span
function M.own.finish(span)
  core.finish(span)
end

---@return string[]?
function M.own.headers()
  return core.headers()
end

return M
