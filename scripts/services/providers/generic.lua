--- Anything that sends an HMAC-SHA256 of the body in a header: which header,
--- whether hex or base64, and what stands before it is the source's to say.

local errors = require "perigee.error"

local none = require "services.providers.none"
local signatures = require "services.signatures"

local M = {}

function M.verify(source, message)
  local form = source.signature
  local given = message.header(form.header)
  if not given then
    return nil, errors.new("unauthorized", "%s is missing", form.header)
  end
  if given:sub(1, #form.prefix) ~= form.prefix then
    return nil, errors.new("unauthorized", "%s does not begin with %s",
      form.header, form.prefix)
  end
  return signatures.check(source.secret, message.body,
    { given:sub(#form.prefix + 1) }, form.encoding)
end

M.describe = none.describe

return M
