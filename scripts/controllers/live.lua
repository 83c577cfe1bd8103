--- What happens, as server-sent events.

local http = require "perigee.http"
local task = require "perigee.task"

local live = require "services.live"

local M = {}

local WAITING_MAX = 1000 -- messages; a reader that is slower loses some
local SILENCE = "15s" -- then a sign of life, for proxies in between

local function follow(out, waiting, woken)
  while true do
    task.with_deadline(SILENCE, woken.acquire, woken)
    local batch, count = waiting.list, #waiting.list
    waiting.list = {}
    local sent, err
    if count == 0 then
      sent, err = out:send { event = "alive", data = "" }
    end
    for i = 1, count do
      sent, err = out:send { event = batch[i].kind, data = batch[i] }
      if not sent then
        break
      end
    end
    if not sent then
      return nil, err
    end
  end
end

function M.stream()
  return http.sse(function(out)
    local waiting, woken = { list = {} }, task.semaphore(1)
    woken:acquire()
    local off = live.listen(function(message)
      if #waiting.list < WAITING_MAX then
        waiting.list[#waiting.list + 1] = message
      end
      if #waiting.list == 1 then
        woken:release()
      end
    end)
    out:send { event = "alive", data = "" }
    pcall(follow, out, waiting, woken)
    off()
  end)
end

return M
