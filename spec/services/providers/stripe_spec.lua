local crypto = require "perigee.crypto"
local json = require "perigee.json"
local stripe = require "services.providers.stripe"

local SECRET = "whsec_test_secret"
local BODY = [[{"id":"evt_1","type":"invoice.paid"}]]
local NOW_S = 1700000000
local SOURCE = { secret = SECRET, tolerance_s = 300 }

local function v1(time_s, body)
  return crypto.hmac_hex("sha256", SECRET, time_s .. "." .. (body or BODY))
end

local function message(header, body)
  return {
    body = body or BODY,
    header = function(name)
      return name == "stripe-signature" and header or nil
    end,
    json = function()
      return json.decode(body or BODY)
    end,
  }
end

local function verify(header)
  local signed, err = stripe.verify(SOURCE, message(header), NOW_S * 1000)
  return signed, err and err.kind
end

describe("stripe.verify", function()
  it("takes a right signature", function()
    assert.is_true(verify("t=" .. NOW_S .. ",v1=" .. v1(NOW_S)))
  end)

  it("allows blanks around its items", function()
    assert.is_true(verify("t=" .. NOW_S .. ", v1=" .. v1(NOW_S)))
  end)

  it("looks at every v1 and at no other scheme", function()
    local wrong = ("0"):rep(64)
    assert.is_true(verify(("t=%d,v1=%s,v1=%s,v0=%s"):format(NOW_S, wrong, v1(NOW_S), wrong)))
    assert.is_nil(verify(("t=%d,v1=%s,v0=%s"):format(NOW_S, wrong, v1(NOW_S))))
  end)

  it("is tolerant up to the tolerance, both ways", function()
    for _, offset in ipairs { -300, 300 } do
      assert.is_true(verify(("t=%d,v1=%s"):format(NOW_S + offset, v1(NOW_S + offset))))
    end
    for _, offset in ipairs { -301, 301 } do
      local signed, kind = verify(("t=%d,v1=%s"):format(NOW_S + offset, v1(NOW_S + offset)))
      assert.is_nil(signed)
      assert.equal("unauthorized", kind)
    end
  end)

  it("refuses what is no signature", function()
    for _, header in ipairs {
      "", "t=", "v1=" .. v1(NOW_S), "t=" .. NOW_S, "t=1e9,v1=" .. v1(NOW_S),
      "t=-1,v1=" .. v1(NOW_S), "t=" .. ("9"):rep(400) .. ",v1=" .. v1(NOW_S), ",=,", "t=1,t=2",
    } do
      local signed, kind = verify(header)
      assert.is_nil(signed)
      assert.equal("unauthorized", kind)
    end
    assert.is_nil(verify(nil))
  end)
end)

describe("stripe.describe", function()
  it("has the type and the id from the body", function()
    local described = stripe.describe(SOURCE, message())
    assert.equal("invoice.paid", described.type)
    assert.equal("evt_1", described.provider_id)
    assert.equal("stripe:evt_1", described.key.key)
    assert.is_false(described.key.strict)
  end)

  it("refuses a body without them", function()
    for _, body in ipairs {
      "", "[]", "null", "1", "{}", [[{"id":1,"type":"a"}]], [[{"id":"a","type":null}]],
    } do
      local described, err = stripe.describe(SOURCE, message(nil, body))
      assert.is_nil(described)
      assert.equal("invalid", err.kind)
    end
  end)
end)
