--- Answers that C does not send by itself: problems, files, streams, errors,
--- and nonsense that a handler returned.

local answer = require "perigee.answer"
local app = require "perigee.core.app"
local core = require "perigee.core.request"
local errors = require "perigee.error"
local json = require "perigee.json"
local trace = require "perigee.trace"
local writers = require "perigee.writers"

local M = {}

local STATUS = {
  invalid = 400, unauthorized = 401, forbidden = 403, not_found = 404,
  conflict = 409, too_large = 413, unprocessable = 422, limited = 429,
  timeout = 504, unavailable = 503,
}

local function env()
  return app.host().env
end

-- What is told of a request may hold what its client sent, UTF-8 or not.
-- Goes as deep as a list of faults.
local function legible(value, depth)
  if type(value) == "string" then
    return json.text(value)
  elseif type(value) ~= "table" or depth == 0 then
    return value
  end
  local told = {}
  for key, one in pairs(value) do
    told[key] = legible(one, depth - 1)
  end
  return told
end

local function problem_answer(req, status, fields, headers)
  local title = legible(fields.title, 0) or core.reason(status) or "Error"
  local document = {
    type = fields.type or "about:blank",
    title = title,
    status = status,
    detail = legible(fields.detail, 0) or title,
    instance = req.path,
    request_id = req.id,
  }
  for key, value in pairs(fields) do
    if key ~= "headers" and document[key] == nil then
      document[key] = value
    end
  end
  headers = headers or {}
  headers["content-type"] = "application/problem+json"
  return status, document, headers
end

local function retry_after(err)
  local ms = type(err.retry_after_ms) == "number" and err.retry_after_ms
    or 1000
  return ("%d"):format(math.max(1, math.ceil(ms / 1000)))
end

-- Errors of the library have a code. What they say of other servers, files and
-- tables is the operator's to read, not the client's.
local function tells_internals(err, status)
  if env() == "development" then
    return false
  end
  local code = err.code
  return (status >= 500 and (not STATUS[err.kind] or code ~= nil))
    or (type(code) == "string" and code:find "^SQLITE_" ~= nil)
end

-- Refusals that come by the thousand, and that metrics count.
local QUIET = { breaker_open = true, bulkhead_full = true }

-- A perigee.error, by its kind.
local function error_answer(req, err)
  local status = STATUS[err.kind] or 500
  local headers = {}
  for name, value in pairs(err.headers or {}) do
    headers[tostring(name):lower()] = value
  end
  if err.code == "unsupported_media_type" then
    status = 415
  elseif err.kind == "timeout" and err.code == "body_timeout" then
    status = 408
  end
  if status == 429 or (status == 503 and err.retry_after_ms) then
    headers["retry-after"] = headers["retry-after"] or retry_after(err)
  elseif status == 401 then
    -- RFC 9110, section 15.5.2, asks for one.
    headers["www-authenticate"] = headers["www-authenticate"] or "Bearer"
  end
  local fields = { errors = legible(err.errors, 2) }
  if not tells_internals(err, status) then
    fields.detail = err.message
  end
  return problem_answer(req, status, fields, headers)
end

local function log_failure(message, req, err, traceback)
  local is_error = errors.is(err)
  local text = json.text(is_error and err.message or tostring(err))
  local context = trace.own.wanted and trace.current() or nil
  app.log_error(message, {
    "err", json.encode {
      type = is_error and err.kind or "Error",
      message = text,
      stack = text .. "\n" .. json.text(traceback or ""),
    },
    "reqId", req.id,
    "method", req.method,
    "url", req.target,
    "route", req.route or "",
    context and "trace_id", context and context.trace_id,
    context and "span_id", context and context.span_id,
  }, true)
end

-- LuaJIT has forgotten the line of a frame that failed by itself, as nil.x does;
-- the message has it.
local function with_line(traceback, message)
  local source, line = message:match "^([^\n]-):(%d+): "
  local head = source and ("stack traceback:\n\t%s: in "):format(source)
  if not head or traceback:sub(1, #head) ~= head then
    return traceback
  end
  return ("stack traceback:\n\t%s:%s: in "):format(source, line)
    .. traceback:sub(#head + 1)
end

-- `return http.file()` is a tail call: nothing on the stack is the handler's.
local function with_handler(req, traceback)
  if traceback:find("scripts/", 1, true) then
    return traceback
  end
  return ("%s\n\t%s: in the handler"):format(traceback,
    require("perigee.router").where(req))
end

--- What a handler raised.
function M.fail(req, err, traceback)
  if errors.is(err) then
    -- Over its CPU time: where it was is what the operator needs.
    if not STATUS[err.kind] or err.code == "cpu_budget" then
      log_failure("request failed", req, err, traceback)
    elseif err.kind == "timeout" and traceback then
      log_failure("request timed out", req, err, traceback)
    elseif STATUS[err.kind] >= 500 and err.code and not QUIET[err.code] then
      log_failure("request failed", req, err, traceback)
    end
    return error_answer(req, err)
  end
  traceback = with_handler(req, with_line(traceback or "", tostring(err)))
  log_failure("request failed", req, err, traceback)
  if env() == "development" then
    return require("perigee.error_page").answer(req, err, traceback)
  end
  return problem_answer(req, 500, {})
end

-- ---- streams ----

local function flat_fields(headers)
  local list = {}
  for name, value in pairs(headers or {}) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      list[#list + 1] = tostring(name)
      list[#list + 1] = tostring(one)
    end
  end
  return list
end

local function has_field(headers, wanted)
  for name in pairs(headers or {}) do
    if tostring(name):lower() == wanted then
      return true
    end
  end
  return false
end

local function with_default(headers, name, value)
  local copy = {}
  for key, given in pairs(headers or {}) do
    copy[key] = given
  end
  if not has_field(headers, name) then
    copy[name] = value
  end
  return copy
end

-- The handler's task goes on as the stream; C ends or aborts what was begun.
local function run_stream(req, fields, class, headers)
  if not fields.opts.timeout then
    core.no_deadline(req)
  end
  if not core.begin(req, fields.opts.status or 200, flat_fields(headers),
      fields.opts.length) then
    return -- the client has it already
  end
  local ok, err, returned = xpcall(function()
    return fields.fn(setmetatable({ req = req }, class))
  end, function(raised)
    return { raised = raised, traceback = debug.traceback("", 2) }
  end)
  if ok and not (err == nil and errors.is(returned)) then
    core.finish(req)
    return
  elseif ok then
    err = { raised = returned, traceback = returned.traceback }
  end
  if core.take_back(req) then
    return M.fail(req, err.raised, err.traceback)
  end
  if not (errors.is(err.raised) and err.raised.kind == "cancelled") then
    log_failure("a streamed answer failed", req, err.raised, err.traceback)
  end
  core.abort(req)
end

local FORMS = {}

function FORMS.stream(req, fields)
  local headers = with_default(fields.opts.headers, "content-type",
    "application/octet-stream")
  return run_stream(req, fields, writers.plain, headers)
end

function FORMS.sse(req, fields)
  local headers = with_default(fields.opts.headers, "content-type",
    "text/event-stream")
  return run_stream(req, fields, writers.events,
    with_default(headers, "cache-control", "no-cache"))
end

function FORMS.plain(_, fields)
  return fields.status, fields.body, fields.headers
end

function FORMS.problem(req, fields)
  return problem_answer(req, fields.status, fields, fields.headers)
end

function FORMS.file(req, fields)
  -- The path is the application's, not a URL: a % in it is a %.
  local inside = fields.path:gsub("^%./", ""):match "^public(/.*)$"
  if inside and core.file(req, (inside:gsub("%%", "%%25")),
      flat_fields(fields.opts.headers), fields.opts.status) then
    return
  end
  return problem_answer(req, 404, {})
end

-- ---- the rest ----

local function describe(value)
  if value == nil then
    return "nothing"
  end
  return "a " .. type(value)
end

local function nonsense(req, what)
  local handler = require("perigee.router").where(req)
  local text = ("the handler at %s returned %s; an answer is a table, a "
    .. "string, a status with a body, or nil and an error"):format(
    handler, what)
  log_failure("request failed", req, text, "")
  if env() == "development" then
    return problem_answer(req, 500, { detail = text })
  end
  return problem_answer(req, 500, {})
end

local function is_status(value)
  return type(value) == "number" and value == math.floor(value)
    and value >= 200 and value <= 599
end

local function why_not(first, second, third)
  local body = first
  if type(first) == "number" then
    if not is_status(first) then
      return "the status " .. tostring(first)
    end
    if third ~= nil and type(third) ~= "table" then
      return "headers that are " .. describe(third)
    end
    body = second
  end
  if type(body) == "table" then
    local _, err = json.encode(body)
    if err then
      return "a table that is no JSON (" .. tostring(err) .. ")"
    end
  elseif type(body) ~= "string" and (body ~= nil or type(first) ~= "number")
  then
    return describe(body)
  end
  return "headers with odd names or values, or too many values"
end

-- The fields of an answer object that came with a status or headers beside it:
-- what was said last holds. The object may be answered again, so it is copied.
local function with_more(fields, status, headers)
  local copy, old = {}, fields.opts or fields
  for name, value in pairs(fields) do copy[name] = value end
  local place = copy
  if fields.opts then
    place = {}
    for name, value in pairs(fields.opts) do place[name] = value end
    copy.opts = place
  end
  place.status = status or old.status
  place.headers = {}
  for name, value in pairs(old.headers or {}) do place.headers[name] = value end
  for name, value in pairs(headers or {}) do place.headers[name] = value end
  return copy
end

-- What is beside nil: a plain table that says its kind is as good as an error
-- made by errors.new.
local function as_error(value)
  local err = errors.wrap(value)
  if type(value) == "table" and STATUS[value.kind] then
    err.kind = value.kind
    err.message = tostring(value.message or value.kind)
    for _, name in ipairs { "code", "errors", "headers", "retry_after_ms" } do
      err[name] = value[name]
    end
  end
  return err
end

--- What a handler returned, when C could not send it as it is.
function M.shape(req, first, second, third)
  if first == nil and errors.is(second) then
    return M.fail(req, second, second.traceback)
  end
  if first == nil and second ~= nil then
    return M.fail(req, as_error(second))
  end
  if errors.is(first) then
    return M.fail(req, first)
  end
  if answer.is(first) then
    local fields = first.fields
    if type(second) == "table" then
      fields = with_more(fields, nil, second)
    end
    return FORMS[first.form](req, fields)
  end
  if is_status(first) and answer.is(second) then
    return FORMS[second.form](req, with_more(second.fields, first,
      type(third) == "table" and third or nil))
  end
  return nonsense(req, why_not(first, second, third))
end

--- The innermost handler of the application's middleware, where no route is.
function M.not_found(req)
  local allow = core.allowed(req)
  if allow and req.method == "OPTIONS" then
    return 204, nil, { allow = allow }
  elseif allow then
    return problem_answer(req, 405, {}, { allow = allow })
  end
  return problem_answer(req, 404, {})
end

return M
