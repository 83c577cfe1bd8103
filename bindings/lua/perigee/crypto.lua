--- Crypto: digests, signatures, random bytes, and bytes as text.
---
--- Strings are bytes. Bad text (a key, base64, hexadecimal) gives `nil, err` of
--- kind "invalid"; an unknown algorithm raises.

local core = require "perigee.core.crypto"

local M = {}

local HMAC = {
  sha1 = true, sha224 = true, sha256 = true, sha384 = true, sha512 = true,
}

---@alias perigee.crypto.HmacAlgorithm
---| "sha1"
---| "sha224"
---| "sha256"
---| "sha384"
---| "sha512"

---@alias perigee.crypto.SignAlgorithm
---| perigee.crypto.HmacAlgorithm  # with a secret that both sides have
---| "ed25519"
---| "rsa-sha256"         # PKCS #1 v1.5, 2048 bits or more
---| "ecdsa-p256-sha256"  # signatures in DER

--- The SHA-256 of data, 32 bytes.
---@param data string
---@return string
function M.sha256(data)
  return core.sha256(data)
end

--- The SHA-256 of data as 64 hexadecimal digits, lower case.
---@param data string
---@return string
function M.sha256_hex(data)
  return core.sha256_hex(data)
end

--- The HMAC of data, raw bytes.
---@param algorithm perigee.crypto.HmacAlgorithm
---@param key string
---@param data string
---@return string
function M.hmac(algorithm, key, data)
  return core.hmac(algorithm, key, data)
end

--- The HMAC of data as hexadecimal digits, lower case.
---@param algorithm perigee.crypto.HmacAlgorithm
---@param key string
---@param data string
---@return string
function M.hmac_hex(algorithm, key, data)
  return core.hmac_hex(algorithm, key, data)
end

--- Random bytes fit for keys and tokens.
---@param count integer  # at most 16777216
---@return string
function M.random(count)
  return core.random(count)
end

--- Whether two strings are equal, in a time that depends on their lengths
--- alone.
---@param a string
---@param b string
---@return boolean
function M.equal(a, b)
  return core.equal(a, b)
end

-- A secret that both sides have signs by HMAC. A PEM is no such secret: who has
-- the public one could sign for its owner.
local function is_shared(algorithm, key)
  if type(key) ~= "string" or not HMAC[algorithm] then
    return false
  end
  if key:find("-----BEGIN ", 1, true) then
    error("a PEM key goes with ed25519, rsa-sha256 or ecdsa-p256-sha256", 3)
  end
  return true
end

--- Signs data.
---@param algorithm perigee.crypto.SignAlgorithm
---@param key string  # a private key in PEM, without a password; or a secret
---@param data string
---@return string? signature
---@return perigee.Error? err  # kind: "invalid" for the key
function M.sign(algorithm, key, data)
  if is_shared(algorithm, key) then
    return core.hmac(algorithm, key, data)
  end
  return core.sign(algorithm, key, data)
end

--- Whether a signature is that of data.
---@param algorithm perigee.crypto.SignAlgorithm
---@param key string  # a public key, a certificate or a private key in PEM; or the secret
---@param data string
---@param signature string
---@return boolean? valid
---@return perigee.Error? err  # kind: "invalid" for the key
function M.verify(algorithm, key, data, signature)
  if is_shared(algorithm, key) then
    return core.equal(core.hmac(algorithm, key, data), signature)
  end
  return core.verify(algorithm, key, data, signature)
end

M.uuid = {}

--- A random UUID.
---@return string
function M.uuid.v4()
  return core.uuid_v4()
end

--- A UUID that begins with the time. Those of one worker sort in the order in
--- which they were made.
---@return string
function M.uuid.v7()
  return core.uuid_v7()
end

M.base64 = {}

--- RFC 4648 base64, padded.
---@param data string
---@return string
function M.base64.encode(data)
  return core.base64_encode(data)
end

--- Strict: no white space, padded, no bits left over.
---@param text string
---@return string? data
---@return perigee.Error? err  # kind: "invalid"
function M.base64.decode(text)
  return core.base64_decode(text)
end

M.base64url = {}

--- RFC 4648 base64url: `-` and `_`, without padding.
---@param data string
---@return string
function M.base64url.encode(data)
  return core.base64url_encode(data)
end

--- Strict: no white space, no padding, no bits left over.
---@param text string
---@return string? data
---@return perigee.Error? err  # kind: "invalid"
function M.base64url.decode(text)
  return core.base64url_decode(text)
end

M.hex = {}

--- Hexadecimal digits, lower case.
---@param data string
---@return string
function M.hex.encode(data)
  return core.hex_encode(data)
end

--- Either case; an even number of digits and nothing else.
---@param text string
---@return string? data
---@return perigee.Error? err  # kind: "invalid"
function M.hex.decode(text)
  return core.hex_decode(text)
end

return M
