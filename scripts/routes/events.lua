local events = require "controllers.events"
local schemas = require "schemas.events"

return function(router)
  router:group("", { before = { require "middleware.token" } },
    function(group)
      group:get("/events", events.list, { query = schemas.list })
      group:get("/events/:id", events.show)
      group:get("/events/:id/body", events.body)
    end)
end
