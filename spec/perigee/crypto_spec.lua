local crypto = require "perigee.crypto"

local KEYS = "spec/perigee/keys/"

local function read(name)
  local file = assert(io.open(KEYS .. name, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function assert_invalid(value, err)
  assert.is_nil(value)
  assert.equal("invalid", err.kind)
end

describe("crypto digests", function()
  it("are those of FIPS 180 and RFC 4231", function()
    assert.equal(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      crypto.sha256_hex "abc")
    assert.equal(
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      crypto.sha256_hex "")
    assert.equal(crypto.sha256_hex "abc",
      crypto.hex.encode(crypto.sha256 "abc"))
    local key, data = ("\11"):rep(20), "Hi There"
    assert.equal(
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
      crypto.hmac_hex("sha256", key, data))
    assert.equal("87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17"
      .. "cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
      crypto.hmac_hex("sha512", key, data))
    assert.equal("b617318655057264e28bc0b6fb378c8ef146be00",
      crypto.hmac_hex("sha1", key, data))
    assert.equal(32, #crypto.hmac("sha256", key, data))
  end)

  it("take an empty key and long ones, in any order", function()
    local empty =
      "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
    assert.equal(empty, crypto.hmac_hex("sha256", "", ""))
    assert.equal(
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
      crypto.hmac_hex("sha256", ("\170"):rep(131),
        "Test Using Larger Than Block-Size Key - Hash Key First"))
    assert.equal(empty, crypto.hmac_hex("sha256", "", ""))
  end)

  it("raise for an unknown algorithm", function()
    assert.has_error(function() crypto.hmac("md4", "k", "d") end)
    assert.has_error(function() crypto.hmac("sha256", "k") end)
  end)
end)

describe("crypto text codes", function()
  local VECTORS = {
    { "", "", "", "" }, { "f", "Zg==", "Zg", "66" },
    { "fo", "Zm8=", "Zm8", "666f" }, { "foo", "Zm9v", "Zm9v", "666f6f" },
    { "foob", "Zm9vYg==", "Zm9vYg", "666f6f62" },
    { "\251\255\254", "+//+", "-__-", "fbfffe" },
  }

  it("go there and back", function()
    for _, v in ipairs(VECTORS) do
      assert.equal(v[2], crypto.base64.encode(v[1]))
      assert.equal(v[3], crypto.base64url.encode(v[1]))
      assert.equal(v[4], crypto.hex.encode(v[1]))
      assert.equal(v[1], crypto.base64.decode(v[2]))
      assert.equal(v[1], crypto.base64url.decode(v[3]))
      assert.equal(v[1], crypto.hex.decode(v[4]))
    end
    local long = crypto.random(100000)
    assert.equal(long, crypto.base64.decode(crypto.base64.encode(long)))
    assert.equal(long, crypto.base64url.decode(crypto.base64url.encode(long)))
    assert.equal(long, crypto.hex.decode(crypto.hex.encode(long):upper()))
  end)

  for _, text in ipairs {
    "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zg==Zg==", " Zg==", "Zg==\n",
    "Zm 9v", "====", "=", "Zm9v\0", "-__-", "Zm9\255",
  } do
    it("refuse " .. ("%q"):format(text) .. " as base64", function()
      assert_invalid(crypto.base64.decode(text))
    end)
  end

  for _, text in ipairs { "Z", "Zg==", "Zh", "Zm9", "+//+", "Zm9v ", "Zm9vZ" } do
    it("refuse " .. ("%q"):format(text) .. " as base64url", function()
      assert_invalid(crypto.base64url.decode(text))
    end)
  end

  it("refuse what is no hexadecimal text", function()
    for _, text in ipairs { "0", "0g", "0x10", " 00", "00 ", "é" } do
      assert_invalid(crypto.hex.decode(text))
    end
  end)
end)

describe("crypto.random", function()
  it("gives as many bytes as asked for, never the same", function()
    assert.equal(0, #crypto.random(0))
    assert.equal(5000, #crypto.random(5000))
    assert.not_equal(crypto.random(16), crypto.random(16))
    assert.has_error(function() crypto.random(-1) end)
    assert.has_error(function() crypto.random(16777217) end)
  end)
end)

describe("crypto.equal", function()
  it("compares bytes", function()
    assert.is_true(crypto.equal("", ""))
    assert.is_true(crypto.equal("a\0b", "a\0b"))
    assert.is_false(crypto.equal("a\0b", "a\0c"))
    assert.is_false(crypto.equal("a", "ab"))
  end)
end)

describe("crypto.uuid", function()
  local FORM = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-(%x)%x%x%x%-(%x)%x%x%x%-"
    .. "%x%x%x%x%x%x%x%x%x%x%x%x$"

  it("makes versions 4 and 7, of the variant of RFC 9562", function()
    for version, make in pairs { ["4"] = crypto.uuid.v4,
      ["7"] = crypto.uuid.v7 } do
      local seen = {}
      for _ = 1, 1000 do
        local uuid = make()
        local v, variant = uuid:match(FORM)
        assert.equal(version, v)
        assert.matches("[89ab]", variant)
        assert.is_nil(seen[uuid])
        seen[uuid] = true
      end
    end
  end)

  it("makes version 7 in order, also within a millisecond", function()
    local last = ""
    for _ = 1, 50000 do
      local uuid = crypto.uuid.v7()
      assert(uuid > last)
      last = uuid
    end
  end)

  it("begins version 7 with the time", function()
    local before = os.time() * 1000 - 60000
    local ms = tonumber((crypto.uuid.v7():gsub("-", ""):sub(1, 12)), 16)
    assert(ms >= before and ms <= before + 180000)
  end)
end)

describe("crypto.sign and verify", function()
  local ALGORITHMS = { "ed25519", "rsa-sha256", "ecdsa-p256-sha256" }

  for _, algorithm in ipairs(ALGORITHMS) do
    it("agree on " .. algorithm, function()
      local private = read(algorithm .. ".pem")
      local public = read(algorithm .. ".pub.pem")
      local signature = assert(crypto.sign(algorithm, private, "data"))
      assert.is_true(crypto.verify(algorithm, public, "data", signature))
      assert.is_true(crypto.verify(algorithm, private, "data", signature))
      assert.is_false(crypto.verify(algorithm, public, "Data", signature))
      assert.is_false(crypto.verify(algorithm, public, "data", "x"))
      assert.is_false(crypto.verify(algorithm, public, "data", ""))
      assert_invalid(crypto.sign(algorithm, public, "data"))
    end)

    it("refuse other keys for " .. algorithm, function()
      for _, other in ipairs(ALGORITHMS) do
        if other ~= algorithm then
          assert_invalid(crypto.sign(algorithm, read(other .. ".pem"), ""))
          assert_invalid(crypto.verify(algorithm, read(other .. ".pub.pem"),
            "", ""))
        end
      end
    end)
  end

  it("take a digest's name with a shared secret, by HMAC", function()
    local signature = crypto.sign("sha256", "secret", "data")
    assert.equal(crypto.hmac("sha256", "secret", "data"), signature)
    assert.is_true(crypto.verify("sha256", "secret", "data", signature))
    assert.is_false(crypto.verify("sha256", "Secret", "data", signature))
    assert.is_false(crypto.verify("sha256", "secret", "data", ""))
    assert.has_error(function()
      crypto.verify("sha256", read "ed25519.pub.pem", "data", signature)
    end)
  end)

  it("verify what others have signed", function()
    -- RFC 8032, 7.1, test 2
    local public = "-----BEGIN PUBLIC KEY-----\n" .. crypto.base64.encode(
      crypto.hex.decode("302a300506032b6570032100"
        .. "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"))
      .. "\n-----END PUBLIC KEY-----\n"
    local signature = crypto.hex.decode(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        .. "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
    assert.is_true(crypto.verify("ed25519", public, "r", signature))
    assert.is_false(crypto.verify("ed25519", public, "s", signature))
  end)

  it("refuse keys that are none, or under a password", function()
    assert_invalid(crypto.sign("ed25519", "junk", ""))
    assert_invalid(crypto.verify("rsa-sha256", "", "", ""))
    assert_invalid(crypto.sign("rsa-sha256", read "encrypted.pem", ""))
    assert_invalid(crypto.sign("ecdsa-p256-sha256", read "p384.pem", ""))
    assert_invalid(crypto.sign("rsa-sha256", read "rsa-1024.pem", ""))
  end)

  it("raise for an unknown algorithm", function()
    assert.has_error(function() crypto.sign("rsa-md5", "", "") end)
  end)
end)
