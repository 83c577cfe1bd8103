local deliveries = require "controllers.deliveries"
local schemas = require "schemas.deliveries"

return function(router)
  router:group("", { before = { require "middleware.token" } },
    function(group)
      group:get("/deliveries", deliveries.list, { query = schemas.list })
      group:get("/deliveries/:id", deliveries.show)
      group:post("/deliveries/:id/retry", deliveries.retry)
      group:post("/deliveries/:id/replay", deliveries.retry)
      group:post("/deliveries/replay", deliveries.replay,
        { body = schemas.replay, timeout = "60s" })
    end)
end
