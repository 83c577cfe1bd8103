-- With a Redis in REDIS_URL; tests/integration/queue_redis.test.mjs brings one.

local queue = require "perigee.queue"

local url = os.getenv "REDIS_URL"

local contract = setfenv(assert(loadfile "spec/perigee/queue_contract.lua"),
  getfenv(1))()

if not url then
  describe("the Redis driver of queues", function()
    it("keeps the contract: see tests/integration/queue_redis.test.mjs",
      function() assert.is_nil(url) end)
  end)
  return
end

contract("redis", { driver = "redis", redis = "main", prefix = "{spec}" })

describe("the Redis driver of queues", function()
  it("tells how a job has ended that is gone", function()
    local client = queue.open { driver = "redis", redis = "main",
      prefix = "{spec}" }
    local q = client:get(("gone-%d"):format(math.random(1, 1e9)))
    local consumer = client.driver:consume(q.name, { concurrency = 1 })
    local done = assert(q:add("x", nil, { remove_on_complete = true }))
    assert(consumer:complete(consumer:take(1)[1], "42"))
    assert.equal(42, done:wait "10s")
    local failed = assert(q:add("x", nil, { remove_on_fail = true }))
    assert(consumer:fail(consumer:take(1)[1], { message = "broken" }))
    local _, err = failed:wait "10s"
    assert.equal("broken", err.message)
    consumer:close()
    q:pause()
    q:obliterate { force = true }
  end)
end)
