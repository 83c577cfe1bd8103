-- perigee.config as an application sees it; here the relay's own, of `test`.
local config = require "perigee.config"
local json = require "perigee.json"

describe("perigee.config", function()
  it("has the effective values, times in milliseconds and sizes in bytes",
    function()
      assert.equal(30000, config.http.request_timeout)
      assert.equal(65536, config.http.body_max)
      assert.equal("warn", config.log.level)
      assert.equal(50, config.app.pages.limit)
      assert.is_nil(config.app.nothing)
    end)

  it("cannot be written to, at any depth, old keys and new", function()
    for _, write in ipairs {
      function() config.app = 1 end,
      function() config.new = 1 end,
      function() config.http.port = 1 end,
      function() config.app.pages.new = 1 end,
      function() config.get = nil end,
    } do
      local ok, why = pcall(write)
      assert.is_false(ok)
      assert.truthy(why:find("read-only", 1, true), why)
    end
  end)

  it("hands out lists that may be changed without effect", function()
    local list = config.app.intake.headers
    assert.equal("content-type", list[1])
    assert.equal("content-type, ", table.concat(list, ", "):sub(1, 14))
    list[1] = "changed"
    assert.equal("content-type", config.app.intake.headers[1])
  end)

  it("can be walked through with pairs", function()
    local seen = {}
    for key, value in pairs(config.app.pages) do
      seen[key] = value
    end
    assert.equal(50, seen.limit)
    assert.equal(200, seen.limit_max)
    local sections = 0
    for key, value in pairs(config) do
      assert.equal(config[key], value)
      sections = sections + 1
    end
    assert.is_true(sections > 10)
  end)

  it("leaves pairs of other tables alone", function()
    local sum = 0
    for _, value in pairs { 1, 2, x = 3 } do
      sum = sum + value
    end
    assert.equal(6, sum)
    assert.has_error(function() pairs(nil) end)
    local guarded = setmetatable({ a = 1 }, { __metatable = false })
    assert.equal("a", (next(guarded)))
    for key in pairs(guarded) do
      assert.equal("a", key)
    end
  end)

  it("is encoded as what it holds", function()
    assert.same({ limit = 50, limit_max = 200 },
      json.decode(json.encode(config.app.pages)))
    assert.same({ pages = { limit = 50, limit_max = 200 } },
      json.decode(json.encode { pages = config.app.pages }))
    assert.equal("[]", json.encode(config.log.redact))
  end)

  it("says what it is", function()
    assert.truthy(tostring(config.app.pages):find("^perigee.config.app.pages: {"))
  end)
end)

describe("config.get", function()
  it("follows a dotted path, with a default for what is absent", function()
    assert.equal(50, config.get "app.pages.limit")
    assert.equal(7, config.get("app.pages.nothing", 7))
    assert.equal(7, config.get("app.pages.limit.deeper", 7))
    assert.is_nil(config.get "nothing.at.all")
    assert.equal("content-type", config.get("app.intake.headers")[1])
  end)
end)

describe("config.copy", function()
  it("makes plain tables", function()
    local copy = config.copy(config.app)
    copy.pages.limit = 1
    assert.equal(50, config.app.pages.limit)
    assert.is_nil(getmetatable(copy.pages))
  end)
end)
