local common = require "schemas.common"

local M = {}

local kind = { enum = { "github", "stripe", "generic", "none" } }

local secret = { type = "string", minLength = 8, maxLength = 512 }

local tolerance = {
  type = "integer",
  minimum = 1,
  maximum = 86400,
  description = "seconds; age of a Stripe signature",
}

local signature = common.object {
  header = {
    type = "string",
    pattern = "^[A-Za-z0-9-]+$",
    maxLength = 64,
  },
  encoding = { enum = { "hex", "base64" } },
  prefix = { type = "string", pattern = "^[!-~]*$", maxLength = 32 },
}

M.new = common.object({
  name = common.source_name,
  kind = kind,
  secret = secret,
  tolerance_s = tolerance,
  signature = signature,
}, { "name", "kind" })

M.change = common.object {
  kind = kind,
  secret = common.nullable(secret),
  tolerance_s = common.nullable(tolerance),
  signature = signature,
}
M.change.minProperties = 1

M.list = common.list(common.source_name)

return M
