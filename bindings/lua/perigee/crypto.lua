--- Crypto: digests, signatures, random bytes, and bytes as text.
--
-- Strings are bytes. Bad text (a key, base64, hexadecimal) gives `nil, err` of
-- kind "invalid"; an unknown algorithm raises.

local core = require "perigee.core.crypto"

local M = {}

---@alias perigee.crypto.HmacAlgorithm
---| "sha1"
---| "sha224"
---| "sha256"
---| "sha384"
---| "sha512"

---@alias perigee.crypto.SignAlgorithm
---| "ed25519"
---| "rsa-sha256"         # PKCS #1 v1.5, 2048 bits or more
---| "ecdsa-p256-sha256"  # signatures in DER

--- The SHA-256 of data, 32 bytes.
---@type fun(data: string): string
M.sha256 = core.sha256

--- The same as 64 lower-case hexadecimal digits.
---@type fun(data: string): string
M.sha256_hex = core.sha256_hex

--- The HMAC of data, raw bytes.
---@type fun(algorithm: perigee.crypto.HmacAlgorithm, key: string, data: string): string
M.hmac = core.hmac

--- The same as lower-case hexadecimal digits.
---@type fun(algorithm: perigee.crypto.HmacAlgorithm, key: string, data: string): string
M.hmac_hex = core.hmac_hex

--- Random bytes fit for keys and tokens, up to 16 MiB.
---@type fun(count: integer): string
M.random = core.random

--- Whether two strings are equal, in a time that depends on their length alone.
---@type fun(a: string, b: string): boolean
M.equal = core.equal

--- Signs data with a private key in PEM text.
---@type fun(algorithm: perigee.crypto.SignAlgorithm, key: string, data: string): string?, perigee.Error?
M.sign = core.sign

--- Whether a signature fits data. The key is a public one, a certificate or a
--- private one in PEM text; one that can't be used is `nil, err`.
---@type fun(algorithm: perigee.crypto.SignAlgorithm, key: string, data: string, signature: string): boolean?, perigee.Error?
M.verify = core.verify

M.uuid = {
  --- A random UUID.
  ---@type fun(): string
  v4 = core.uuid_v4,
  --- A UUID that begins with the time: those of one worker sort in the order
  --- they were made.
  ---@type fun(): string
  v7 = core.uuid_v7,
}

--- RFC 4648 base64: padded, no white space.
M.base64 = {
  ---@type fun(data: string): string
  encode = core.base64_encode,
  ---@type fun(text: string): string?, perigee.Error?
  decode = core.base64_decode,
}

--- RFC 4648 base64url: `-` and `_`, never padded.
M.base64url = {
  ---@type fun(data: string): string
  encode = core.base64url_encode,
  ---@type fun(text: string): string?, perigee.Error?
  decode = core.base64url_decode,
}

--- Hexadecimal: lower case out, either case in.
M.hex = {
  ---@type fun(data: string): string
  encode = core.hex_encode,
  ---@type fun(text: string): string?, perigee.Error?
  decode = core.hex_decode,
}

return M
