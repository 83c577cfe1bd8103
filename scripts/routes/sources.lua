local sources = require "controllers.sources"
local schemas = require "schemas.sources"

return function(router)
  router:group("", { before = { require "middleware.token" } },
    function(group)
      group:get("/sources", sources.list, { query = schemas.list })
      group:post("/sources", sources.create, { body = schemas.new })
      group:get("/sources/:name", sources.show)
      group:patch("/sources/:name", sources.change, { body = schemas.change })
      group:delete("/sources/:name", sources.remove)
    end)
end
