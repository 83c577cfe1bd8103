local config = require "perigee.config"

return function(router)
  router:get("/", function()
    return { app = config.app.name, notes = "/notes" }
  end)
end
