--- perigee check: builds routes and schemas without serving. Configuration was
--- found sound before this runs (bindings/stage.c), which also has the scripts
--- that do not compile.

local app = require "perigee.app"
local core = require "perigee.core.app"
local faults = require "perigee.cli.faults"
local router = require "perigee.router"

---@param ... string  # "--json"
---@return integer exit_code
return function(...)
  local as_json = (...) == "--json"
  local list = app.check(faults.split(core.file "@faults" or ""))
  if #list == 0 and not as_json then
    local scripts = 0
    for _, file in ipairs(core.files "scripts/") do
      scripts = scripts + (file:find "%.lua$" and 1 or 0)
    end
    io.stdout:write(("no faults: %d routes, %d scripts\n"):format(
      #router.list(), scripts))
  end
  return faults.report(list, as_json)
end
