--- What holds for the whole relay: the headers of every answer, and the
--- janitor, which one worker runs.

local host = require "perigee.host"
local hot = require "perigee.hot"
local task = require "perigee.task"

local janitor = require "services.janitor"

local running

local function stop()
  if running then
    running:cancel()
    running = nil
  end
end

-- The next generation has a janitor of its own; this one must not hold the old
-- state open until its drain ends.
hot.on_unload(stop)

return {
  before = { require "middleware.headers" },

  on_start = function()
    if host.worker == 0 then
      running = task.spawn_detached(janitor.run)
    end
  end,

  on_stop = stop,
}
