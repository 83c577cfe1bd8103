--- Collects what scripts/routes/*.lua declare, and hands it to the C router.

local app = require "perigee.core.app"
local middleware = require "perigee.middleware"
local request = require "perigee.request"
local units = require "perigee.units"
local validation = require "perigee.validation"

local M = {}

---@class perigee.RouteOptions
---@field before fun(req, next)[]?
---@field timeout string|number?   # for the whole request; 0: none
---@field body_max string|number?  # "64kb"
---@field body table?              # JSON Schema of the body
---@field query table?             # of the query; values are coerced
---@field params table?            # of the path's parameters; values are coerced
---@field headers table?           # of the header fields, names in lower case
---@field cache perigee.http.CacheOptions?   # GET: Cache-Control, Vary, tags, ETag
---@field summary string?
---@field tags string[]?
---@field responses table?

-- Types; true: looked at where it is used.
local OPTIONS = {
  before = "table", timeout = true, body_max = true, body = true,
  query = true, params = true, headers = true, summary = "string",
  tags = "table", responses = "table", cache = "table",
}

local routes = {} -- in the order of declaration
local by_pattern = {}

local function where_called(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info and (info.short_src .. ":" .. info.currentline) or "?"
end

local function where_defined(fn)
  local info = debug.getinfo(fn, "S")
  return info.short_src .. ":" .. info.linedefined
end

local function suggest(word, known)
  local candidates = {}
  for name in pairs(known) do candidates[#candidates + 1] = name end
  return require("perigee.config.suggest").nearest(word, candidates)
end

local function fault(place, text, ...)
  error(place .. ": " .. text:format(...), 0)
end

local function check_options(place, opts, allowed)
  for key, value in pairs(opts) do
    local wanted = allowed[key]
    if not wanted then
      local near = suggest(tostring(key), allowed)
      fault(place, "unknown route option %q%s", tostring(key),
        near and (", did you mean " .. near .. "?") or "")
    elseif wanted ~= true and type(value) ~= wanted then
      fault(place, "%s is a %s, not a %s", key, type(value), wanted)
    end
  end
  for i, fn in ipairs(opts.before or {}) do
    if type(fn) ~= "function" then
      fault(place, "before[%d] is a %s, not a function", i, type(fn))
    end
  end
end

local function check_unit(place, name, value, parse)
  if value == nil then
    return nil
  end
  local number, err = parse(value)
  if not number then
    fault(place, "%s: %s", name, err)
  end
  return number
end

local function join(prefix, pattern)
  if type(pattern) ~= "string" then
    return nil
  end
  if prefix ~= "" and (pattern == "/" or pattern == "") then
    return prefix
  end
  if pattern:sub(1, 1) == "/" then
    prefix = prefix:gsub("/$", "")
  end
  return prefix .. pattern
end

local function concat(a, b)
  local list = {}
  for _, value in ipairs(a) do list[#list + 1] = value end
  for _, value in ipairs(b or {}) do list[#list + 1] = value end
  return list
end

---@class perigee.Router
local Router = {}
Router.__index = Router

local function add(self, place, method, pattern, handler, opts)
  local full = join(self.prefix, pattern)
  if not full then
    fault(place, "the path is a %s, not a string", type(pattern))
  end
  if type(handler) ~= "function" then
    fault(place, "the handler of %s %s is a %s, not a function", method, full,
      type(handler))
  end
  opts = opts or {}
  if type(opts) ~= "table" then
    fault(place, "the options of %s %s are a %s, not a table", method, full,
      type(opts))
  end
  check_options(place, opts, OPTIONS)
  routes[#routes + 1] = {
    method = method, pattern = full, handler = handler, opts = opts,
    before = concat(self.before, opts.before), place = place,
    timeout_ms = check_unit(place, "timeout", opts.timeout, units.duration),
    body_max = check_unit(place, "body_max", opts.body_max, units.size),
  }
end

for _, name in ipairs {
  "get", "post", "put", "patch", "delete", "head", "options", "any",
} do
  local method = name:upper()
  Router[name] = function(self, pattern, handler, opts)
    add(self, where_called(2), method, pattern, handler, opts)
    return self
  end
end

--- Routes with a common prefix and middleware.
---@param prefix string
---@param opts { before: function[]? }|fun(router: perigee.Router)
---@param fn fun(router: perigee.Router)?
function Router:group(prefix, opts, fn)
  local place = where_called(2)
  if type(opts) == "function" then
    opts, fn = {}, opts
  end
  if type(fn) ~= "function" then
    fault(place, "group needs a function that takes its router")
  end
  local full = join(self.prefix, prefix)
  if not full then
    fault(place, "the prefix is a %s, not a string", type(prefix))
  end
  opts = opts or {}
  if type(opts) ~= "table" then
    fault(place, "the options of %s are a %s, not a table", full, type(opts))
  end
  check_options(place, opts, { before = OPTIONS.before })
  fn(setmetatable({
    prefix = full,
    before = concat(self.before, opts.before),
  }, Router))
  return self
end

--- For perigee.app: an empty router.
function M.new()
  return setmetatable({ prefix = "", before = {} }, Router)
end

-- The names of a pattern's parameters, in order.
local function param_names(pattern)
  local names = {}
  for name in pattern:gmatch "/[:*]([^/]+)" do
    names[#names + 1] = name
  end
  return names
end

-- What C calls with the request's pointer, its serial and the parameters'
-- values: makes the req table and goes on with the handler. It is Lua, so that
-- the compiler sees the table, the parameters and the handler as one piece and
-- may leave out what is not used. A handler that takes nothing is called as
-- it is. keeps_body: the table is made with room for what validation puts there.
local function entry(handler, pattern, keeps_body)
  local info = debug.getinfo(handler, "u")
  if info.nparams == 0 and not info.isvararg then
    return handler, false
  end
  local names, values, fields = param_names(pattern), {}, {}
  for i, name in ipairs(names) do
    values[i] = ", p" .. i
    fields[i] = ("[%q] = p%d"):format(name, i)
  end
  local make = assert(loadstring(([[
    local handler, metatable, setmetatable = ...
    return function(pointer, serial%s)
      return handler(setmetatable({ pointer, serial%s%s }, metatable))
    end
  ]]):format(table.concat(values), #names > 0
    and ", params = { " .. table.concat(fields, ", ") .. " }" or "",
    keeps_body and ", body_json = nil" or ""), "=perigee.router"))
  return make(handler, request.metatable, setmetatable), true
end

--- For perigee.app: a handler that stands for no route.
function M.entry(handler)
  return (entry(function(req) return handler(req) end, "/"))
end

-- Not at the top: an application that says nothing of caches need not pay.
local function with_cache(route, handler)
  if not route.opts.cache then
    return handler
  end
  if route.method ~= "GET" and route.method ~= "HEAD" then
    fault(route.place, "cache: answers to %s are not kept", route.method)
  end
  local ok, wrapped = pcall(require("perigee.caching").wrap, handler,
    route.opts.cache)
  if not ok then
    fault(route.place, "cache: %s", tostring(wrapped))
  end
  return wrapped
end

local function build_route(route, common)
  local handler = validation.wrap(route.handler, route.opts, route.place)
  local composed = with_cache(route,
    middleware.compose(concat(common, route.before), handler))
  local start, takes_req = entry(composed, route.pattern,
    route.opts.body ~= nil)
  local ok, why = app.route(route.method, route.pattern, start, takes_req,
    route.timeout_ms, route.body_max)
  if not ok then
    fault(route.place, "%s %s: %s", route.method, route.pattern, why)
  end
  by_pattern[route.method .. " " .. route.pattern] = route
end

--- For perigee.app: hands all routes to C. common is the application's own
--- middleware; attempt(fn, ...) calls fn, and may go on after a fault.
function M.build(common, attempt)
  for _, route in ipairs(routes) do
    if attempt then
      attempt(build_route, route, common)
    else
      build_route(route, common)
    end
  end
end

--- For `perigee routes`: {method, path, handler, place} each.
function M.list()
  local list = {}
  for i, route in ipairs(routes) do
    list[i] = {
      method = route.method, path = route.pattern,
      handler = where_defined(route.handler), place = route.place,
      summary = route.opts.summary,
    }
  end
  return list
end

--- Where the handler of a request is defined, as file:line.
function M.where(req)
  local pattern = req.route or ""
  local method = req.method == "HEAD" and "GET" or req.method
  local route = by_pattern[req.method .. " " .. pattern]
    or by_pattern[method .. " " .. pattern] or by_pattern["ANY " .. pattern]
  return route and where_defined(route.handler) or "?"
end

return M
