local subscriptions = require "controllers.subscriptions"
local schemas = require "schemas.subscriptions"

return function(router)
  router:group("", { before = { require "middleware.token" } },
    function(group)
      group:get("/subscriptions", subscriptions.list, { query = schemas.list })
      group:post("/subscriptions", subscriptions.create, { body = schemas.new })
      group:get("/subscriptions/:id", subscriptions.show)
      group:patch("/subscriptions/:id", subscriptions.change,
        { body = schemas.change })
      group:delete("/subscriptions/:id", subscriptions.remove)
      group:get("/subscriptions/:id/secret", subscriptions.secret)
      group:post("/subscriptions/:id/secret/rotate", subscriptions.rotate)
    end)
end
