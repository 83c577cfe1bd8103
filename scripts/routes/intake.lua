local config = require "perigee.config"

local intake = require "controllers.intake"

return function(router)
  router:post("/in/:source", intake.receive, {
    body_max = config.app.intake.body_max,
    summary = "Takes a webhook in",
    tags = { "intake" },
  })
end
