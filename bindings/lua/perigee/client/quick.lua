--- The quick way: a GET without options but for its time. What the requests to
--- one URL have in common is made once.

local core = require "perigee.core.client"
local plans = require "perigee.client.plan"
local proxies = require "perigee.client.proxy"
local responses = require "perigee.client_response"
local time = require "perigee.time"
local watch = require "perigee.client.watch"

local M = {}

local QUICK_MAX = 1000
local QUICK_OPTIONS = { timeout = true }
local NO_OPTIONS = {}

local quick, quick_count = {}, 0 -- by URL: { request, shown, plan, bound }

-- What all GETs of that URL have in common; false: they go the long way.
local function make_quick(url)
  local plan = plans.make { url = url }
  if not plan or plan.url.scheme ~= "http" or plan.url.user
    or proxies.find(plan.url) ~= false then
    return false
  end
  local shown = M.address(plan.url)
  local request = core.prepare {
    method = "GET", host = plan.url.host, port = plan.url.port,
    target = plan.url.target, fields = M.plain_fields(plan), whole = true,
    decompress = true, body_max = plan.body_max, connect_ms = plan.connect,
    what = "GET " .. shown,
  }
  if not request then
    return false
  end
  if quick_count >= QUICK_MAX then
    quick, quick_count = {}, 0
  end
  local entry = { request = request, shown = shown, plan = plan }
  quick[url], quick_count = entry, quick_count + 1
  return entry
end

local function only_quick(opts)
  for key in pairs(opts) do
    if not QUICK_OPTIONS[key] then
      return false
    end
  end
  return true
end

local function quick_done(entry, started_ms, opts, ok, status, head, body,
  decoded)
  watch.count_quick(entry, started_ms, ok and status, ok and head or status)
  if not ok then
    error(status, 0)
  end
  if not status then
    return nil, head
  end
  local res = responses.new { head, decoded, status = status, body = body,
    url = entry.shown }
  if not M.redirects[status] then
    return res
  end
  local all = { method = "GET", url = entry.plan.opts.url,
    timeout = opts.timeout }
  local plan = plans.make(all)
  plan.until_ms = plan.until_ms - (time.monotonic() - started_ms)
  return M.carry_out(plan, res)
end

local function get(entry, opts)
  local started_ms = time.monotonic()
  return quick_done(entry, started_ms, opts, pcall(core.fetch, entry.request,
    plans.duration(opts, "timeout", plans.TIMEOUT_MS), M.send_deadline))
end

--- The answer to a GET by the quick way; false when it must go the long one.
---@param url string
---@param opts table?
function M.get(url, opts)
  if watch.traces() or opts and not only_quick(opts) then
    return false
  end
  local entry = quick[url] or type(url) == "string" and make_quick(url)
  if not entry then
    return false
  end
  return get(entry, opts or NO_OPTIONS)
end

return M
