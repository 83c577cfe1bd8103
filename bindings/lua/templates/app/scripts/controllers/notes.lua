--- Notes over HTTP: reads the request, calls one service, shapes the answer.

local json = require "perigee.json"
local notes = require "services.notes"

local M = {}

function M.list()
  local list, err = notes.latest()
  if not list then
    return nil, err
  end
  return { notes = json.array(list) }
end

function M.create(req)
  local note, err = notes.add(req.body_json.text)
  if not note then
    return nil, err
  end
  return 201, note, { location = "/notes/" .. note.id }
end

function M.show(req)
  return notes.get(req.params.id)
end

function M.remove(req)
  local removed, err = notes.remove(req.params.id)
  if not removed then
    return nil, err
  end
  return 204
end

return M
