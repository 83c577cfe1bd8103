local json = require "perigee.json"
local sources = require "services.sources"
local support = require "spec.support"

local SECRET = "a shared secret"

local function refused(kind, source, err)
  assert.is_nil(source)
  assert.equal(kind, err.kind)
end

describe("sources.create", function()
  before_each(support.clear)

  it("fills in a generic source's form", function()
    local source = assert(sources.create { name = "a", kind = "generic", secret = SECRET })
    assert.same({ header = "x-signature", encoding = "hex", prefix = "" }, source.signature)
    assert.same(source, sources.get "a")
  end)

  it("keeps header names in lower case, as requests have them", function()
    local source = assert(sources.create {
      name = "a", kind = "generic", secret = SECRET, signature = { header = "X-Mine" },
    })
    assert.equal("x-mine", source.signature.header)
  end)

  it("wants a secret of all kinds but none", function()
    for _, kind in ipairs { "github", "stripe", "generic" } do
      refused("unprocessable", sources.create { name = "a", kind = kind })
    end
    refused("unprocessable", sources.create { name = "a", kind = "none", secret = SECRET })
    assert(sources.create { name = "a", kind = "none" })
  end)

  it("refuses a form where there is none", function()
    refused("unprocessable", sources.create {
      name = "a", kind = "github", secret = SECRET, signature = { prefix = "x" },
    })
  end)

  it("refuses a name that is taken", function()
    assert(sources.create { name = "a", kind = "none" })
    refused("conflict", sources.create { name = "a", kind = "none" })
  end)
end)

describe("sources.change", function()
  before_each(function()
    support.clear()
    assert(sources.create {
      name = "a", kind = "generic", secret = SECRET, tolerance_s = 5, signature = { prefix = "v=" },
    })
  end)

  it("leaves what is absent and takes away what is null", function()
    local source = assert(sources.change("a", {
      tolerance_s = json.null, signature = { header = "X-B" },
    }))
    assert.is_nil(source.tolerance_s)
    assert.equal(SECRET, source.secret)
    assert.same({ header = "x-b", encoding = "hex", prefix = "v=" }, source.signature)
    assert.same(source, sources.get "a")
  end)

  it("may change the kind, when the rest fits", function()
    refused("unprocessable", sources.change("a", { kind = "none" }))
    assert(sources.change("a", { kind = "none", secret = json.null }))
    assert.is_nil(sources.get("a").secret)
    assert.same({}, sources.get("a").signature)
    refused("unprocessable", sources.change("a", { kind = "github" }))
    assert(sources.change("a", { kind = "github", secret = SECRET }))
  end)

  it("refuses what does not exist", function()
    refused("not_found", sources.change("b", { tolerance_s = 1 }))
    refused("not_found", sources.get "b")
    refused("not_found", sources.remove "b")
  end)
end)

describe("sources.remove", function()
  it("forgets what came in, so that a new source of that name starts afresh", function()
    support.clear()
    local intake = require "services.intake"
    local message = support.message("x", { ["idempotency-key"] = "k" })
    assert(sources.create { name = "a", kind = "none" })
    local first = assert(intake.accept("a", message))
    assert.is_true(sources.remove "a")
    assert(sources.create { name = "a", kind = "none" })
    local second, replayed = intake.accept("a", message)
    assert.is_false(replayed)
    assert.not_equal(first.id, second.id)
  end)
end)
