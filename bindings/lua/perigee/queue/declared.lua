--- Limits of the configuration and schedules of the code, put into the store.

local json = require "perigee.json"
local log = require "perigee.log"
local options = require "perigee.queue.options"

local M = {}

--- Of the configuration: queue.limits.
---@param client perigee.queue.Client
---@param limits table<string, perigee.queue.Limit>?
function M.limits(client, limits)
  for name, limit in pairs(limits or {}) do
    local ok, err = client:get(name):limit(limit)
    if not ok then
      log.error("limits could not be set", { queue = name, err = err })
    end
  end
end

-- In which a schedule that is no longer in the code may be. The queues of a Redis
-- are not this application's alone.
local function own_queues(client, definitions)
  if not client.driver.is_shared then
    return client.driver:queues() or {}
  end
  local names, seen = {}, {}
  for _, definition in ipairs(definitions) do
    if not seen[definition.queue] then
      seen[definition.queue] = true
      names[#names + 1] = definition.queue
    end
  end
  return names
end

local function put(client, definition)
  local ok, err = client.driver:schedule(definition.queue,
    definition.schedule, {
      every = definition.every, cron = definition.cron,
      tz = definition.tz, catch_up = definition.catch_up,
      limit = definition.limit, origin = "code",
    }, {
      name = definition.schedule,
      data = definition.data ~= nil and assert(json.encode(
        definition.data)) or "{}",
      opts = options.check(definition.opts),
    })
  if not ok then
    log.error("a schedule could not be set",
      { file = definition.file, err = err })
  end
end

--- Before jobs are taken: what came due while nobody was there, and is not to be
--- caught up with, must not be found.
---@param client perigee.queue.Client
---@param definitions perigee.JobDefinition[]
function M.not_caught_up(client, definitions)
  for _, definition in ipairs(definitions) do
    if definition.catch_up == "none"
      and (definition.every or definition.cron) then
      put(client, definition)
    end
  end
end

--- Of scripts/jobs/: what is no longer there ends.
---@param client perigee.queue.Client
---@param definitions perigee.JobDefinition[]
function M.schedules(client, definitions)
  local wanted = {}
  for _, definition in ipairs(definitions) do
    if definition.every or definition.cron then
      wanted[definition.queue .. ":" .. definition.schedule] = true
      put(client, definition)
    end
  end
  for _, name in ipairs(own_queues(client, definitions)) do
    for _, schedule in ipairs(client.driver:schedules(name) or {}) do
      if schedule.origin == "code"
        and not wanted[name .. ":" .. schedule.id] then
        client.driver:unschedule(name, schedule.id)
      end
    end
  end
end

return M
