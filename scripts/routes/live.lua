local live = require "controllers.live"

return function(router)
  router:get("/live", live.stream, {
    before = { require "middleware.token" },
    summary = "Tells of events and deliveries as they happen",
  })
end
