--- From the options of a request to a plan: what is to be sent, checked.

local errors = require "perigee.error"
local json = require "perigee.json"
local options = require "perigee.options"
local time = require "perigee.time"
local tls = require "perigee.client.tls"
local units = require "perigee.units"
local urls = require "perigee.url"

local M = {}

local blame = options.blame

local BODY_MAX = 16 * 1024 * 1024
local TIMEOUT_MS = 30000
local CONNECT_MS = 10000
local RETRY_MAX_MS = 2000

local KNOWN = {
  method = true, url = true, headers = true, query = true, json = true,
  form = true, body = true, timeout = true, connect_timeout = true,
  first_byte_timeout = true, retry = true, cookies = true, proxy = true,
  no_proxy = true, send_deadline = true, stream = true, redirects = true,
  body_max = true, decompress = true, deny_private = true, tls = true,
  unix = true,
}

--- Followed at most, unless told.
M.REDIRECTS = 5

-- The host's own, and what would let a caller desynchronise a connection.
local OWN = {
  ["content-length"] = true, ["transfer-encoding"] = true,
  ["connection"] = true, ["keep-alive"] = true, ["upgrade"] = true,
  ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true,
  ["expect"] = true,
}

local TYPES = {
  headers = "table", query = "table", form = "table", cookies = "table",
  no_proxy = "string", unix = "string", stream = "boolean",
  decompress = "boolean", deny_private = "boolean", send_deadline = "boolean",
}
local UNSENT = { table = true, ["function"] = true, thread = true,
  userdata = true }
local UNIX_MAX = 107 -- of what the kernel takes

local function check(value, what)
  if value == nil then
    blame(what)
  end
  return value
end

--- An option that is a duration, in milliseconds.
function M.duration(opts, name, default)
  if opts[name] == nil then
    return default
  end
  local ms, why = units.duration(opts[name])
  return check(ms, why and name .. ": " .. why)
end

local function add_header(plan, name, value)
  if type(name) ~= "string" then
    blame("headers: names are strings")
  end
  local lower = name:lower()
  if OWN[lower] then
    return
  end
  plan.has[lower] = true
  if type(value) ~= "table" then
    value = { value }
  end
  for _, each in ipairs(value) do
    if UNSENT[type(each)] then
      blame(("headers: %s cannot be a %s"):format(name, type(each)))
    end
    plan.headers[#plan.headers + 1] = { lower, name, tostring(each) }
  end
end

local function default_header(plan, name, value)
  if not plan.has[name] then
    plan.has[name] = true
    plan.headers[#plan.headers + 1] = { name, name, value }
  end
end

local function set_body(plan, opts)
  local body = opts.body
  if opts.json ~= nil then
    local text, err = json.encode(opts.json)
    body = text or blame("json: " .. err.message)
    default_header(plan, "content-type", "application/json")
  elseif opts.form then
    body = urls.encode(opts.form, true)
    default_header(plan, "content-type", "application/x-www-form-urlencoded")
  end
  if type(body) == "function" then
    plan.source = body
  elseif body ~= nil then
    plan.body = type(body) == "string" and body
      or blame("body: a string or a function expected")
  end
end

-- Attempts and their rules; a number has pauses up to two seconds.
local function rules_of(opts)
  local given = opts.retry
  if given == nil or given == 1 then
    return nil
  end
  if type(given) == "number" then
    given = { attempts = given, max = RETRY_MAX_MS }
  end
  return require("perigee.resilience.retry").rules(given)
end

local function check_types(opts)
  for name, wanted in pairs(TYPES) do
    options.is(opts[name], wanted, name)
  end
  if opts.proxy then
    options.is(opts.proxy, "string", "proxy")
  end
  if opts.redirects ~= nil then
    options.number(opts.redirects, 0, "redirects")
  end
end

local function refuse(code, text)
  local err = errors.new("invalid", text)
  err.code = code
  return nil, err
end

--- Raises for what is no option; nil and an error for a URL that is none.
---@param opts perigee.ClientOptions
---@return table? plan
---@return perigee.Error? err
function M.make(opts)
  options.check(opts, KNOWN, "http")
  local method = opts.method or "GET"
  if type(opts.url) ~= "string" or type(method) ~= "string" then
    blame("url: a string expected")
  end
  check_types(opts)
  local url, err = urls.parse(opts.url)
  if not url then
    return nil, err
  elseif method:upper() == "CONNECT" then
    return refuse("bad_request", "CONNECT is for the option proxy")
  elseif opts.unix and (opts.unix == "" or #opts.unix > UNIX_MAX
    or opts.unix:find("%z")) then
    return refuse("bad_url", "unix: a path of up to 107 bytes expected")
  end
  local body_max = opts.body_max or BODY_MAX
  local plan = {
    method = method:upper(), url = url, headers = {}, has = {}, opts = opts,
    body_max = check(units.size(body_max), "body_max: a size expected"),
    timeout = M.duration(opts, "timeout", TIMEOUT_MS),
    connect = M.duration(opts, "connect_timeout", CONNECT_MS),
    first_byte = M.duration(opts, "first_byte_timeout", 0),
    left = opts.redirects or M.REDIRECTS,
    unix = opts.unix, rules = rules_of(opts),
    tls = opts.tls ~= nil and tls.check(opts.tls) or nil,
  }
  for name, value in pairs(opts.headers or {}) do
    add_header(plan, name, value)
  end
  set_body(plan, opts)
  default_header(plan, "accept", "*/*")
  default_header(plan, "user-agent", "perigee")
  if opts.decompress ~= false then
    default_header(plan, "accept-encoding", "gzip, br")
  end
  if opts.query then
    url.target = urls.with_query(url.target, urls.encode(opts.query))
  end
  plan.until_ms = time.monotonic() + plan.timeout
  return plan
end

M.TIMEOUT_MS = TIMEOUT_MS

return M
