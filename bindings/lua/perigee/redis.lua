--- Redis: `redis.get "main"` and what it gives.

local blame = require("perigee.options").blame
local Client = require "perigee.redis.client"
local core = require "perigee.core.redis"

local M = {}

local open = {}

-- Where several servers answer to one name.
local function routed(name, target, options)
  local router
  if target.mode == "cluster" then
    router = require("perigee.redis.cluster").new(name, target.hosts)
  else
    router = require("perigee.redis.sentinel").new(name, target.hosts,
      target.master)
  end
  router.read = options.read_from == "replica"
  return setmetatable({
    router = router,
    read = options.read_from == "replica",
    timeout_ms = options.timeout,
  }, { __index = require "perigee.redis.routed" })
end

--- The Redis of that name in the configuration (redis.NAME.url). Connects when
--- the first command comes.
---@param name string? # "main" unless told
---@return perigee.redis.Client
function M.get(name)
  name = name or "main"
  local client = open[name]
  if not client then
    local opened, why = core.open(name)
    if not opened then
      blame(why and ("redis %s: %s"):format(name, why)
        or ("no Redis %q: set redis.%s.url in config/"):format(
          tostring(name), tostring(name)))
    end
    local options = require("perigee.config").redis[name]
    if type(opened) == "table" then
      client = routed(name, opened, options)
    else
      client = setmetatable({
        core = opened,
        timeout_ms = options.timeout,
      }, { __index = Client })
    end
    open[name] = client
  end
  return client
end

return M
