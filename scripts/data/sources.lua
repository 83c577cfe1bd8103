--- Table sources: where webhooks come from. Rows hold the secret; only
--- services.intake may look at it.

local json = require "perigee.json"
local sqlite = require "perigee.sqlite"

local page = require "data.page"

local db = sqlite.get "main"

local M = {}

---@class Source
---@field name string
---@field kind "github"|"stripe"|"generic"|"none"
---@field secret string?
---@field tolerance_s integer?
---@field signature { header: string?, encoding: string?, prefix: string? }
---@field created_at_ms integer
---@field updated_at_ms integer

local COLUMNS = [[name, kind, secret, tolerance_s, signature_header,
  signature_encoding, signature_prefix, created_at_ms, updated_at_ms]]

local function read(row)
  return {
    name = row.name,
    kind = row.kind,
    secret = row.secret,
    tolerance_s = row.tolerance_s,
    signature = {
      header = row.signature_header,
      encoding = row.signature_encoding,
      prefix = row.signature_prefix,
    },
    created_at_ms = row.created_at_ms,
    updated_at_ms = row.updated_at_ms,
  }
end

local function bind(source)
  local signature = source.signature or {}
  return {
    name = source.name,
    kind = source.kind,
    secret = source.secret or json.null,
    tolerance_s = source.tolerance_s or json.null,
    signature_header = signature.header or json.null,
    signature_encoding = signature.encoding or json.null,
    signature_prefix = signature.prefix or json.null,
    created_at_ms = source.created_at_ms,
    updated_at_ms = source.updated_at_ms,
  }
end

---@param wanted Page
---@return List? list
---@return perigee.Error? err
function M.list(wanted)
  return page.read({
    select = "SELECT " .. COLUMNS .. " FROM sources",
    key = "name",
    read = read,
  }, wanted)
end

--- Returns nil when absent; err only if the database fails.
---@param name string
---@return Source? source
---@return perigee.Error? err
function M.find(name)
  local row, err = db:one(
    "SELECT " .. COLUMNS .. " FROM sources WHERE name = ?", name)
  if not row then
    return nil, err
  end
  return read(row)
end

---@param source Source
---@return boolean? inserted
---@return perigee.Error? err  # kind "conflict": the name is taken
function M.insert(source)
  local done, err = db:exec("INSERT INTO sources (" .. COLUMNS .. [[)
    VALUES (:name, :kind, :secret, :tolerance_s, :signature_header,
      :signature_encoding, :signature_prefix, :created_at_ms,
      :updated_at_ms)]], bind(source))
  if not done then
    return nil, err
  end
  return true
end

---@param source Source
---@return boolean? updated  # false: it is gone
---@return perigee.Error? err
function M.update(source)
  local args = bind(source)
  args.created_at_ms = nil
  local done, err = db:exec([[UPDATE sources SET kind = :kind,
      secret = :secret, tolerance_s = :tolerance_s,
      signature_header = :signature_header,
      signature_encoding = :signature_encoding,
      signature_prefix = :signature_prefix, updated_at_ms = :updated_at_ms
    WHERE name = :name]], args)
  if not done then
    return nil, err
  end
  return done.changes > 0
end

--- Removes a source that no subscription uses, and what it has seen, so that a
--- later source of that name starts afresh.
---@param name string
---@return "removed"|"absent"|"used"|nil outcome
---@return perigee.Error? err
function M.remove(name)
  return db:transaction(function(tx)
    local used, err = tx:one(
      "SELECT 1 AS yes FROM subscriptions WHERE source = ? LIMIT 1", name)
    if err then
      return nil, err
    end
    if used then
      return "used"
    end
    local done
    done, err = tx:exec("DELETE FROM sources WHERE name = ?", name)
    if not done then
      return nil, err
    end
    if done.changes == 0 then
      return "absent"
    end
    done, err = tx:exec("DELETE FROM intake_keys WHERE source = ?", name)
    if not done then
      return nil, err
    end
    return "removed"
  end)
end

return M
