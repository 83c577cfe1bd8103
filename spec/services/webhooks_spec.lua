local webhooks = require "services.webhooks"

describe("webhooks.headers", function()
  it("signs as Standard Webhooks' own example", function()
    local headers = webhooks.headers("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
      "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert.same({
      ["webhook-id"] = "msg_p5jXN8AQM9LWM0D4loKWxJek",
      ["webhook-timestamp"] = "1614265330",
      ["webhook-signature"] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }, headers)
  end)
end)

describe("webhooks.new_secret", function()
  it("makes one that is a key, and another each time", function()
    local secret = webhooks.new_secret()
    assert.matches("^whsec_", secret)
    assert.equal(24, #webhooks.key_of(secret))
    assert.not_equal(secret, webhooks.new_secret())
  end)

  it("takes no key that is short, long or no base64", function()
    assert.is_nil(webhooks.key_of "whsec_c2hvcnQ=")
    assert.is_nil(webhooks.key_of("whsec_" .. ("QUJD"):rep(30)))
    assert.is_nil(webhooks.key_of "whsec_!!!!")
  end)
end)
