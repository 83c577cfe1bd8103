-- With a Redis in REDIS_URL; tests/integration/queue_redis.test.mjs brings one.

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
