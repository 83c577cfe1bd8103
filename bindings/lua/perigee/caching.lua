--- Fields for the caches between a client and us: Cache-Control, Vary, tags to
--- purge by, ETag and Last-Modified.

local answer = require "perigee.answer"
local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local json = require "perigee.json"
local options = require "perigee.options"
local units = require "perigee.units"

local M = {}

---@class perigee.http.CacheOptions
---@field public boolean?
---@field private boolean?
---@field no_store boolean?
---@field no_cache boolean?
---@field no_transform boolean?
---@field must_revalidate boolean?
---@field immutable boolean?
---@field max_age string|number?                 # "5m"; browsers
---@field s_maxage string|number?                # caches that many share
---@field stale_while_revalidate string|number?
---@field stale_if_error string|number?
---@field vary string|string[]?                  # names of request fields
---@field tags string|string[]?                  # to purge by
---@field etag string|boolean?                   # true, in a route: of the body
---@field last_modified string|number?           # Unix ms, or as HTTP writes it

-- In the order in which they are written.
local FLAGS = {
  { "public", "public" }, { "private", "private" }, { "no_store", "no-store" },
  { "no_cache", "no-cache" }, { "must_revalidate", "must-revalidate" },
  { "immutable", "immutable" }, { "no_transform", "no-transform" },
}
local TIMES = {
  { "max_age", "max-age" }, { "s_maxage", "s-maxage" },
  { "stale_while_revalidate", "stale-while-revalidate" },
  { "stale_if_error", "stale-if-error" },
}
local OTHERS = { vary = true, tags = true, etag = true, last_modified = true }

local function known()
  local names = {}
  for name in pairs(OTHERS) do names[name] = true end
  for _, list in ipairs { FLAGS, TIMES } do
    for _, entry in ipairs(list) do names[entry[1]] = true end
  end
  return names
end

local KNOWN = known()

local function list_of(value, what)
  local list = type(value) == "table" and value or { value }
  for i, one in ipairs(list) do
    if type(one) ~= "string" or one == "" or one:find "[%c]" then
      error(("%s[%d] is no text"):format(what, i), 0)
    end
  end
  return list
end

local function cache_control(opts)
  local parts = {}
  for _, flag in ipairs(FLAGS) do
    if opts[flag[1]] then parts[#parts + 1] = flag[2] end
  end
  for _, time in ipairs(TIMES) do
    if opts[time[1]] ~= nil then
      local ms, why = units.duration(opts[time[1]])
      if not ms then
        error(("%s: %s"):format(time[1], why), 0)
      end
      parts[#parts + 1] = ("%s=%d"):format(time[2], math.floor(ms / 1000))
    end
  end
  return #parts > 0 and table.concat(parts, ", ") or nil
end

local function tag_fields(headers, tags)
  local list = list_of(tags, "tags")
  for _, tag in ipairs(list) do
    if tag:find "[ ,]" then
      error(("the tag %q has a blank or a comma"):format(tag), 0)
    end
  end
  if #list > 0 then
    headers["surrogate-key"] = table.concat(list, " ")
    headers["cache-tag"] = table.concat(list, ",")
  end
end

local function quoted(tag)
  if tag:find '^W/"[^"]*"$' or tag:find '^"[^"]*"$' then
    return tag
  end
  return '"' .. tag:gsub('[%c%s"\128-\255]', "_") .. '"'
end

local function http_date(value)
  if type(value) == "number" then
    return os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(value / 1000))
  end
  return tostring(value)
end

--- The fields that these options make; raises for options that make none.
---@param opts perigee.http.CacheOptions
---@return table<string, string> headers
function M.headers(opts)
  if type(opts) ~= "table" then
    error("a table of options expected", 0)
  end
  for name in pairs(opts) do
    if not KNOWN[name] then
      error(("unknown cache option %s%s"):format(tostring(name),
        options.hint(name, KNOWN)), 0)
    end
  end
  local headers = { ["cache-control"] = cache_control(opts) }
  if opts.vary ~= nil then
    headers.vary = table.concat(list_of(opts.vary, "vary"), ", ")
  end
  if opts.tags ~= nil then
    tag_fields(headers, opts.tags)
  end
  if type(opts.etag) == "string" then
    headers.etag = quoted(opts.etag)
  end
  if opts.last_modified ~= nil then
    headers["last-modified"] = http_date(opts.last_modified)
  end
  return headers
end

-- What the handler said holds; the rest is the route's.
local function filled(headers, common)
  local given = {}
  for name, value in pairs(headers) do
    given[tostring(name):lower()] = value
  end
  for name, value in pairs(common) do
    if given[name] == nil then given[name] = value end
  end
  return given
end

local function object_headers(object)
  local fields = object.fields
  return (fields.opts or fields).headers or {}, (fields.opts or fields).status
end

local function with_tag(status, body, headers)
  local given = filled(headers, {})
  if status ~= 200 or given.etag or errors.is(body) then
    return status, body, headers
  end
  if type(body) == "table" then
    local text = json.encode(body)
    if not text then
      return status, body, headers -- told of where it is answered
    end
    body = text
    given["content-type"] = given["content-type"] or "application/json"
  end
  if type(body) == "string" then
    given.etag = '"' .. crypto.base64url.encode(crypto.sha256(body)
      :sub(1, 12)) .. '"'
  end
  return status, body, given
end

--- The handler of a route with a `cache` option.
---@param handler fun(req: perigee.Request): ...
---@param opts perigee.http.CacheOptions
function M.wrap(handler, opts)
  local common = M.headers(opts)
  local hashes = opts.etag == true
  local function plain(status, body, headers)
    headers = headers and filled(headers, common) or common
    if hashes then
      return with_tag(status, body, headers)
    end
    return status, body, headers
  end
  return function(req)
    local first, second, third = handler(req)
    local kind = type(first)
    if kind == "string" then
      return plain(200, first)
    elseif kind == "number" then
      if first >= 400 or (third ~= nil and type(third) ~= "table") then
        return first, second, third
      elseif answer.is(second) then
        local own = filled(third or {}, object_headers(second))
        return first, second, filled(own, common)
      end
      return plain(first, second, third)
    elseif kind ~= "table" or errors.is(first) then
      return first, second, third
    elseif answer.is(first) then
      local own, status = object_headers(first)
      if (status or 200) >= 400 or first.form == "problem" then
        return first, second, third
      end
      own = filled(type(second) == "table" and second or {}, own)
      return first, filled(own, common)
    elseif second ~= nil then
      return first, second, third
    end
    return plain(200, first)
  end
end

return M
