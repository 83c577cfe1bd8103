local common = require "schemas.common"

local M = {}

-- No user:password@: it would be logged and shown. A host is a name (253) and a
-- port: more is none, and no group of the queue's.
local target_url = {
  type = "string",
  format = "uri",
  pattern = "^https?://[^/?#@]{1,259}([/?][^#@]*)?$",
  maxLength = 2048,
}

local events = {
  type = "array",
  items = {
    type = "string",
    pattern = "^([*]|[A-Za-z0-9][A-Za-z0-9_.:/-]*(\\.[*])?)$",
    maxLength = 200,
  },
  minItems = 1,
  maxItems = 100,
  uniqueItems = true,
}

local transform = {
  type = "string",
  pattern = "^[a-z][a-z0-9_]*$",
  maxLength = 64,
}

-- Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes.
local secret = {
  type = "string",
  pattern = "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$",
}

M.new = common.object({
  source = common.source_name,
  target_url = target_url,
  events = events,
  transform = transform,
  enabled = { type = "boolean" },
  secret = secret,
}, { "source", "target_url" })

M.change = common.object {
  target_url = target_url,
  events = events,
  transform = common.nullable(transform),
  enabled = { type = "boolean" },
  secret = common.nullable(secret), -- null: a new one
}
M.change.minProperties = 1

M.list = common.list(common.uuid, {
  source = common.source_name,
  enabled = { type = "boolean" },
})

return M
