--- What is counted and traced of requests to other servers: every attempt, each
--- hop of a redirect.

local errors = require "perigee.error"
local metrics = require "perigee.metrics"
local time = require "perigee.time"
local trace = require "perigee.trace"

local M = {}

local CLIENT = 3 -- a span's kind
local KNOWN = {
  GET = true, HEAD = true, POST = true, PUT = true, PATCH = true,
  DELETE = true, OPTIONS = true, TRACE = true, CONNECT = true, QUERY = true,
}

local duration

local function histogram()
  local config = require "perigee.config"
  if config.metrics and config.metrics.enabled == false then
    return false
  end
  return metrics.own.histogram {
    name = "http_client_request_duration_seconds",
    help = "Duration of HTTP client requests, to the end of the answer or, "
      .. "where it is streamed, of its head.",
    labels = { "http_request_method", "server_address", "server_port",
      "url_scheme", "http_response_status_code", "error_type" },
    buckets = config.metrics and config.metrics.buckets,
  }
end

local function error_type(res, err)
  if res then
    return res.status >= 400 and tostring(res.status) or ""
  end
  return errors.is(err) and (err.code or err.kind) or "error"
end

local function count(plan, seconds, res, err)
  if duration == nil then
    duration = histogram()
  end
  if not duration then
    return
  end
  local url = plan.url
  duration:observe(seconds, KNOWN[plan.method] and plan.method or "_OTHER",
    url.host, url.port, url.scheme, res and res.status or "",
    error_type(res, err))
end

local function describe(span, plan)
  local url = plan.url
  span:set("http.request.method", plan.method)
  span:set("server.address", url.host)
  span:set("server.port", url.port)
  span:set("url.full", url.scheme .. "://" .. url.authority
    .. trace.own.masked(url.target))
  span:set("network.protocol.version", "1.1")
  -- Again: a retry, or the next hop of a redirect.
  span:set("http.request.resend_count", plan.resends)
  plan.resends = (plan.resends or 0) + 1
end

local function conclude(span, res, err)
  local kind = error_type(res, err)
  if res then
    span:set("http.response.status_code", res.status)
  end
  if kind ~= "" then
    span:fail_as(kind, res and "" or tostring(err))
  end
  trace.own.finish(span)
end

local function done(plan, started_ms, span, ok, ...)
  local res, err = ...
  if not ok then
    res, err = nil, res
  end
  count(plan, (time.monotonic() - started_ms) / 1000, res, err)
  if span then
    conclude(span, res, err)
  end
  if not ok then
    error((...), 0)
  end
  return ...
end

--- The same function, watched.
---@param exchange fun(plan: table): any, any
---@return fun(plan: table): any, any
function M.wrap(exchange)
  return function(plan)
    local started_ms = time.monotonic()
    local span = trace.own.wanted and trace.own.start(plan.method, CLIENT)
    if span then
      describe(span, plan)
    end
    return done(plan, started_ms, span, pcall(exchange, plan))
  end
end

--- Whether spans are made: then each request is described on its own.
---@return boolean
function M.traces()
  return trace.own.wanted and true or false
end

--- Counts one of the client's quick GETs, whose series are looked up once.
---@param entry table # of the client's; bound series are kept in it
---@param started_ms number
---@param status integer|nil|false
---@param err any
function M.count_quick(entry, started_ms, status, err)
  local seconds = (time.monotonic() - started_ms) / 1000
  local bound = status and entry[status]
  if bound then
    return bound:observe(seconds)
  end
  if duration == nil then
    duration = histogram()
  end
  if not duration then
    return
  end
  if not status then
    return count(entry.plan, seconds, nil, err)
  end
  local url = entry.plan.url
  bound = duration:with("GET", url.host, url.port, url.scheme, status,
    error_type { status = status })
  entry[status] = bound
  bound:observe(seconds)
end

--- The headers that carry the current span onwards; the caller's own win.
---@param plan table
---@param fields string[] # name, value, ...
function M.add_headers(plan, fields)
  local headers = trace.own.wanted and trace.own.headers() or nil
  for i = 1, headers and #headers or 0, 2 do
    if not plan.has[headers[i]] then
      fields[#fields + 1] = headers[i]
      fields[#fields + 1] = headers[i + 1]
    end
  end
end

return M
