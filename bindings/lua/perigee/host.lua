--- The process that this code runs in.

---@class perigee.host
---@field pid integer
---@field worker integer      # this worker's number, from 0
---@field workers integer     # how many there are
---@field generation integer  # the version of the code, from 1
---@field env string          # "development", "staging", "production", "test"
---@field version string      # Perigee's own
---@field dir string          # the application's directory
local M = require("perigee.core.app").host()

return M
