--- HMAC-SHA256 signatures, compared in constant time.

local crypto = require "perigee.crypto"
local errors = require "perigee.error"

local M = {}

local DECODERS = {
  hex = crypto.hex.decode,
  base64 = crypto.base64.decode,
}

--- Whether one of the candidates signs the data. All are looked at, so that
--- the time taken does not tell which was close.
---@param secret string
---@param data string
---@param candidates string[]
---@param encoding "hex"|"base64"
---@return boolean? signed
---@return perigee.Error? err  # kind "unauthorized"
function M.check(secret, data, candidates, encoding)
  local expected = crypto.hmac("sha256", secret, data)
  local signed = false
  for _, candidate in ipairs(candidates) do
    local given = DECODERS[encoding](candidate)
    if given and crypto.equal(given, expected) then
      signed = true
    end
  end
  if not signed then
    return nil, errors.new("unauthorized", "the signature does not match")
  end
  return true
end

return M
