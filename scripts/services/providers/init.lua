--- The kinds of sources. Each has
---   verify(source, message, now_ms) -> true | nil, err ("unauthorized")
---   describe(source, message) -> Described | nil, err ("invalid")

return {
  github = require "services.providers.github",
  stripe = require "services.providers.stripe",
  generic = require "services.providers.generic",
  none = require "services.providers.none",
}

---@class Message  # a webhook as it came
---@field body string
---@field header fun(name: string): string?  # lower case
---@field json fun(): any, perigee.Error?  # the body decoded

---@class Described
---@field type string
---@field provider_id string?
---@field key IntakeKey?
