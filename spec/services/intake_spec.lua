local task = require "perigee.task"
local time = require "perigee.time"
local deliveries = require "services.deliveries"
local events = require "services.events"
local intake = require "services.intake"
local sources = require "services.sources"
local subscriptions = require "services.subscriptions"
local support = require "spec.support"

local PAGE = { limit = 100 }

local function accept(body, headers)
  return intake.accept("open", support.message(body, headers))
end

local function refused(kind, receipt, err)
  assert.is_nil(receipt)
  assert.equal(kind, err.kind)
end

local function count()
  return #assert(events.list({}, PAGE)).items, #assert(deliveries.list({}, PAGE)).items
end

before_each(function()
  support.clear()
  assert(sources.create { name = "open", kind = "none" })
end)

describe("intake.accept", function()
  it("stores the body byte for byte", function()
    local body = "\0\255\r\n{ "
    local receipt, replayed = accept(body, { ["x-event-type"] = "blob" })
    assert.is_false(replayed)
    local event = assert(events.get(receipt.id))
    assert.equal(body, event.body)
    assert.equal(#body, event.size)
    assert.equal("blob", event.type)
  end)

  it("dates the event as its id does, so that filters by time are exact", function()
    local now_ms = time.now()
    for _ = 1, 20 do
      local receipt = assert(accept "x")
      local at = receipt.received_at_ms
      assert.is_true(math.abs(at - now_ms) < 10000)
      local from = assert(events.list({ since_ms = at }, PAGE)).items
      assert.equal(receipt.id, from[#from].id)
      for _, before in ipairs(assert(events.list({ until_ms = at }, PAGE)).items) do
        assert.is_true(before.received_at_ms < at)
      end
      task.sleep(1)
    end
  end)

  it("keeps the headers that the configuration names and no others", function()
    local receipt = assert(accept("x", {
      ["user-agent"] = "me", authorization = "Bearer secret", ["x-event-type"] = "a",
    }))
    assert.same({ ["user-agent"] = "me", ["x-event-type"] = "a" }, events.get(receipt.id).headers)
  end)

  it("refuses a source that does not exist", function()
    refused("not_found", intake.accept("nobody", support.message "x"))
  end)

  it("refuses a type that is no name", function()
    for _, name in ipairs { "a b", "<b>", "", ("x"):rep(201) } do
      refused("invalid", accept("x", { ["x-event-type"] = name }))
    end
    assert(accept("x", { ["x-event-type"] = ("x"):rep(200) }))
  end)

  it("records a delivery for each subscription that wants the event", function()
    for _, filters in ipairs { { "*" }, { "order" }, { "push" } } do
      assert(subscriptions.create {
        source = "open", target_url = "https://example.com/", events = filters,
      })
    end
    local receipt = assert(accept('{"type":"order.paid"}'))
    assert.equal(2, receipt.deliveries)
    local event, recorded = events.with_deliveries(receipt.id)
    assert.equal("order.paid", event.type)
    assert.equal(2, #recorded)
    for _, delivery in ipairs(recorded) do
      assert.equal("pending", delivery.status)
      assert.is_nil(delivery.payload)
    end
  end)
end)

describe("a repeat", function()
  local function with_key(key, body)
    return accept(body or "x", { ["idempotency-key"] = key })
  end

  it("gets the receipt of the first and has no effect", function()
    local first = assert(with_key "k")
    local second, replayed = with_key "k"
    assert.is_true(replayed)
    assert.same(first, second)
    assert.equal(1, (count()))
  end)

  it("with another body is refused", function()
    assert(with_key "k")
    refused("unprocessable", with_key("k", "y"))
    assert.equal(1, (count()))
  end)

  it("does not know the keys of other sources", function()
    assert(sources.create { name = "other", kind = "none" })
    local first = assert(with_key "k")
    local second = assert(intake.accept("other",
      support.message("x", { ["idempotency-key"] = "k" })))
    assert.not_equal(first.id, second.id)
  end)

  it("is one event when sixteen come at once", function()
    assert(subscriptions.create { source = "open", target_url = "https://example.com/" })
    local numbers = {}
    for i = 1, 16 do
      numbers[i] = i
    end
    local receipts = assert(task.map(numbers, function()
      return with_key "k"
    end))
    for _, receipt in ipairs(receipts) do
      assert.equal(receipts[1].id, receipt.id)
    end
    local stored, delivered = count()
    assert.equal(1, stored)
    assert.equal(1, delivered)
  end)
end)

describe("two keys on one webhook", function()
  local body = '{"id":"evt_1","type":"a"}'

  -- Any provider's key will do: it is the store's affair.
  local data = require "data.intake"
  local function record(id, keys)
    local event = {
      id = id, source = "open", type = "a", headers = {}, body = body, body_hash = "h",
      received_at_ms = 1,
    }
    for i, key in ipairs(keys) do
      keys[i] = { key = key, name = key, strict = true }
    end
    return data.record(event, {}, keys)
  end

  it("stand for one event, whichever is repeated", function()
    assert(record("e1", { "a", "b" }))
    assert.equal("e1", record("e2", { "b" }).id)
    assert.equal("e1", record("e3", { "c", "a" }).id)
    assert.equal("e1", record("e4", { "c" }).id)
    assert.equal("e1", record("e5", { "a", "d" }).id)
    assert.equal("e1", record("e6", { "d" }).id)
    assert.equal(1, (count()))
  end)

  it("are refused when they stand for two", function()
    assert(record("e1", { "a" }))
    assert(record("e2", { "b" }))
    refused("unprocessable", record("e3", { "a", "b" }))
    assert.equal(2, (count()))
  end)
end)
