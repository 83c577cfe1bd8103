--- Answers that are more than a table or a string; and requests to other
--- servers.

local answer = require "perigee.answer"
local core = require "perigee.core.request"
local options = require "perigee.options"

local M = {}

local STREAM = { status = true, headers = true, length = true, timeout = true }
local EVENTS = { status = true, headers = true, timeout = true }
local FILE = { status = true, headers = true }
local COOKIE = { path = true, domain = true, max_age = true, expires = true,
  secure = true, http_only = true, same_site = true }

local function checked(opts, known, what)
  if opts == nil then
    return {}
  end
  options.check(opts, known, what)
  return opts
end

--- A streamed answer. fn is called with a writer whose `write` waits while the
--- client is slow and gives `nil, err` when it has gone.
---@param fn fun(out: perigee.Writer)
---@param opts { status: integer?, headers: table<string, string>?, length: integer? }?
---@return perigee.Answer
function M.stream(fn, opts)
  if type(fn) ~= "function" then
    error("a function expected", 2)
  end
  return answer.new("stream",
    { fn = fn, opts = checked(opts, STREAM, "http.stream") })
end

--- Server-sent events. fn is called with a writer whose `send` takes
--- { event, id, data, retry }; data may be a table (sent as JSON).
---@param fn fun(out: perigee.EventWriter)
---@param opts { headers: table<string, string>? }?
---@return perigee.Answer
function M.sse(fn, opts)
  if type(fn) ~= "function" then
    error("a function expected", 2)
  end
  return answer.new("sse",
    { fn = fn, opts = checked(opts, EVENTS, "http.sse") })
end

--- A file of the application's public/ folder.
---@param path string  # relative to the application: "public/report.pdf"
---@param opts { headers: table<string, string>? }?
---@return perigee.Answer
function M.file(path, opts)
  if type(path) ~= "string" then
    error("a path expected", 2)
  end
  return answer.new("file",
    { path = path, opts = checked(opts, FILE, "http.file") })
end

--- Sends the client elsewhere.
---@param url string
---@param status integer?  # 302 unless told
---@return perigee.Answer
function M.redirect(url, status)
  status = status or 302
  if type(url) ~= "string" or url:find "[%z\1-\32\127]" then
    error("a URL without blanks and control characters expected", 2)
  end
  if status < 300 or status > 399 then
    error("a redirect's status is 3xx", 2)
  end
  return answer.new("plain",
    { status = status, headers = { location = url } })
end

--- An RFC 9457 problem document.
---@param fields { status: integer, title: string?, detail: string?, type: string?, headers: table? }
---@return perigee.Answer
function M.problem(fields)
  if type(fields) ~= "table" or type(fields.status) ~= "number" then
    error("a table with a status expected", 2)
  end
  return answer.new("problem", fields)
end

--- Fields for caches, to return with an answer: `return 200, order,
--- http.cache{ max_age = "1m", tags = { "order:7" } }`.
---@param opts perigee.http.CacheOptions
---@param headers table<string, string>?  # more fields, which hold
---@return table<string, string> headers
function M.cache(opts, headers)
  local ok, made = pcall(require("perigee.caching").headers, opts)
  if not ok then
    error(made, 2)
  end
  for name, value in pairs(headers or {}) do
    made[tostring(name):lower()] = value
  end
  return made
end

local SAME_SITE = { strict = true, lax = true, none = true }

-- What RFC 6265 allows, so that nothing can be smuggled into the field.
local function check_cookie_text(text, pattern, what)
  if type(text) ~= "string" then
    error(("%s is a %s, not a string"):format(what, type(text)), 3)
  elseif text:find(pattern) then
    error(what .. " has characters that a cookie cannot carry", 3)
  end
end

local function check_cookie_options(opts)
  for _, key in ipairs { "max_age", "expires" } do
    if opts[key] and type(opts[key]) ~= "number" then
      error(("%s is a %s, not a number"):format(key, type(opts[key])), 3)
    end
  end
  if opts.same_site and not SAME_SITE[tostring(opts.same_site):lower()] then
    error("same_site is Strict, Lax, None or false", 3)
  end
end

local function expires(time_ms)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(time_ms / 1000))
end

---@class perigee.CookieOptions
---@field path string?
---@field domain string?
---@field max_age integer?        # seconds
---@field expires number?         # Unix ms
---@field secure boolean?         # the connection's: true on TLS
---@field http_only boolean?
---@field same_site ("Strict"|"Lax"|"None"|false)?

--- A Set-Cookie value: HttpOnly, SameSite=Lax and Path=/, and Secure on TLS,
--- unless told.
---@param name string
---@param value string
---@param opts perigee.CookieOptions?
---@return string
function M.cookie(name, value, opts)
  opts = checked(opts, COOKIE, "http.cookie")
  check_cookie_text(name, "[^%w!#$%%&'*+%-.^_`|~]", "the name")
  check_cookie_text(value, '[%c%s",;\\]', "the value")
  check_cookie_text(opts.path or "/", "[%c;]", "path")
  check_cookie_text(opts.domain or "", "[%c;]", "domain")
  check_cookie_options(opts)
  if name == "" then
    error("a cookie needs a name", 2)
  end
  local parts = { name .. "=" .. value }
  local function add(text)
    parts[#parts + 1] = text
  end
  add("Path=" .. (opts.path or "/"))
  if opts.domain then add("Domain=" .. opts.domain) end
  if opts.max_age then add(("Max-Age=%d"):format(opts.max_age)) end
  if opts.expires then add("Expires=" .. expires(opts.expires)) end
  if opts.http_only ~= false then add "HttpOnly" end
  if opts.same_site ~= false then
    add("SameSite=" .. (opts.same_site or "Lax"))
  end
  if opts.secure or (opts.secure == nil and core.current_is_tls()) then
    add "Secure"
  end
  return table.concat(parts, "; ")
end

-- ---- the client: loaded when it is first used ----

local client

local function lazy(name)
  return function(...)
    client = client or require "perigee.client"
    return client[name](...)
  end
end

--- Sends a request and gives its answer, whatever the status.
---@param opts perigee.ClientOptions
---@return perigee.ClientResponse? res
---@return perigee.Error? err # kind "unavailable", "timeout", "too_large", "invalid" (the URL), "forbidden" (deny_private)
function M.request(opts) end -- luacheck: ignore 212

--- The same as a GET; `post`, `put`, `patch`, `delete` and `head` are alike.
---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.get(url, opts) end -- luacheck: ignore 212

---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.post(url, opts) end -- luacheck: ignore 212

---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.put(url, opts) end -- luacheck: ignore 212

---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.patch(url, opts) end -- luacheck: ignore 212

---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.delete(url, opts) end -- luacheck: ignore 212

---@param url string
---@param opts perigee.ClientOptions?
---@return perigee.ClientResponse? res
---@return perigee.Error? err
function M.head(url, opts) end -- luacheck: ignore 212

--- An empty cookie jar, for the option `cookies` of requests.
---@return perigee.CookieJar
function M.cookie_jar() end -- luacheck: ignore 212

for _, name in ipairs { "request", "get", "post", "put", "patch", "delete",
  "head", "cookie_jar" } do
  M[name] = lazy(name)
end

return M
