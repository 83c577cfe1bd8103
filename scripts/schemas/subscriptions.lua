local common = require "schemas.common"

local M = {}

local PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}"
  .. "|655[0-2][0-9]|6553[0-5])"

-- No user:password@: it would be logged and shown. A host is a name of up to 253
-- characters or an address, and perhaps a port: more is none.
local target_url = {
  type = "string",
  format = "uri",
  pattern = "^[Hh][Tt][Tt][Pp][Ss]?://"
    .. "([^/?#@:\\[\\]]{1,253}|\\[[0-9A-Fa-f:.]+\\])(:" .. PORT .. "?)?"
    .. "([/?][^#@]*)?$",
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
