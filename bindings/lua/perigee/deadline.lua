--- Middleware: heeds the deadline that a caller sent on.
---
---     router:group("/", { before = { require "perigee.deadline" } }, ...)
---
--- The HTTP client sends what is left of its task's time as
--- X-Request-Timeout-Ms. A request that carries it has no more time than that:
--- nobody waits for its answer any longer.

local task = require "perigee.task"

return function(req, next)
  local left_ms = tonumber(req:header "x-request-timeout-ms")
  if not left_ms or left_ms < 1 or left_ms >= req.deadline_ms then
    return next(req)
  end
  return task.with_deadline(left_ms, next, req)
end
