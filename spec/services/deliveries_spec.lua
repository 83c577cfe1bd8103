local deliveries = require "services.deliveries"
local intake = require "services.intake"
local sources = require "services.sources"
local store = require "data.deliveries"
local subscriptions = require "services.subscriptions"
local support = require "spec.support"

local function deliver(transform)
  support.transform("of_spec", transform)
  assert(subscriptions.create {
    source = "open", target_url = "https://example.com/", transform = "of_spec",
  })
  local receipt = assert(intake.accept("open", support.message "{}"))
  return assert(deliveries.list({ event = receipt.id }, { limit = 1 })).items[1]
end

local function fail()
  error "bad day"
end

before_each(function()
  support.clear()
  assert(sources.create { name = "open", kind = "none" })
end)

after_each(function()
  support.transform("of_spec", nil)
end)

describe("a failing transform", function()
  it("is recorded and loses nothing", function()
    local delivery = deliver(fail)
    assert.equal("failed", delivery.status)
    assert.truthy(delivery.error:find "bad day")
  end)
end)

describe("deliveries.retry", function()
  it("runs the transform again", function()
    local delivery = deliver(fail)
    support.transform("of_spec", function()
      return { fine = true }
    end)
    local mended = assert(deliveries.retry(delivery.id))
    assert.equal("pending", mended.status)
    assert.equal('{"fine":true}', mended.payload)
    assert.is_nil(mended.error)
  end)

  it("refuses one that is to be delivered, and one that is not there", function()
    local delivery = deliver(function()
      return 1
    end)
    local _, err = deliveries.retry(delivery.id)
    assert.equal("conflict", err.kind)
    _, err = deliveries.retry "none"
    assert.equal("not_found", err.kind)
  end)
end)

describe("deliveries.prepare_stale", function()
  it("ends what a dead worker began", function()
    local delivery = deliver(function()
      return { fine = true }
    end)
    -- As it was before the transform ran.
    assert.is_true(store.settle(delivery.id, "pending", { status = "new" }, 1000))
    assert.equal(0, deliveries.prepare_stale(1000, 10))
    assert.equal(1, deliveries.prepare_stale(1001, 10))
    assert.equal("pending", deliveries.get(delivery.id).status)
    assert.equal(0, deliveries.prepare_stale(1001, 10))
  end)
end)

describe("dead letters", function()
  local function dead()
    local delivery = deliver(function() return 1 end)
    assert.is_true(store.give_up(delivery.id, 1, "no luck", 1))
    return delivery
  end

  it("are sent again one by one, in another round", function()
    local delivery = dead()
    local again = assert(deliveries.retry(delivery.id))
    assert.equal("pending", again.status)
    assert.equal(2, again.round)
    assert.is_nil(again.error)
  end)

  it("are sent again by source, subscription or event", function()
    local one = dead()
    assert.equal(0, deliveries.replay { source = "other" })
    assert.equal(0, deliveries.replay { event = "none" })
    assert.equal(1, deliveries.replay { event = one.event_id })
    assert.equal(0, deliveries.replay {})
  end)

  it("that the queue gave up are recorded, and no others", function()
    local delivery = deliver(function() return 1 end)
    deliveries.given_up(delivery.id, 1, "crashed three times")
    local now = assert(deliveries.get(delivery.id))
    assert.equal("dead", now.status)
    assert.equal("crashed three times", now.error)
    deliveries.given_up(delivery.id, 1, "again")
    assert.equal("crashed three times", deliveries.get(delivery.id).error)
  end)

  it("are not given up again by word of the round before", function()
    local delivery = dead()
    assert(deliveries.retry(delivery.id))
    deliveries.given_up(delivery.id, 1, "no luck, it says late")
    assert.equal("pending", deliveries.get(delivery.id).status)
  end)
end)
