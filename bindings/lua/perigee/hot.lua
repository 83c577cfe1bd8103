--- What outlives a change of the code.

local errors = require "perigee.error"
local log = require "perigee.log"

local M = {}

--- Plain data (no functions, no metatables but that of JSON's lists) that the next generation of this
--- worker starts with: it is there while the new scripts load. When they take
--- over, the fields that the old ones have changed since come too, but for those
--- that the new scripts have set while loading.
---@type table
M.data = {}

local on_load, on_unload = {}, {}

local function check_function(fn)
  if type(fn) ~= "function" then
    error("a function expected, got a " .. type(fn), 3)
  end
end

--- Registers a function to run when this generation has taken over.
---@param fn fun()
function M.on_load(fn)
  check_function(fn)
  on_load[#on_load + 1] = fn
end

--- Registers a function to run when the last request of this generation has
--- ended after another one took over.
---@param fn fun()
function M.on_unload(fn)
  check_function(fn)
  on_unload[#on_unload + 1] = fn
end

local handed = {} -- as it came, to see what the loading scripts have changed

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local made = {}
  for key, inner in pairs(value) do made[key] = copy(inner) end
  return setmetatable(made, getmetatable(value)) -- a list of JSON stays one
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- For C: the old generation's data, before the scripts load.
function M.given(data)
  handed = data
  for key, value in pairs(data) do M.data[key] = copy(value) end
end

-- For C: the old generation's data, when this one takes over.
function M.merge(data)
  if type(M.data) ~= "table" then
    return
  end
  local keys = {}
  for key in pairs(handed) do keys[key] = true end
  for key in pairs(data) do keys[key] = true end
  for key in pairs(keys) do
    if same(M.data[key], handed[key]) then
      M.data[key] = data[key]
    end
  end
  handed = {}
end

-- For perigee.app. One that fails holds up no other, nor the jobs and on_stop
-- that come behind; one that is cut off, since newer code took over, is fine.
function M.run(which)
  for _, fn in ipairs(which == "load" and on_load or on_unload) do
    local ok, err = pcall(fn)
    if not ok and not (errors.is(err) and err.kind == "cancelled") then
      log.error(("on_%s failed"):format(which), { err = err })
    end
  end
end

return M
