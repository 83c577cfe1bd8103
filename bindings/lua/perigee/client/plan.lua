--- From the options of a request to a plan: what is to be sent, checked.

local json = require "perigee.json"
local options = require "perigee.options"
local time = require "perigee.time"
local tls = require "perigee.client.tls"
local units = require "perigee.units"
local urls = require "perigee.url"

local M = {}

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

local function check(value, what, level)
  if value == nil then
    error(what, level + 1)
  end
  return value
end

--- An option that is a duration, in milliseconds.
function M.duration(opts, name, default)
  if opts[name] == nil then
    return default
  end
  local ms, why = units.duration(opts[name])
  return check(ms, why and name .. ": " .. why, 4)
end

local function add_header(plan, name, value)
  if type(name) ~= "string" then
    error("headers: names are strings", 5)
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
    body = text or error(err, 0)
    default_header(plan, "content-type", "application/json")
  elseif opts.form then
    body = urls.encode(opts.form, true)
    default_header(plan, "content-type", "application/x-www-form-urlencoded")
  end
  if type(body) == "function" then
    plan.source = body
  elseif body ~= nil then
    plan.body = type(body) == "string" and body
      or error("body: a string or a function expected", 4)
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
  return require("perigee.resilience.retry").rules(given, 3)
end

--- Raises for what is no option; nil and an error for a URL that is none.
---@param opts perigee.ClientOptions
---@return table? plan
---@return perigee.Error? err
function M.make(opts)
  options.check(opts, KNOWN, "http", 3)
  local method = opts.method or "GET"
  if type(opts.url) ~= "string" or type(method) ~= "string" then
    error("url: a string expected", 3)
  end
  local url, err = urls.parse(opts.url)
  if not url then
    return nil, err
  end
  local body_max = opts.body_max or BODY_MAX
  local plan = {
    method = method:upper(), url = url, headers = {}, has = {}, opts = opts,
    body_max = check(units.size(body_max), "body_max: a size expected", 3),
    timeout = M.duration(opts, "timeout", TIMEOUT_MS),
    connect = M.duration(opts, "connect_timeout", CONNECT_MS),
    first_byte = M.duration(opts, "first_byte_timeout", 0),
    left = opts.redirects or M.REDIRECTS,
    unix = opts.unix, rules = rules_of(opts),
    tls = opts.tls ~= nil and tls.check(opts.tls, 3) or nil,
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
