--- Notes: the rules. Knows nothing of HTTP.

local config = require "perigee.config"
local crypto = require "perigee.crypto"
local data = require "data.notes"
local errors = require "perigee.error"
local time = require "perigee.time"

local M = {}

---@class Note
---@field id string
---@field text string
---@field created_at integer  # Unix time in milliseconds

--- Keeps a note. Blanks around the text are taken off.
---@param text string
---@return Note? note
---@return perigee.Error? err  # kind "unprocessable": nothing is left of it
function M.add(text)
  text = text:match "^%s*(.-)%s*$"
  if text == "" then
    return nil, errors.new("unprocessable", "a note needs some text")
  end
  local note = { id = crypto.uuid.v7(), text = text, created_at = time.now() }
  local kept, err = data.insert(note)
  if not kept then
    return nil, err
  end
  return note
end

--- The newest notes, newest first.
---@return Note[]? notes, perigee.Error? err
function M.latest()
  return data.latest(config.app.notes.page_size)
end

---@param id string
---@return Note? note
---@return perigee.Error? err  # kind "not_found"
function M.get(id)
  local note, err = data.find(id)
  if not note then
    return nil, err or errors.new("not_found", "no note %s", id)
  end
  return note
end

---@param id string
---@return boolean? removed
---@return perigee.Error? err  # kind "not_found"
function M.remove(id)
  local removed, err = data.delete(id)
  if removed then
    return true
  end
  return nil, err or errors.new("not_found", "no note %s", id)
end

return M
