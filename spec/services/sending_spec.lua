local deliveries = require "services.deliveries"
local http = require "perigee.http"
local intake = require "services.intake"
local sending = require "services.sending"
local sources = require "services.sources"
local subscriptions = require "services.subscriptions"
local support = require "spec.support"
local time = require "perigee.time"

local post = http.post

-- An answer of the target.
local function answer(status, body, retry_after_ms)
  return {
    status = status,
    retry_after = function() return retry_after_ms end,
    chunks = function()
      local left = body
      return function()
        local piece = left
        left = nil
        return piece
      end
    end,
    close = function() end,
  }
end

-- A name of its own for each spec: breakers outlive them.
local number = 0

describe("sending.run", function()
  local subscription, sent, answers

  local function deliver()
    local receipt = assert(intake.accept("open", support.message "{}"))
    return assert(deliveries.list({ event = receipt.id },
      { limit = 1 })).items[1]
  end

  local function job(delivery, attempt)
    return { data = { delivery = delivery.id, round = delivery.round },
      attempt = attempt or 1 }
  end

  before_each(function()
    number = number + 1
    support.clear()
    sent = {}
    assert(sources.create { name = "open", kind = "none" })
    subscription = assert(subscriptions.create {
      source = "open", target_url = ("http://127.0.0.1:%d/in"):format(number),
    })
    http.post = function(url, opts)
      sent[#sent + 1] = { url = url, opts = opts }
      return answers(#sent)
    end
  end)

  after_each(function()
    http.post = post
  end)

  it("records what was taken", function()
    answers = function() return answer(204, "fine") end
    local delivery = deliver()
    assert.equal("delivered", sending.run(job(delivery)))
    local now = assert(deliveries.get(delivery.id))
    assert.equal("delivered", now.status)
    assert.equal(1, now.attempts)
    assert.equal(204, now.response_status)
    assert.equal("{}", sent[1].opts.body)
    assert.equal(delivery.id, sent[1].opts.headers["webhook-id"])
    assert.equal("fine", deliveries.attempts(delivery.id)[1].response_body)
  end)

  it("fails for another attempt, and says when that is", function()
    answers = function() return answer(500, "\255oops") end
    local delivery = deliver()
    local _, err = sending.run(job(delivery, 3))
    assert.equal("unavailable", err.kind)
    local now = assert(deliveries.get(delivery.id))
    assert.equal("pending", now.status)
    assert.is_true(now.next_attempt_at_ms > time.now() + 3000)
    assert.equal("?oops", deliveries.attempts(delivery.id)[1].response_body)
  end)

  it("gives a target the time that it asks for, within limits", function()
    local function pause_after(status, asked_ms)
      answers = function() return answer(status, "", asked_ms) end
      local delivery, before = deliver(), time.now()
      local _, err = sending.run(job(delivery))
      local due = deliveries.get(delivery.id).next_attempt_at_ms - before
      local wait = sending.backoff(1, err)
      assert.is_true(wait <= due, "the queue waits no longer than is told")
      return wait
    end
    assert.is_true(pause_after(503, 600000) >= 600000)
    assert.is_true(pause_after(429, 600000) >= 600000)
    assert.equal(3600000, pause_after(503, math.huge))
    assert.is_true(pause_after(500, 600000) <= 1000)
    assert.is_true(pause_after(503, 0) >= 800, "no sooner than by itself")
    assert.is_true(sending.backoff(2, "raised") >= 1600)
  end)

  it("gives up after the last attempt, and at once after 410", function()
    answers = function() return answer(400, "") end
    local delivery = deliver()
    local _, err = sending.run(job(delivery, 15))
    assert.equal("unrecoverable", err.kind)
    assert.equal("dead", deliveries.get(delivery.id).status)
    answers = function() return answer(410, "") end
    delivery = deliver()
    _, err = sending.run(job(delivery))
    assert.equal("unrecoverable", err.kind)
    assert.equal("dead", deliveries.get(delivery.id).status)
  end)

  it("asks a target that is down no more for a while", function()
    answers = function() return answer(503, "") end
    local codes = {}
    for i = 1, 12 do
      local _, err = sending.run(job(deliver()))
      codes[i] = err.code or "failed"
    end
    assert.equal(10, #sent)
    assert.equal("breaker_open", codes[12])
  end)

  it("sends to hosts with names longer than a breaker's", function()
    answers = function() return answer(200, "") end
    assert(subscriptions.change(subscription.id, {
      target_url = ("http://127.0.0.1:%s%d/in"):format(("0"):rep(60), number),
    }))
    assert.equal("delivered", sending.run(job(deliver())))
  end)

  it("is void for a delivery that was cancelled, or begun anew", function()
    answers = function() return answer(200, "") end
    local delivery = deliver()
    delivery.round = 2
    assert.equal("not wanted any more", sending.run(job(delivery)))
    delivery = deliver()
    assert(subscriptions.remove(subscription.id))
    assert.equal("not wanted any more", sending.run(job(delivery)))
    assert.equal(0, #sent)
  end)

  it("waits while its subscription is switched off", function()
    answers = function() return answer(200, "") end
    local delivery = deliver()
    assert(subscriptions.change(subscription.id, { enabled = false }))
    local _, err = sending.run(job(delivery))
    assert.matches("switched off", err.message)
    assert.equal("pending", deliveries.get(delivery.id).status)
    assert.equal(0, #sent)
  end)
end)

describe("sending.is_allowed", function()
  it("goes by the list of targets", function()
    assert.is_true(sending.is_allowed "127.0.0.1")
    assert.is_false(sending.is_allowed "example.com")
  end)
end)
