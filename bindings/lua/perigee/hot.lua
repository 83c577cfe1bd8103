--- What outlives a change of the code.

local M = {}

--- Plain data (no functions, no metatables) that the next generation of this
--- worker starts with: it is there while the new scripts load, and again, as it
--- is then, when they take over.
---@type table
M.data = {}

local on_load, on_unload = {}, {}

--- Registers a function to run when this generation has taken over.
---@param fn fun()
function M.on_load(fn)
  on_load[#on_load + 1] = fn
end

--- Registers a function to run when the last request of this generation has
--- ended after another one took over.
---@param fn fun()
function M.on_unload(fn)
  on_unload[#on_unload + 1] = fn
end

-- For perigee.app.
function M.run(which)
  for _, fn in ipairs(which == "load" and on_load or on_unload) do
    fn()
  end
end

return M
