local config = require "perigee.config"
local time = require "perigee.time"
local events = require "services.events"
local intake = require "services.intake"
local janitor = require "services.janitor"
local sources = require "services.sources"
local subscriptions = require "services.subscriptions"
local support = require "spec.support"

local HOUR_MS = 3600 * 1000
local retention = config.app.retention

describe("janitor.tidy", function()
  before_each(function()
    support.clear()
    assert(sources.create { name = "open", kind = "none" })
    assert(subscriptions.create { source = "open", target_url = "https://example.com/" })
  end)

  local function accept(key)
    return intake.accept("open", support.message("x", { ["idempotency-key"] = key }))
  end

  it("leaves what is young enough", function()
    assert(accept "k")
    assert.same({ events = 0, keys = 0, prepared = 0, overdue = 1 },
      janitor.tidy(time.now() + retention.keys_h * HOUR_MS - 1000))
  end)

  it("forgets keys first: then a repeat is a new event", function()
    local first = assert(accept "k")
    local counts = janitor.tidy(time.now() + retention.keys_h * HOUR_MS + 1000)
    assert.same({ events = 0, keys = 1, prepared = 0, overdue = 1 }, counts)
    assert(events.get(first.id))
    local second, replayed = accept "k"
    assert.is_false(replayed)
    assert.not_equal(first.id, second.id)
  end)

  it("removes old events with their deliveries and keys", function()
    for i = 1, 7 do
      assert(accept("k" .. i))
    end
    local counts = janitor.tidy(time.now() + retention.events_h * HOUR_MS + 1000)
    assert.equal(7, counts.events)
    assert.same({}, events.list({}, { limit = 1 }).items)
    local _, replayed = accept "k1"
    assert.is_false(replayed)
  end)
end)
