local signatures = require "services.signatures"

-- RFC 4231, test case 2.
local KEY, DATA = "Jefe", "what do ya want for nothing?"
local HEX = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
local BASE64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="

local function check(candidates, encoding)
  return signatures.check(KEY, DATA, candidates, encoding)
end

describe("signatures.check", function()
  it("takes the HMAC-SHA256 in hex, in either case", function()
    assert.is_true(check({ HEX }, "hex"))
    assert.is_true(check({ HEX:upper() }, "hex"))
  end)

  it("takes it in base64", function()
    assert.is_true(check({ BASE64 }, "base64"))
  end)

  it("takes any of several", function()
    assert.is_true(check({ ("0"):rep(64), HEX, "x" }, "hex"))
  end)

  it("refuses everything else", function()
    for _, given in ipairs {
      "", "0", HEX:sub(1, -2), HEX:sub(1, -3), HEX .. "00", " " .. HEX, ("z"):rep(64), BASE64,
      (HEX:gsub("^5", "6")),
    } do
      local signed, err = check({ given }, "hex")
      assert.is_nil(signed)
      assert.equal("unauthorized", err.kind)
    end
    assert.is_nil(check({}, "hex"))
    assert.is_nil(check({ HEX }, "base64"))
  end)

  it("does not say what the signature should have been", function()
    local _, err = check({ ("0"):rep(64) }, "hex")
    assert.is_nil(err.message:find(HEX, 1, true))
  end)
end)
