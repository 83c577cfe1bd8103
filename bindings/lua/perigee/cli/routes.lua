--- perigee routes: method, path and where the handler is.

local app = require "perigee.app"
local faults = require "perigee.cli.faults"
local json = require "perigee.json"
local router = require "perigee.router"

local function print_table(list)
  local method, path = 6, 4
  for _, route in ipairs(list) do
    method = math.max(method, #route.method)
    path = math.max(path, #route.path)
  end
  local format = ("%%-%ds  %%-%ds  %%s\n"):format(method, path)
  for _, route in ipairs(list) do
    io.stdout:write(format:format(route.method, route.path, route.handler))
  end
end

---@param ... string  # "--json"
---@return integer exit_code
return function(...)
  local list = app.check {}
  if #list > 0 then
    return faults.report(list, false)
  end
  local routes = router.list()
  if (...) == "--json" then
    io.stdout:write(json.encode(json.array(routes)), "\n")
  else
    print_table(routes)
  end
  return 0
end
