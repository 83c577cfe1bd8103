--- Files of scripts/ that the host loads by their paths: routes and jobs.

local core = require "perigee.core.app"

local M = {}

--- What a file returns. It is the module that require gives, but for one with a
--- dot in its name (v1.2.lua), which require would look for in folders.
---@param file string  # "scripts/routes/orders.lua"
function M.load(file)
  local path = file:gsub("^scripts/", ""):gsub("%.lua$", "")
  if not path:find(".", 1, true) then
    return require((path:gsub("/", ".")))
  end
  if not package.preload[file] then
    local chunk, err = loadstring(core.file(file), "@" .. file)
    package.preload[file] = chunk or error(err, 0)
  end
  return require(file)
end

return M
