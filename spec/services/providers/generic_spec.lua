local crypto = require "perigee.crypto"
local json = require "perigee.json"
local generic = require "services.providers.generic"

local SECRET, BODY = "a shared secret", [[{"type":"order.created"}]]

local function message(headers, body)
  return {
    body = body or BODY,
    header = function(name)
      return headers[name]
    end,
    json = function()
      return json.decode(body or BODY)
    end,
  }
end

describe("generic.verify", function()
  local function verify(form, headers)
    return generic.verify({ secret = SECRET, signature = form }, message(headers))
  end
  local hmac = crypto.hmac("sha256", SECRET, BODY)

  it("reads the header that the source names", function()
    local form = { header = "x-sig", encoding = "hex", prefix = "" }
    assert.is_true(verify(form, { ["x-sig"] = crypto.hex.encode(hmac) }))
    assert.is_nil(verify(form, { ["x-signature"] = crypto.hex.encode(hmac) }))
    assert.is_nil(verify(form, {}))
  end)

  it("wants the prefix that the source names", function()
    local form = { header = "x-sig", encoding = "base64", prefix = "v1=" }
    local text = crypto.base64.encode(hmac)
    assert.is_true(verify(form, { ["x-sig"] = "v1=" .. text }))
    assert.is_nil(verify(form, { ["x-sig"] = text }))
    assert.is_nil(verify(form, { ["x-sig"] = "v1=" }))
    assert.is_nil(verify(form, { ["x-sig"] = "v1" }))
  end)
end)

describe("generic.describe", function()
  local function type_of(headers, body)
    return generic.describe({}, message(headers, body)).type
  end

  it("prefers the header, then the body's type, then its event", function()
    assert.equal("a", type_of({ ["x-event-type"] = "a" }))
    assert.equal("order.created", type_of({}))
    assert.equal("b", type_of({}, [[{"event":"b"}]]))
    for _, body in ipairs { "{}", "[1]", "null", "no json", "", [[{"type":1}]] } do
      assert.equal("unknown", type_of({}, body))
    end
  end)
end)
