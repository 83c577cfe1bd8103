--- Redis: `redis.get "main"` and what it gives.

local Client = require "perigee.redis.client"
local core = require "perigee.core.redis"

local M = {}

local open = {}

--- The Redis of that name in the configuration (redis.NAME.url). Connects when
--- the first command comes.
---@param name string? # "main" unless told
---@return perigee.redis.Client
function M.get(name)
  name = name or "main"
  local client = open[name]
  if not client then
    local handle, why = core.open(name)
    if not handle then
      error(why and ("redis %s: %s"):format(name, why)
        or ("no Redis %q: set redis.%s.url in config/"):format(
          tostring(name), tostring(name)), 2)
    end
    local options = require("perigee.config").redis[name]
    client = setmetatable({
      core = handle,
      timeout_ms = options.timeout,
    }, { __index = Client })
    open[name] = client
  end
  return client
end

return M
