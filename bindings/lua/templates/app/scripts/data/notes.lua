--- Notes in SQLite. Takes and returns plain tables.

local sqlite = require "perigee.sqlite"

local db = sqlite.get "main"

local M = {}

function M.insert(note)
  return db:exec("INSERT INTO notes (id, text, created_at)"
    .. " VALUES (:id, :text, :created_at)", note)
end

function M.latest(limit)
  return db:query("SELECT id, text, created_at FROM notes"
    .. " ORDER BY id DESC LIMIT ?", limit)
end

function M.find(id)
  return db:one("SELECT id, text, created_at FROM notes WHERE id = ?", id)
end

--- True, or nil when there is none of that id.
function M.delete(id)
  local done, err = db:exec("DELETE FROM notes WHERE id = ?", id)
  if not done then
    return nil, err
  end
  return done.changes > 0 or nil
end

return M
