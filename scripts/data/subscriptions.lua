--- Table subscriptions: who wants which events of a source, and how.

local json = require "perigee.json"
local sqlite = require "perigee.sqlite"

local page = require "data.page"

local db = sqlite.get "main"

local M = {}

---@class Subscription
---@field id string
---@field source string
---@field target_url string
---@field events string[]  # filters, see services.filters
---@field transform string?
---@field enabled boolean
---@field secret string  # signs what is sent; whsec_...
---@field created_at_ms integer
---@field updated_at_ms integer

local COLUMNS = [[id, source, target_url, events, transform, enabled, secret,
  created_at_ms, updated_at_ms]]

local function read(row)
  return {
    id = row.id,
    source = row.source,
    target_url = row.target_url,
    events = json.decode(row.events),
    transform = row.transform,
    enabled = row.enabled == 1,
    secret = row.secret,
    created_at_ms = row.created_at_ms,
    updated_at_ms = row.updated_at_ms,
  }
end

local function bind(subscription)
  return {
    id = subscription.id,
    source = subscription.source,
    target_url = subscription.target_url,
    events = json.encode(json.array(subscription.events)),
    transform = subscription.transform or json.null,
    enabled = subscription.enabled and 1 or 0,
    secret = subscription.secret,
    created_at_ms = subscription.created_at_ms,
    updated_at_ms = subscription.updated_at_ms,
  }
end

---@param filter { source: string?, enabled: boolean? }
---@param wanted Page
---@return List? list
---@return perigee.Error? err
function M.list(filter, wanted)
  local where, args = {}, {}
  page.filter(where, args, "source", "=", "source", filter.source)
  if filter.enabled ~= nil then
    page.filter(where, args, "enabled", "=", "enabled",
      filter.enabled and 1 or 0)
  end
  return page.read({
    select = "SELECT " .. COLUMNS .. " FROM subscriptions",
    key = "id",
    where = where,
    args = args,
    read = read,
  }, wanted)
end

--- All that are enabled for a source.
---@param source string
---@return Subscription[]? subscriptions
---@return perigee.Error? err
function M.active(source)
  local rows, err = db:query("SELECT " .. COLUMNS .. [[ FROM subscriptions
    WHERE source = ? AND enabled = 1 ORDER BY id]], source)
  if not rows then
    return nil, err
  end
  for i, row in ipairs(rows) do
    rows[i] = read(row)
  end
  return rows
end

--- Returns nil when absent; err only if the database fails.
---@param id string
---@return Subscription? subscription
---@return perigee.Error? err
function M.find(id)
  local row, err = db:one(
    "SELECT " .. COLUMNS .. " FROM subscriptions WHERE id = ?", id)
  if not row then
    return nil, err
  end
  return read(row)
end

---@param subscription Subscription
---@return boolean? inserted  # false: its source does not exist
---@return perigee.Error? err
function M.insert(subscription)
  local done, err = db:exec("INSERT INTO subscriptions (" .. COLUMNS .. [[)
    SELECT :id, name, :target_url, :events, :transform, :enabled, :secret,
      :created_at_ms, :updated_at_ms
    FROM sources WHERE name = :source]], bind(subscription))
  if not done then
    return nil, err
  end
  return done.changes > 0
end

---@param subscription Subscription
---@return boolean? updated  # false: it is gone
---@return perigee.Error? err
function M.update(subscription)
  local args = bind(subscription)
  args.source, args.created_at_ms = nil, nil
  local done, err = db:exec([[UPDATE subscriptions SET
      target_url = :target_url, events = :events, transform = :transform,
      enabled = :enabled, secret = :secret, updated_at_ms = :updated_at_ms
    WHERE id = :id]], args)
  if not done then
    return nil, err
  end
  return done.changes > 0
end

--- Removes it; what has not been delivered yet never will be.
---@param id string
---@param now_ms integer
---@return boolean? removed  # false: there was none
---@return perigee.Error? err
function M.remove(id, now_ms)
  return db:transaction(function(tx)
    local done, err = tx:exec("DELETE FROM subscriptions WHERE id = ?", id)
    if not done then
      return nil, err
    end
    if done.changes == 0 then
      return false
    end
    done, err = tx:exec([[UPDATE deliveries SET status = 'cancelled',
        updated_at_ms = ?
      WHERE subscription_id = ? AND status IN ('new', 'pending')]],
      now_ms, id)
    if not done then
      return nil, err
    end
    return true
  end)
end

return M
