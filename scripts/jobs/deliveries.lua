--- Sends what is to be delivered. A job that is cut off, by a stop or a crash,
--- runs again: targets know a repeat by its webhook-id.

local config = require "perigee.config"
local units = require "perigee.units"

local sending = require "services.sending"

local limits = config.app.delivery

return {
  queue = "deliveries",
  concurrency = limits.concurrency,
  timeout = units.duration(limits.timeout) + 10000,
  backoff = sending.backoff,
  run = sending.run,
}
