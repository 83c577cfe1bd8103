local errors = require "perigee.error"
local json = require "perigee.json"
local shared = require "perigee.shared"
local test = require "perigee.test"

local names = 0

-- A dictionary of its own for each test.
local function fresh(size)
  names = names + 1
  return shared.dict("spec-" .. names, { size = size or "256kb" })
end

describe("shared.dict", function()
  it("is one dictionary a name", function()
    local a = fresh()
    assert.equal(a, shared.dict(a.name))
    a:set("k", 1)
    assert.is_nil(fresh():get "k")
  end)

  it("refuses names and sizes that are none", function()
    assert.has_error(function() shared.dict "" end)
    assert.has_error(function() shared.dict(("x"):rep(65)) end)
    assert.has_error(function() shared.dict("x", { size = "much" }) end)
  end)

  it("raises when the shared memory is full", function()
    local ok, err = pcall(shared.dict, "far-too-big", { size = "100gb" })
    assert.is_false(ok)
    assert.is_true(errors.is(err))
    assert.equal("too_large", err.kind)
  end)
end)

describe("dict.get and dict.set", function()
  it("keep booleans, numbers, strings and tables apart", function()
    local d = fresh()
    for _, value in ipairs {
      true, false, 0, -1.5, 1e300, math.huge, "", "text", ("x"):rep(9000),
      "\0\1\255", { 1, 2, { a = "b" } }, {}, { [1.5] = 2, [true] = false },
      { 1, 2, nil, 4 }, { ["10"] = 10, [10] = "10" },
    } do
      assert.is_true(d:set("k", value))
      assert.same(value, d:get "k")
    end
    d:set("nan", 0 / 0)
    assert.is_true(d:get "nan" ~= d:get "nan")
  end)

  it("tell an absent key from false, zero and the empty text", function()
    local d = fresh()
    assert.is_nil(d:get "k")
    d:set("k", false)
    assert.is_false(d:get "k")
  end)

  it("keep what JSON tells apart", function()
    local d = fresh()
    d:set("k", json.decode '{"list":[],"map":{},"null":null,"n":[null,1]}')
    assert.equal('{"list":[],"map":{},"n":[null,1],"null":null}',
      (json.encode(d:get "k"):gsub("^{.*}$", function(text)
        local value = json.decode(text)
        return ('{"list":%s,"map":%s,"n":%s,"null":%s}'):format(
          json.encode(value.list), json.encode(value.map),
          json.encode(value.n), json.encode(value.null))
      end)))
  end)

  it("give a copy of a table", function()
    local d, t = fresh(), { 1 }
    d:set("k", t)
    t[1] = 2
    d:get("k")[1] = 3
    assert.same({ 1 }, d:get "k")
  end)

  it("delete by setting nil", function()
    local d = fresh()
    d:set("k", 1)
    assert.is_true(d:set("k", nil))
    assert.is_nil(d:get "k")
  end)

  it("refuse what is not plain data", function()
    local d = fresh()
    local circle = {}
    circle[1] = circle
    for _, value in ipairs {
      { print }, circle, setmetatable({}, {}), { [{}] = 1 },
    } do
      local ok, err = d:set("k", value)
      assert.is_nil(ok)
      assert.equal("invalid", err.kind)
    end
    assert.has_error(function() d:set("k", print) end)
    assert.has_error(function() d:set({}, 1) end)
    assert.has_error(function() d:get(nil) end)
    assert.has_error(function() d:set("k", 1, "soon") end)
  end)

  it("refuse what is too big, one byte more", function()
    local d = fresh()
    local most = d:stats().item_max - 8
    assert.is_true(d:set("k", ("x"):rep(most)))
    local ok, err = d:set("k", ("x"):rep(most + 1))
    assert.is_nil(ok)
    assert.equal("too_large", err.kind)
    assert.equal(most, #d:get "k")
    assert.is_true(d:set(("k"):rep(4096), 1))
    ok, err = d:set(("k"):rep(4097), 1)
    assert.is_nil(ok)
    assert.equal("too_large", err.kind)
  end)

  it("evict and never refuse when it is full", function()
    local d = fresh "64kb"
    for i = 1, 5000 do
      assert.is_true(d:set("key" .. i, ("v"):rep(i % 300)))
    end
    assert.is_true(d:get "key5000" ~= nil)
    assert.is_true(d:stats().evicted > 1000)
  end)
end)

describe("a ttl", function()
  it("ends a key", function()
    local clock = test.clock()
    local d = fresh()
    d:set("k", "v", "1s")
    d:set("n", 1, 1500)
    assert.equal(1000, d:ttl "k")
    clock:advance(999)
    assert.equal("v", d:get "k")
    clock:advance(1)
    assert.is_nil(d:get "k")
    assert.is_nil(d:ttl "k")
    assert.equal(1, d:get "n")
  end)

  it("is nil for a key without one", function()
    local d = fresh()
    d:set("k", 1)
    assert.is_nil(d:ttl "k")
  end)

  it("is kept by incr and by cas, and dropped by set", function()
    test.clock()
    local d = fresh()
    d:set("k", 1, 1000)
    d:incr "k"
    assert.equal(1000, d:ttl "k")
    d:cas("k", 2, 3)
    assert.equal(1000, d:ttl "k")
    d:cas("k", 3, 4, 50)
    assert.equal(50, d:ttl "k")
    d:set("k", 5)
    assert.is_nil(d:ttl "k")
  end)
end)

describe("dict.add, replace, delete", function()
  it("look whether the key is there", function()
    local d = fresh()
    local ok, err = d:replace("k", 1)
    assert.is_nil(ok)
    assert.equal("not_found", err.kind)
    assert.is_true(d:add("k", 1))
    ok, err = d:add("k", 2)
    assert.is_nil(ok)
    assert.equal("conflict", err.kind)
    assert.is_true(d:replace("k", 3))
    assert.equal(3, d:get "k")
    assert.is_true(d:delete "k")
    assert.is_false(d:delete "k")
  end)
end)

describe("dict.incr", function()
  it("counts from init", function()
    local d = fresh()
    assert.equal(1, d:incr "n")
    assert.equal(3, d:incr("n", 2))
    assert.equal(105, d:incr("m", 5, 100))
    assert.equal(104.5, d:incr("m", -0.5, 0))
  end)

  it("raises for what is no number", function()
    local d = fresh()
    assert.has_error(function() d:incr("k", "two") end)
    assert.has_error(function() d:incr("k", 1, {}) end)
    assert.is_nil(d:get "k")
  end)

  it("refuses another type as a conflict", function()
    local d = fresh()
    d:set("k", "1")
    local n, err = d:incr "k"
    assert.is_nil(n)
    assert.equal("conflict", err.kind)
  end)
end)

describe("dict.cas", function()
  it("takes a table that holds the same, whatever the order of its keys",
    function()
      local d = fresh()
      for round = 1, 100 do
        local t = { inner = { a = 1, b = { round } } }
        for i = 1, 8 do
          t["k" .. round * i] = i
        end
        d:set("k", t)
        assert.is_true(d:cas("k", d:get "k", t))
        d:set("big", { t, ("x"):rep(5000) })
        assert.is_true(d:cas("big", d:get "big", 1))
        t.inner.b[1] = 0
        assert.is_nil((d:cas("k", t, 1)))
      end
      d:set("k", { json.empty_array })
      assert.is_nil((d:cas("k", { {} }, 1)))
      assert.is_true(d:cas("k", { json.empty_array }, 1))
    end)

  it("changes what is as it was seen", function()
    local d = fresh()
    assert.is_true(d:cas("k", nil, { 1 }))
    assert.is_true(d:cas("k", { 1 }, "two"))
    local ok, err = d:cas("k", { 1 }, 3)
    assert.is_nil(ok)
    assert.equal("conflict", err.kind)
    assert.is_true(d:cas("k", "two", false))
    assert.is_true(d:cas("k", false, nil))
    assert.is_nil(d:get "k")
    assert.is_nil((d:cas("k", 1, 2)))
  end)
end)

describe("dict.keys, flush, stats", function()
  it("list, empty and count", function()
    local d = fresh()
    for i = 1, 500 do
      d:set("k" .. i, i)
    end
    local keys = d:keys()
    assert.equal(500, #keys)
    local seen = {}
    for _, key in ipairs(keys) do
      seen[key] = true
    end
    assert.is_true(seen.k1 and seen.k500)
    assert.equal(7, #d:keys(7))
    assert.equal(500, d:stats().items)
    assert.equal(256 * 1024, d:stats().size)
    d:flush()
    assert.equal(0, d:stats().items)
    assert.equal("[]", json.encode(d:keys()))
  end)
end)
