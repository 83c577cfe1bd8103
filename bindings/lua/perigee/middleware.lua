--- Middleware: functions around a handler.

local M = {}

--- One function from a list of middleware and a handler; built once, when the
--- routes are, so that nothing is made for a request.
---@param list fun(req: perigee.Request, next: fun(req): ...)[]
---@param handler fun(req: perigee.Request): ...
---@return fun(req: perigee.Request): ...
function M.compose(list, handler)
  local composed = handler
  for i = #list, 1, -1 do
    local middleware, inner = list[i], composed
    composed = function(req)
      return middleware(req, inner)
    end
  end
  return composed
end

return M
