--- What the relay sends is signed as Standard Webhooks says
--- (https://www.standardwebhooks.com): three headers, a secret that begins with
--- whsec_, HMAC-SHA256 over the id, the time and the body.

local crypto = require "perigee.crypto"

local M = {}

local SECRET_BYTES = 24

--- A new secret.
---@return string
function M.new_secret()
  return "whsec_" .. crypto.base64.encode(crypto.random(SECRET_BYTES))
end

--- The key that a secret stands for; nil when it is none.
---@param secret string
---@return string? key
function M.key_of(secret)
  local key = crypto.base64.decode((secret:gsub("^whsec_", "")))
  return key and #key >= SECRET_BYTES and #key <= 64 and key or nil
end

--- The headers of a message.
---@param secret string
---@param id string  # the same at every attempt
---@param time_s integer
---@param body string
---@return table<string, string>
function M.headers(secret, id, time_s, body)
  local signed = ("%s.%d.%s"):format(id, time_s, body)
  return {
    ["webhook-id"] = id,
    ["webhook-timestamp"] = ("%d"):format(time_s),
    ["webhook-signature"] = "v1," .. crypto.base64.encode(
      crypto.hmac("sha256", assert(M.key_of(secret)), signed)),
  }
end

return M
