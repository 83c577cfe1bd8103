--- Options: a mistyped one is never overlooked.

local cache = require "perigee.cache"
local health = require "perigee.health"
local http = require "perigee.http"
local log = require "perigee.log"
local queue = require "perigee.queue"
local queue_options = require "perigee.queue.options"
local resilience = require "perigee.resilience"
local scan = require "perigee.redis.scan"
local schema = require "perigee.schema"
local shared = require "perigee.shared"
local task = require "perigee.task"
local trace = require "perigee.trace"

local function nothing() end

local URL = "http://127.0.0.1:1/"

-- What is called with an option that is one letter off, and the right one.
local CALLS = {
  ["http.request"] = { "timeout", function(opts)
    opts.url = URL
    http.request(opts)
  end },
  ["http.get"] = { "timeout", function(opts) http.get(URL, opts) end },
  ["http.post"] = { "first_byte_timeout", function(opts)
    http.post(URL, opts)
  end },
  ["tls of http.get"] = { "server_name", function(opts)
    http.get(URL, { tls = opts })
  end },
  ["retry of http.get"] = { "attempts", function(opts)
    http.get(URL, { retry = opts })
  end },
  ["http.stream"] = { "headers", function(opts) http.stream(nothing, opts) end },
  ["http.sse"] = { "headers", function(opts) http.sse(nothing, opts) end },
  ["http.file"] = { "headers", function(opts) http.file("a", opts) end },
  ["http.cookie"] = { "max_age", function(opts)
    http.cookie("a", "b", opts)
  end },
  ["http.cache"] = { "max_age", function(opts) http.cache(opts) end },
  ["cache.new"] = { "stale", function(opts) cache.new("mistyped", opts) end },
  ["cache:get"] = { "tags", function(opts)
    cache.new("options"):get("k", nothing, opts)
  end },
  ["cache:set"] = { "ttl", function(opts)
    cache.new("options"):set("k", 1, opts)
  end },
  ["shared.dict"] = { "size", function(opts) shared.dict("mistyped", opts) end },
  ["redis:each"] = { "match", function(opts) scan.each(nothing, 1, opts) end },
  ["redis:xeach"] = { "block", function(opts)
    scan.entries(nothing, "k", opts)
  end },
  ["queue:add"] = { "priority", function(opts) queue_options.check(opts, 1) end },
  ["queue.open"] = { "stalled_interval", function(opts) queue.open(opts) end },
  ["schema.compile"] = { "formats", function(opts)
    schema.compile({ format = "email" }, opts)
  end },
  ["log.limited"] = { "lines", function(opts) log.limited(opts) end },
  ["task.map"] = { "concurrency", function(opts)
    task.map({}, nothing, opts)
  end },
  ["trace.span"] = { "kind", function(opts) trace.span("x", {}, nothing, opts) end },
  ["health.check"] = { "required", function(opts)
    health.check("x", nothing, opts)
  end },
  retry = { "attempts", function(opts) resilience.retry(nothing, opts) end },
  breaker = { "failures", function(opts) resilience.breaker("x", opts) end },
  bulkhead = { "queue", function(opts) resilience.bulkhead("x", opts) end },
  limiter = { "burst", function(opts)
    opts.rate = 1
    resilience.limiter("x", opts)
  end },
  hedge = { "delay", function(opts) resilience.hedge(nothing, opts) end },
  policy = { "fallback", function(opts) resilience.policy(opts) end },
}

local function mistyped(name)
  return name:sub(1, -3) .. name:sub(-1)
end

describe("an unknown option", function()
  for name, call in pairs(CALLS) do
    it("of " .. name .. " raises where it was given", function()
      local right, fn = call[1], call[2]
      local wrong = mistyped(right)
      local ok, err = pcall(fn, { [wrong] = 1 })
      assert.is_false(ok)
      assert.matches(("option %s; did you mean %q?"):format(wrong, right), err,
        1, true)
      assert.matches("options_spec.lua:%d+: ", err)
    end)
  end

  it("that resembles none is named alone", function()
    local ok, err = pcall(http.get, URL, { xyzzy = 1 })
    assert.is_false(ok)
    assert.matches("http: unknown option xyzzy$", err)
  end)

  it("may also be a number, of a list in place of options", function()
    local ok, err = pcall(http.get, URL, { "timeout" })
    assert.is_false(ok)
    assert.matches("http: unknown option 1$", err)
  end)
end)

describe("options that are no table", function()
  it("raise", function()
    for _, fn in ipairs {
      function() http.get(URL, 5) end,
      function() http.request(URL) end,
      function() resilience.hedge(nothing, "1s") end,
      function() shared.dict("x", 5) end,
      function() http.file("a", "b") end,
      function() queue.open "embedded" end,
      function() schema.compile(true, "coerce") end,
      function() log.limited(5) end,
    } do
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.matches("options_spec.lua:%d+: .*: a table of options expected$",
        err)
    end
  end)
end)

-- What no option, key or function can be.
local WRONG = {
  function() http.get(URL, { redirects = -1 }) end,
  function() http.get(URL, { redirects = 0 / 0 }) end,
  function() http.get(URL, { headers = "x" }) end,
  function() http.get(URL, { headers = { x = {{}} } }) end,
  function() http.get(URL, { query = "a=b" }) end,
  function() http.get(URL, { cookies = "a=b" }) end,
  function() http.get(URL, { proxy = true }) end,
  function() http.get(URL, { stream = 1 }) end,
  function() http.get(URL, { timeout = -1 }) end,
  function() http.get(URL, { retry = 0 }) end,
  function() http.get(URL, { retry = 0 / 0 }) end,
  function() http.post(URL, { form = "a=b" }) end,
  function() http.post(URL, { json = nothing }) end,
  function() http.request { url = URL, body = 5 } end,
  function() cache.new "" end,
  function() cache.new("wrong", { jitter = 0 / 0 }) end,
  function() cache.new("wrong", { levels = "redis" }) end,
  function() cache.new("options"):get("k", 5) end,
  function() cache.new("options"):set("k", 1, { tags = "x" }) end,
  function() cache.new("options"):set("k", 1, { tags = { 5 } }) end,
  function() shared.dict("options"):get() end,
  function() shared.dict("options"):set("k", nothing) end,
  function() shared.dict("options"):set("k", 1, -1) end,
  function() resilience.retry(nothing, 0 / 0) end,
  function() resilience.retry(nothing, { retry_on = { 5 } }) end,
  function() resilience.breaker("wrong", { failures = 0 / 0 }) end,
  function() resilience.breaker() end,
  function() resilience.bulkhead("wrong", { concurrency = 0 / 0 }) end,
  function() resilience.limiter("wrong", { rate = 0 / 0 }) end,
  function() resilience.limiter("wrong", { rate = 1 }):take({}) end,
  function() resilience.limiter("wrong", { rate = 1 }):take("k", -1) end,
  function() resilience.policy { bulkhead = 3 } end,
  function() resilience.policy { name = "wrong", bulkhead = 3 } end,
  function() resilience.policy { name = "wrong", breaker = { failures = -1 } } end,
  function() resilience.policy { name = "wrong", retry = 0 } end,
  function() resilience.policy({ name = "wrong" }):call(5) end,
  function() task.with_deadline("x", nothing) end,
  function() task.semaphore(0 / 0) end,
  function() task.map({ 1 }, nothing, { concurrency = 0 / 0 }) end,
  function() task.offload(5) end,
  function() task.offload(nothing, nothing) end,
  function() task.offload(nothing, coroutine.create(nothing)) end,
}

describe("a wrong call", function()
  for i, fn in ipairs(WRONG) do
    local line = debug.getinfo(fn, "S").linedefined
    it(("raises at its own line (%d)"):format(i), function()
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.matches("options_spec.lua:" .. line .. ": ", tostring(err))
    end)
  end
end)

describe("a URL that is none", function()
  it("is told without its credentials and query", function()
    local _, err = http.get "http://me:secret@host:99999/path?token=secret"
    assert.equal("http://host:99999/path: malformed host or port", err.message)
    assert.equal("invalid", err.kind)
  end)
end)

describe("a request that cannot be sent", function()
  it("is invalid: CONNECT, a socket's path that is too long", function()
    local _, err = http.request { url = URL, method = "connect" }
    assert.equal("bad_request", err.code)
    _, err = http.get(URL, { unix = ("x"):rep(108) })
    assert.equal("bad_url", err.code)
  end)
end)
