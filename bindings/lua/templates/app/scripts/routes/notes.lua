local notes = require "controllers.notes"
local schemas = require "schemas.notes"

return function(router)
  router:get("/notes", notes.list)
  router:post("/notes", notes.create, { body = schemas.new, body_max = "16kb" })
  router:get("/notes/:id", notes.show)
  router:delete("/notes/:id", notes.remove)
end
