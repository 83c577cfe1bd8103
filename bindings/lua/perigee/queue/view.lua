--- What tools show of queues: the dashboard and `perigee queue`.

local json = require "perigee.json"

local M = {}

--- A job's states, in the order in which they are shown.
M.STATES = { "waiting", "prioritized", "active", "delayed",
  "waiting_children", "paused", "completed", "failed" }

--- A queue's name, whether it is paused, and how many jobs are in each state.
---@param q perigee.Queue
---@return {name: string, paused: boolean, counts: table<string, integer>}?
---@return perigee.Error? err
function M.summary(q)
  local counts, err = q:counts()
  if not counts then
    return nil, err
  end
  local paused
  paused, err = q:is_paused()
  if paused == nil then
    return nil, err
  end
  return { name = q.name, paused = paused, counts = counts }
end

--- A text as JSON takes it; what is long is cut where a character ends.
---@param text string?
---@param max integer? # bytes
---@return string?
function M.text(text, max)
  if text and max and #text > max then
    text = text:sub(1, max):gsub("[\192-\255][\128-\191]*$", "") .. " ..."
  end
  return text and json.text(text)
end

--- The last of a list of texts.
---@param list string[]?
---@param max integer?   # bytes of one
---@param count integer?
---@return string[]
function M.texts(list, max, count)
  list = list or {}
  local shown = json.array {}
  for i = math.max(1, #list - (count or #list) + 1), #list do
    shown[#shown + 1] = M.text(list[i], max)
  end
  return shown
end

return M
