--- The measured routes, among fifty others.

local bench = require "controllers.bench"
local echo = require "schemas.echo"

local OTHERS = 25

return function(router)
  for i = 1, OTHERS do
    router:get(("/r%d/list"):format(i), bench.other)
    router:get(("/r%d/item/:id"):format(i), bench.other)
  end
  router:get("/plaintext", bench.plaintext)
  router:get("/json", bench.json)
  router:get("/users/:id", bench.user)
  router:get("/cache", bench.cache)
  router:get("/local", bench.near)
  router:post("/echo", bench.echo, { body = echo })
end
