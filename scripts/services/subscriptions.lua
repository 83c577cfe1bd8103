--- Subscriptions: the rules for who gets what.

local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local json = require "perigee.json"
local time = require "perigee.time"

local subscriptions = require "data.subscriptions"
local transforms = require "services.transforms"
local webhooks = require "services.webhooks"

local M = {}

--- A transform that cannot be loaded now would fail every delivery.
local function check_transform(name)
  if name == nil then
    return true
  end
  local found, err = transforms.load(name)
  if not found then
    return nil, err
  end
  return true
end

---@param filter { source: string?, enabled: boolean? }
---@param page Page
---@return List? list
---@return perigee.Error? err
function M.list(filter, page)
  return subscriptions.list(filter, page)
end

---@param id string
---@return Subscription? subscription
---@return perigee.Error? err  # kind "not_found"
function M.get(id)
  local subscription, err = subscriptions.find(id)
  if not subscription then
    return nil, err or errors.new("not_found", "no subscription %s", id)
  end
  return subscription
end

local function check_secret(secret)
  if secret and not webhooks.key_of(secret) then
    return nil, errors.new("unprocessable",
      "secret: whsec_ and the base64 of 24 to 64 bytes expected")
  end
  return true
end

---@param wanted table  # source, target_url, events, transform, enabled, secret
---@return Subscription? subscription
---@return perigee.Error? err  # kind "unprocessable"
function M.create(wanted)
  local fits, err = check_transform(wanted.transform)
  if fits then
    fits, err = check_secret(wanted.secret)
  end
  if not fits then
    return nil, err
  end
  local now_ms = time.now()
  local subscription = {
    id = crypto.uuid.v7(),
    source = wanted.source,
    target_url = wanted.target_url,
    events = wanted.events or { "*" },
    transform = wanted.transform,
    enabled = wanted.enabled ~= false,
    secret = wanted.secret or webhooks.new_secret(),
    created_at_ms = now_ms,
    updated_at_ms = now_ms,
  }
  local inserted
  inserted, err = subscriptions.insert(subscription)
  if not inserted then
    return nil, err
      or errors.new("unprocessable", "no source %s", wanted.source)
  end
  return subscription
end

---@param id string
---@param changes table  # a merge patch
---@return Subscription? subscription
---@return perigee.Error? err  # kind "not_found", "unprocessable"
function M.change(id, changes)
  local subscription, err = M.get(id)
  if not subscription then
    return nil, err
  end
  for name, value in pairs(changes) do
    if value == json.null then
      value = nil
    end
    subscription[name] = value
  end
  subscription.secret = subscription.secret or webhooks.new_secret()
  local sound
  sound, err = check_secret(changes.secret and subscription.secret)
  if not sound then
    return nil, err
  end
  if changes.transform then
    local fits
    fits, err = check_transform(subscription.transform)
    if not fits then
      return nil, err
    end
  end
  subscription.updated_at_ms = time.now()
  local updated
  updated, err = subscriptions.update(subscription)
  if not updated then
    return nil, err or errors.new("not_found", "no subscription %s", id)
  end
  return subscription
end

--- Removes it; its deliveries that are still to be made are cancelled.
---@param id string
---@return boolean? removed
---@return perigee.Error? err  # kind "not_found"
function M.remove(id)
  local removed, err = subscriptions.remove(id, time.now())
  if err then
    return nil, err
  end
  if not removed then
    return nil, errors.new("not_found", "no subscription %s", id)
  end
  return true
end

return M
