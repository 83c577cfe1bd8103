--- What holds for the whole relay: the headers of every answer, and the
--- janitor, which one worker runs.

local host = require "perigee.host"
local task = require "perigee.task"

local janitor = require "services.janitor"

local running

return {
  before = { require "middleware.headers" },

  on_start = function()
    if host.worker == 0 then
      running = task.spawn_detached(janitor.run)
    end
  end,

  on_stop = function()
    if running then
      running:cancel()
    end
  end,
}
