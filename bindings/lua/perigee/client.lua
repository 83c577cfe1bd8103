--- The HTTP client; perigee.http hands its functions out.

local config = require "perigee.config"
local cookies = require "perigee.cookies"
local core = require "perigee.core.client"
local errors = require "perigee.error"
local plans = require "perigee.client.plan"
local proxies = require "perigee.client.proxy"
local quick = require "perigee.client.quick"
local responses = require "perigee.client_response"
local tasks = require "perigee.core.task"
local options = require "perigee.options"
local time = require "perigee.time"
local tls = require "perigee.client.tls"
local watch = require "perigee.client.watch"
local urls = require "perigee.url"

local M = {}

local blame = options.blame

local REDIRECTS = plans.REDIRECTS

local IDEMPOTENT = {
  GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true,
  TRACE = true,
}
local RETRIED = { [502] = true, [503] = true, [504] = true }
local REDIRECT = {
  [301] = true, [302] = true, [303] = true, [307] = true, [308] = true,
}
local SECRET = {
  ["authorization"] = true, ["cookie"] = true,
  ["proxy-authorization"] = true, ["host"] = true,
}

local SEND_DEADLINE = config.get("client.send_deadline", true)

---@class perigee.ClientOptions
---@field method string?        # "GET" unless told
---@field url string?           # http://...
---@field headers table<string, string|number|(string|number)[]>?
---@field query table?          # { a = 1, b = { 2, 3 } }, added to the URL's
---@field json any?             # sent as JSON
---@field form table?           # sent as application/x-www-form-urlencoded
---@field body string|(fun(): string?)? # or a function: sent as it gives them
---@field timeout string|number? # the whole exchange, redirects and all; "30s"
---@field connect_timeout string|number? # with the wait for a free connection; "10s"
---@field first_byte_timeout string|number?
---@field retry (integer|perigee.RetryOptions)? # attempts of an idempotent request; 1
---@field cookies (perigee.CookieJar|table<string, string>)? # http.cookie_jar(), or names and values
---@field proxy (string|false)? # "http://host:port", "env": http_proxy and no_proxy; as configured
---@field no_proxy string?      # "internal.example, 10.0.0.1:8080": hosts and domains that are spoken to directly
---@field send_deadline boolean? # X-Request-Timeout-Ms: what is left of the task's time, if it has a deadline; as configured
---@field stream boolean?       # the body comes through res:chunks()
---@field redirects integer?    # followed at most; 5, 0: given as they are
---@field body_max string|number? # of an answer, unpacked; "16mb"
---@field decompress boolean?   # gzip and br; true
---@field deny_private boolean? # refuse addresses that are not public
---@field tls perigee.TlsOptions? # for https
---@field unix string?          # path of a UNIX socket to speak to

---@class perigee.TlsOptions # files are read by their paths, relative to the application
---@field ca string?          # PEM or a path: who may have issued the server's certificate; the system's store
---@field cert string?        # PEM or a path: the certificate to show
---@field key string?         # PEM or a path: its key
---@field verify boolean?     # false: any certificate will do
---@field server_name string? # whom the certificate must be for; the URL's host
---@field min_version string? # "1.2" or "1.3"

-- ---- one exchange ----

local function add_field(fields, name, value)
  if value then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end

local function sends_deadline(opts)
  if opts.send_deadline ~= nil then
    return opts.send_deadline
  end
  return SEND_DEADLINE
end

local function plain_fields(plan)
  local fields = {}
  if not plan.has.host then
    fields[1], fields[2] = "host", plan.url.authority
  end
  for _, header in ipairs(plan.headers) do
    fields[#fields + 1] = header[2]
    fields[#fields + 1] = header[3]
  end
  return fields
end

local function fields_of(plan)
  local url = plan.url
  local fields = plain_fields(plan)
  watch.add_headers(plan, fields)
  if plan.opts.cookies and not plan.has.cookie
    and (not plan.strayed or cookies.is_jar(plan.opts.cookies)) then
    add_field(fields, "cookie", cookies.header(plan.opts.cookies, url))
  end
  local left_ms = sends_deadline(plan.opts) and tasks.remaining()
  if left_ms then
    left_ms = math.min(plan.until_ms - time.monotonic(), left_ms)
    add_field(fields, "x-request-timeout-ms",
      ("%d"):format(math.max(1, left_ms)))
  end
  if url.user and not plan.has.authorization then
    add_field(fields, "authorization", urls.basic(url.user))
  end
  return fields
end

local function address(url)
  return url.scheme .. "://" .. url.authority .. url.target:match "^[^?]*"
end

local function overdue(plan)
  local err = errors.new("timeout", "%s %s: not done within %d ms",
    plan.method, address(plan.url), plan.timeout)
  err.code = "timeout"
  return nil, err
end

local function send_source(plan, call)
  local source = plan.source
  plan.source = function()
    blame("a body that is a function can be sent only once")
  end
  for chunk in source do
    if not core.write(call, chunk) then
      return -- an answer is there, or will not come
    end
  end
  core.finish(call)
end

-- Whom to connect to, and what for.
local function place_of(plan, fields)
  local url = plan.url
  if plan.unix then
    return { host = plan.unix, port = url.port, target = url.target }
  end
  local proxy, err = proxies.find(url, plan.opts.proxy, plan.opts.no_proxy)
  if not proxy then
    return proxy == false and url or nil, err
  end
  if plan.opts.deny_private then
    err = errors.new("invalid", "%s: deny_private cannot be kept through a "
      .. "proxy, which looks the name up itself", address(url))
    err.code = "bad_proxy"
    return nil, err
  end
  if url.scheme == "https" then
    local host = url.host:find(":", 1, true) and "[" .. url.host .. "]"
      or url.host
    return { host = proxy.host, port = proxy.port, target = url.target,
      tunnel = host .. ":" .. url.port, tunnel_auth = proxy.authorization }
  end
  add_field(fields, "proxy-authorization", proxy.authorization)
  return { host = proxy.host, port = proxy.port,
    target = "http://" .. url.authority .. url.target }
end

local function start(plan)
  local opts, url = plan.opts, plan.url
  local left_ms = plan.until_ms - time.monotonic()
  if left_ms <= 0 then
    return overdue(plan)
  end
  local fields = fields_of(plan)
  local at, err = place_of(plan, fields)
  if not at then
    return nil, err
  end
  return core.start {
    method = plan.method, host = at.host, port = at.port,
    is_local = plan.unix ~= nil, target = at.target,
    fields = fields, body = plan.body,
    streams_body = plan.source ~= nil,
    tls = tls.for_url(plan.tls, url), tunnel = at.tunnel,
    tunnel_auth = at.tunnel_auth,
    deny_private = opts.deny_private, whole = not opts.stream,
    decompress = opts.decompress ~= false,
    body_max = plan.body_max, total_ms = left_ms,
    connect_ms = plan.connect, first_byte_ms = plan.first_byte,
    what = plan.method .. " " .. address(url),
  }
end

local function exchange_once(plan)
  local call, err = start(plan)
  if not call then
    return nil, err
  end
  if plan.source then
    local ok, why = pcall(send_source, plan, call)
    if not ok then
      core.close(call)
      error(why, 0)
    end
  end
  local status, headers, body = core.answer(call)
  if not status then
    return nil, headers
  end
  if headers["set-cookie"] and cookies.is_jar(plan.opts.cookies) then
    plan.opts.cookies:store(plan.url, headers["set-cookie"])
  end
  local res = responses.new {
    status = status, headers = headers, body = body, url = address(plan.url),
  }
  if plan.opts.stream then
    responses.streams(res, { call = call, timeout = plan.timeout,
      body_max = plan.body_max })
  end
  return res
end

local exchange = watch.wrap(exchange_once)

-- ---- attempts and redirects ----

local function worth_retrying(err)
  return err.kind == "unavailable" and err.code ~= "bad_response"
    and not tostring(err.code):find "^tls_" or err.code == "connect_timeout"
end

-- An answer that calls for another attempt is a failure until the last one.
local function attempt(plan, last)
  local res, err = exchange(plan)
  if last.res then
    last.res:close()
    last.res = nil
  end
  if not res or not RETRIED[res.status] then
    return res, err
  end
  last.res = res
  err = errors.new("unavailable", "%s: status %d", address(plan.url),
    res.status)
  err.code = "retried_status"
  err.retry_after_ms = res:retry_after()
  return nil, err
end

local function attempts(plan)
  local rules = plan.rules
  if not rules or not IDEMPOTENT[plan.method] or plan.source then
    return exchange(plan)
  end
  rules = setmetatable({
    retry_on = function(err, number)
      return worth_retrying(err) and time.monotonic() < plan.until_ms
        and (type(plan.opts.retry) == "number" or not plan.opts.retry.retry_on
          or rules.retry_on(err, number))
    end,
  }, { __index = rules })
  local last = {}
  local res, err = require("perigee.resilience.retry").run(rules, attempt,
    plan, last)
  if not res and last.res then
    return last.res
  end
  return res, err
end

local function drop_headers(plan, unwanted)
  local kept = {}
  for _, header in ipairs(plan.headers) do
    if unwanted(header[1]) then
      plan.has[header[1]] = nil
    else
      kept[#kept + 1] = header
    end
  end
  plan.headers = kept
end

local function refuse_redirect(plan, code, text)
  local err = errors.new("unavailable", "%s %s: %s", plan.method,
    address(plan.url), text)
  err.code = code
  return nil, err
end

local function becomes_get(plan, status)
  return status == 303 and plan.method ~= "HEAD"
    or (status == 301 or status == 302) and plan.method == "POST"
end

-- Makes the plan that of the next request; nil and an error when it cannot.
local function follow(plan, res)
  local location = res.headers.location
  if type(location) == "table" then
    return refuse_redirect(plan, "bad_redirect", "more than one Location")
  end
  local url = urls.resolve(plan.url, location)
  if not url then
    return refuse_redirect(plan, "bad_redirect", "it redirects to no http URL")
  end
  if becomes_get(plan, res.status) then
    plan.method, plan.body, plan.source = "GET", nil, nil
    drop_headers(plan, function(name) return name:find "^content%-" end)
  elseif plan.source then
    return refuse_redirect(plan, "bad_redirect",
      "it redirects a body that can be sent only once")
  end
  local same = url.scheme == plan.url.scheme and url.host == plan.url.host
    and url.port == plan.url.port
  if not same then
    if plan.unix then
      return refuse_redirect(plan, "bad_redirect",
        "it redirects away from the socket")
    end
    drop_headers(plan, function(name) return SECRET[name] end)
    plan.strayed = true
    tls.stray(plan.tls)
  elseif not url.user then
    url.user = plan.url.user
  end
  plan.url = url
  return true
end

-- The answer to a plan, redirects followed; first: its first answer, when that
-- is there already.
local function carry_out(plan, first)
  local opts = plan.opts
  while true do
    local res, err = first, nil
    if not res then
      res, err = attempts(plan)
    end
    first = nil
    if not res then
      return nil, err
    end
    if not REDIRECT[res.status] or not res.headers.location
      or (opts.redirects or REDIRECTS) < 1 then
      return res
    end
    res:close()
    if plan.left < 1 then
      return refuse_redirect(plan, "too_many_redirects", "too many redirects")
    end
    plan.left = plan.left - 1
    local ok, why = follow(plan, res)
    if not ok then
      return nil, why
    end
  end
end

--- Sends a request and gives its answer, whatever the status.
---@param opts perigee.ClientOptions
---@return perigee.ClientResponse? res
---@return perigee.Error? err # kind "unavailable", "timeout", "too_large", "invalid" (the URL), "forbidden" (deny_private)
function M.request(opts)
  local plan, bad = plans.make(opts)
  if not plan then
    return nil, bad
  end
  return carry_out(plan)
end

quick.send_deadline = SEND_DEADLINE
quick.redirects = REDIRECT
quick.address = address
quick.plain_fields = plain_fields
quick.carry_out = carry_out

local function with_method(method)
  local is_get = method == "GET"
  return function(url, opts)
    if opts ~= nil and type(opts) ~= "table" then
      blame("http: a table of options expected")
    end
    if is_get then
      local res, err = quick.get(url, opts)
      if res ~= false then
        return res, err
      end
    end
    local all = {}
    for key, value in pairs(opts or {}) do
      all[key] = value
    end
    all.method, all.url = method, url
    return M.request(all)
  end
end

--- Sends a GET.
---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.get(url, opts) end -- luacheck: ignore 212

for _, name in ipairs { "get", "post", "put", "patch", "delete", "head" } do
  M[name] = with_method(name:upper())
end

--- An empty cookie jar, for the option `cookies`.
---@return perigee.CookieJar
function M.cookie_jar()
  return cookies.jar()
end

--- What the worker's connections have done: requests, connects, reused, open,
--- waiting.
---@return table<string, integer>
function M.stats()
  return core.stats()
end

return M
