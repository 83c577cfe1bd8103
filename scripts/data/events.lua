--- Table events: what came in, byte for byte.

local json = require "perigee.json"
local sqlite = require "perigee.sqlite"

local page = require "data.page"

local db = sqlite.get "main"

local M = {}

---@class Event
---@field id string
---@field source string
---@field type string
---@field provider_id string?
---@field content_type string?
---@field headers table<string, string>
---@field body string?  # absent in lists
---@field size integer
---@field deliveries integer
---@field received_at_ms integer

local COLUMNS = [[id, source, type, provider_id, content_type, headers, size,
  deliveries, received_at_ms]]

local function read(row)
  row.headers = json.decode(row.headers)
  return row
end

--- The smallest id of a moment: ids are UUIDs of version 7.
local function id_at(time_ms)
  local hex = string.format("%012x", time_ms)
  return hex:sub(1, 8) .. "-" .. hex:sub(9)
end

---@class EventFilter
---@field source string?
---@field type string?  # this type and those below it ("a" has "a.b")
---@field since_ms integer?
---@field until_ms integer?

---@param filter EventFilter
---@param wanted Page
---@return List? list  # newest first
---@return perigee.Error? err
function M.list(filter, wanted)
  local where, args = {}, {}
  page.filter(where, args, "source", "=", "source", filter.source)
  if filter.type then
    -- "/" is the character after ".".
    where[#where + 1] = "(type = :type OR (type > :below AND type < :above))"
    args.type = filter.type
    args.below, args.above = filter.type .. ".", filter.type .. "/"
  end
  if filter.since_ms then
    page.filter(where, args, "id", ">=", "since", id_at(filter.since_ms))
  end
  if filter.until_ms then
    page.filter(where, args, "id", "<", "before", id_at(filter.until_ms))
  end
  return page.read({
    select = "SELECT " .. COLUMNS .. " FROM events",
    key = "id",
    descending = true,
    where = where,
    args = args,
    read = read,
  }, wanted)
end

--- Returns nil when absent; err only if the database fails.
---@param id string
---@return Event? event  # with its body
---@return perigee.Error? err
function M.find(id)
  local row, err = db:one(
    "SELECT " .. COLUMNS .. ", body FROM events WHERE id = ?", id)
  if not row then
    return nil, err
  end
  return read(row)
end

--- Removes what came in before a moment, with its deliveries, at most
--- `limit` events; says how many.
---@param before_ms integer
---@param limit integer
---@return integer? removed
---@return perigee.Error? err
function M.purge(before_ms, limit)
  return db:transaction(function(tx)
    local doomed = "(SELECT id FROM events WHERE id < ? ORDER BY id LIMIT ?)"
    local before = id_at(before_ms)
    local done, err
    for _, sql in ipairs {
      "DELETE FROM attempts WHERE delivery_id IN (SELECT id FROM deliveries "
        .. "WHERE event_id IN " .. doomed .. ")",
      "DELETE FROM deliveries WHERE event_id IN " .. doomed,
      "DELETE FROM intake_keys WHERE event_id IN " .. doomed,
      "DELETE FROM events WHERE id IN " .. doomed,
    } do
      done, err = tx:exec(sql, before, limit)
      if not done then
        return nil, err
      end
    end
    return done.changes
  end)
end

return M
