--- Sources: the rules for what may send webhooks here.

local errors = require "perigee.error"
local json = require "perigee.json"
local time = require "perigee.time"

local sources = require "data.sources"

local M = {}

local GENERIC = { header = "x-signature", encoding = "hex", prefix = "" }

--- Fills in a generic source's form; refuses what would not mean anything.
local function settle(source)
  if source.kind == "none" then
    if source.secret then
      return nil, errors.new("unprocessable",
        "a source of kind none takes no secret")
    end
  elseif not source.secret then
    return nil, errors.new("unprocessable",
      "a source of kind %s needs a secret", source.kind)
  end
  if source.kind == "generic" then
    local form = source.signature or {}
    source.signature = {
      header = (form.header or GENERIC.header):lower(),
      encoding = form.encoding or GENERIC.encoding,
      prefix = form.prefix or GENERIC.prefix,
    }
  elseif source.signature and next(source.signature) then
    return nil, errors.new("unprocessable",
      "only a source of kind generic has a signature's form")
  end
  return source
end

---@param page Page
---@return List? list
---@return perigee.Error? err
function M.list(page)
  return sources.list(page)
end

---@param name string
---@return Source? source
---@return perigee.Error? err  # kind "not_found"
function M.get(name)
  local source, err = sources.find(name)
  if not source then
    return nil, err or errors.new("not_found", "no source %s", name)
  end
  return source
end

---@param wanted table  # name, kind, secret, tolerance_s, signature
---@return Source? source
---@return perigee.Error? err  # kind "conflict", "unprocessable"
function M.create(wanted)
  local now_ms = time.now()
  local source, err = settle {
    name = wanted.name,
    kind = wanted.kind,
    secret = wanted.secret,
    tolerance_s = wanted.tolerance_s,
    signature = wanted.signature,
    created_at_ms = now_ms,
    updated_at_ms = now_ms,
  }
  if not source then
    return nil, err
  end
  local inserted
  inserted, err = sources.insert(source)
  if not inserted then
    if err.kind == "conflict" then
      err = errors.new("conflict", "there is a source %s already", source.name)
    end
    return nil, err
  end
  return source
end

--- A merge patch: what is absent stays, null takes away.
local function merge(source, changes)
  for name, value in pairs(changes) do
    if value == json.null then
      source[name] = nil
    elseif name == "signature" then
      local form = {}
      for key, old in pairs(source.signature or {}) do
        form[key] = old
      end
      source.signature = merge(form, value)
    else
      source[name] = value
    end
  end
  return source
end

---@param name string
---@param changes table
---@return Source? source
---@return perigee.Error? err  # kind "not_found", "unprocessable"
function M.change(name, changes)
  local source, err = M.get(name)
  if not source then
    return nil, err
  end
  local kind = source.kind
  merge(source, changes)
  if source.kind ~= kind and kind == "generic" and not changes.signature then
    source.signature = nil
  end
  source, err = settle(source)
  if not source then
    return nil, err
  end
  source.updated_at_ms = time.now()
  local updated
  updated, err = sources.update(source)
  if not updated then
    return nil, err or errors.new("not_found", "no source %s", name)
  end
  return source
end

---@param name string
---@return boolean? removed
---@return perigee.Error? err  # kind "not_found", "conflict"
function M.remove(name)
  local outcome, err = sources.remove(name)
  if not outcome then
    return nil, err
  end
  if outcome == "absent" then
    return nil, errors.new("not_found", "no source %s", name)
  end
  if outcome == "used" then
    return nil, errors.new("conflict",
      "source %s has subscriptions; remove them first", name)
  end
  return true
end

return M
