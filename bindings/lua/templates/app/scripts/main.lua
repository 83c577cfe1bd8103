--- What holds for the whole application.

local config = require "perigee.config"
local log = require "perigee.log"

return {
  on_start = function()
    log.debug("a worker is ready", { app = config.app.name })
  end,
}
