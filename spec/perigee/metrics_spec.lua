local metrics = require "perigee.metrics"
local task = require "perigee.task"

local names = 0

local function name()
  names = names + 1
  return "spec_" .. names
end

-- The value of a sample, by all that stands before it.
local function sample(what)
  for line in metrics.text():gmatch "[^\n]+" do
    if line:sub(1, #what + 1) == what .. " " then
      return tonumber(line:sub(#what + 2))
    end
  end
end

describe("metrics.counter", function()
  it("counts, from 0", function()
    local n = name() .. "_total"
    local c = metrics.counter { name = n, help = "Some." }
    assert.equal(0, sample(n))
    c:inc()
    c:inc(2.5)
    c:add(1)
    c:with():inc()
    assert.equal(5.5, sample(n))
  end)

  it("has a series for each set of label values", function()
    local n = name()
    local c = metrics.counter { name = n, labels = { "a", "b", "c" } }
    c:inc(1, "x", 2, true)
    c:inc(1, "x", "2", "true")
    local bound = c:with("y", "", "z")
    bound:inc(3)
    bound:inc()
    assert.equal(2, sample(n .. '{a="x",b="2",c="true"}'))
    assert.equal(4, sample(n .. '{a="y",b="",c="z"}'))
    assert.equal(bound, c:with("y", "", "z"))
  end)

  it("raises for what would take away", function()
    local c = metrics.counter { name = name() }
    for _, n in ipairs { -1, 0 / 0, math.huge, "1", {} } do
      assert.has_error(function() c:inc(n) end)
    end
  end)

  it("raises for other label values than declared", function()
    local one = metrics.counter { name = name(), labels = { "a" } }
    local two = metrics.counter { name = name(), labels = { "a", "b" } }
    for _, call in ipairs {
      function() one:inc() end,
      function() one:inc(1) end,
      function() one:inc(1, "a", "b") end,
      function() one:inc(1, {}) end,
      function() two:with "a" end,
      function() two:with("a", nil) end,
      function() two:with("a", "b", "c") end,
      function() metrics.counter({ name = name() }):inc(1, "a") end,
    } do
      assert.has_error(call)
    end
  end)

  it("takes NaN for the value of a label", function()
    local n = name()
    local c = metrics.counter { name = n, labels = { "a", "b" } }
    for _ = 1, 2 do
      c:inc(1, "x", 0 / 0)
    end
    assert.truthy(metrics.text():find(n .. '{a="x",b="%-?nan"} 2\n'))
  end)

  it("names the caller's line and what is wrong with the values", function()
    local two = metrics.counter { name = name(), labels = { "a", "b" } }
    for _, wrong in ipairs {
      { "has 2 labels, not 0", function() two:inc(1) end },
      { "has 2 labels, not 3", function() two:inc(1, "x", "y", "z") end },
      { "the label a is missing", function() two:inc(1, nil, "y") end },
      { "the label b is a table", function() two:inc(1, "x", {}) end },
    } do
      local _, message = pcall(wrong[2])
      assert.truthy(message:find("^[^:]*metrics_spec.lua:%d+: "), message)
      assert.truthy(message:find(wrong[1], 1, true), message)
    end
  end)

  it("puts what is too much into one series", function()
    local n = name()
    local c = metrics.counter { name = n, labels = { "id" } }
    for i = 1, 2010 do
      c:inc(1, i)
    end
    c:inc(1, 3)
    assert.equal(10, sample(n .. '{overflow="true"}'))
    assert.equal(2, sample(n .. '{id="3"}'))
  end)
end)

describe("metrics.gauge", function()
  it("goes up and down", function()
    local n = name()
    local g = metrics.gauge { name = n }
    g:set(5)
    g:inc()
    g:add(2)
    g:dec()
    g:dec(10)
    assert.equal(-3, sample(n))
    assert.has_error(function() g:set "1" end)
  end)

  it("shows nothing until it is set, unless values are added up", function()
    local n = name()
    local g = metrics.gauge { name = n, merge = "max" }
    assert.is_nil(sample(n))
    g:inc(2)
    assert.equal(2, sample(n))
    local m = name()
    local last = metrics.gauge { name = m, merge = "last" }
    last:set(3)
    last:inc()
    assert.equal(4, sample(m))
  end)
end)

describe("metrics.histogram", function()
  it("counts into buckets, bounds included", function()
    local n = name()
    local h = metrics.histogram { name = n, buckets = { 1, 2 } }
    for _, value in ipairs { 0.5, 1, 1.5, 2, 3 } do
      h:observe(value)
    end
    assert.equal(2, sample(n .. '_bucket{le="1"}'))
    assert.equal(4, sample(n .. '_bucket{le="2"}'))
    assert.equal(5, sample(n .. '_bucket{le="+Inf"}'))
    assert.equal(5, sample(n .. "_count"))
    assert.equal(8, sample(n .. "_sum"))
    assert.has_error(function() h:observe(0 / 0) end)
  end)

  it("times a function that waits, and one that raises", function()
    local n = name()
    local h = metrics.histogram { name = n, labels = { "op" } }
    local a, b = h:time(function()
      task.sleep(10)
      return 1, nil
    end, "get")
    assert.equal(1, a)
    assert.is_nil(b)
    assert.has_error(function()
      h:with("get"):time(function() error("no", 0) end)
    end, "no")
    assert.equal(2, sample(n .. '_count{op="get"}'))
    local seconds = sample(n .. '_sum{op="get"}')
    assert.is_true(seconds >= 0.009 and seconds < 2)
  end)
end)

describe("a declaration", function()
  it("made twice is one metric", function()
    local n = name()
    local a = metrics.gauge { name = n, help = "h", labels = { "x" } }
    assert.equal(a, metrics.gauge {
      name = n, help = "h", labels = { "x" }, merge = "sum",
    })
  end)

  it("that differs raises", function()
    local n = name()
    metrics.counter { name = n .. "_total", labels = { "x" } }
    for _, call in ipairs {
      function() metrics.counter { name = n .. "_total" } end,
      function() metrics.counter { name = n, labels = { "x" } } end,
      function() metrics.gauge { name = n .. "_total", labels = { "x" } } end,
    } do
      assert.has_error(call)
    end
  end)

  it("whose samples another metric shows raises", function()
    local n = name()
    metrics.histogram { name = n }
    for _, suffix in ipairs { "_bucket", "_sum", "_count", "_created" } do
      assert.has_error(function() metrics.gauge { name = n .. suffix } end)
      assert.has_error(function() metrics.counter { name = n .. suffix } end)
    end
    local other = name()
    metrics.counter { name = other .. "_count" }
    assert.has_error(function() metrics.histogram { name = other } end)
    metrics.counter { name = other .. "_total" }
    assert.has_error(function()
      metrics.gauge { name = other .. "_created" }
    end)
  end)

  it("of a wrong form raises", function()
    for _, options in ipairs {
      {}, { name = "" }, { name = "1a" }, { name = "a-b" }, { name = "ä" },
      { name = ("n"):rep(121) }, { name = "perigee_x" },
      { name = "process_x" }, { name = "http_server_active_requests" },
      { name = "ok", labels = { "a", "a" } }, { name = "ok", labels = "a" },
      { name = "ok", labels = { a = 1 } },
      { name = "ok", labels = { "le" } }, { name = "ok", labels = { "__a" } },
      { name = "ok", labels = { "a:b" } }, { name = "ok", help = 1 },
      { name = "ok", buckets = {} }, { name = "ok", buckets = { 2, 1 } },
      { name = "ok", buckets = { 1, 1 } }, { name = "ok", bucket = { 1 } },
      { name = "ok", buckets = { 1, math.huge } },
    } do
      assert.has_error(function() metrics.histogram(options) end)
    end
    assert.has_error(function() metrics.gauge { name = "ok", merge = "avg" } end)
    assert.has_error(function() metrics.counter "ok" end)
  end)
end)

describe("metrics.text", function()
  it("escapes", function()
    local n = name()
    metrics.counter({ name = n, help = 'a\n"\\', labels = { "v" } })
      :inc(1, 'q"\\\n\255')
    local text = metrics.text()
    assert.truthy(text:find("# HELP " .. n .. ' a\\n"\\\\\n', 1, true))
    assert.truthy(text:find(n .. '{v="q\\"\\\\\\n\239\191\189"} 1\n', 1, true))
    assert.truthy(metrics.text(true):find("# HELP " .. n .. ' a\\n\\"\\\\\n', 1,
      true))
    assert.equal("# EOF\n", metrics.text(true):sub(-6))
  end)
end)
