--- Queues in Redis: a job as the script that adds jobs takes it.

local codec = require "perigee.queue.redis.codec"

local M = {}

--- Whether the short script will do.
---@param opts perigee.queue.Options
---@return boolean
function M.is_plain(opts)
  return next(opts) == nil or not (opts.job_id or opts.delay or opts.priority
    or opts.lifo or opts.dedup or opts.timestamp)
end

--- Appends name, data, options.
---@param args any[]
---@param entry perigee.queue.Entry
function M.put_plain(args, entry)
  local n = #args
  args[n + 1] = entry.name
  args[n + 2] = entry.data
  args[n + 3] = codec.options_text(entry.opts)
end

local function flags_of(opts, has_children)
  local dedup = opts.dedup
  return (opts.lifo and "l" or "") .. (has_children and "p" or "")
    .. (dedup and dedup.extend and "e" or "")
    .. (dedup and dedup.replace and "r" or "")
end

---@class perigee.queue.redis.Place
---@field key integer          # which of the script's keys is the queue's root
---@field now integer
---@field id string?           # unless opts has one
---@field has_children boolean?
---@field parent_key string?   # of the parent's hash
---@field parent string?       # JSON
---@field opts_text string?    # unless made from opts

--- Appends all 14 texts.
---@param args any[]
---@param entry perigee.queue.Entry
---@param place perigee.queue.redis.Place
function M.put(args, entry, place)
  local opts, n = entry.opts, #args
  local dedup = opts.dedup
  args[n + 1] = place.key
  args[n + 2] = flags_of(opts, place.has_children)
  args[n + 3] = opts.job_id or place.id or ""
  args[n + 4] = entry.name
  args[n + 5] = entry.data
  args[n + 6] = place.opts_text or codec.options_text(opts)
  args[n + 7] = opts.timestamp or place.now
  args[n + 8] = opts.delay or 0
  args[n + 9] = opts.priority or 0
  args[n + 10] = place.parent_key or ""
  args[n + 11] = place.parent or ""
  args[n + 12] = ""
  args[n + 13] = dedup and dedup.id or ""
  args[n + 14] = dedup and dedup.ttl or 0
end

return M
