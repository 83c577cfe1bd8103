--- What holds for the whole relay: the headers of every answer, and the
--- janitor, which one worker runs.

local host = require "perigee.host"
local task = require "perigee.task"

local delivery_queue = require "data.delivery_queue"
local deliveries = require "services.deliveries"
local janitor = require "services.janitor"

local running, off

return {
  before = { require "middleware.headers" },

  on_start = function()
    if host.worker == 0 then
      running = task.spawn_detached(janitor.run)
      off = delivery_queue.on_failed(deliveries.given_up)
    end
  end,

  on_stop = function()
    if running then
      running:cancel()
      off()
    end
  end,
}
