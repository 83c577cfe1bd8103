--- Sources by API.

local paging = require "controllers.paging"
local views = require "controllers.views"
local sources = require "services.sources"

local M = {}

function M.list(req)
  local list, err = sources.list(paging.of(req))
  if not list then
    return nil, err
  end
  return paging.answer(req, list, views.source)
end

function M.create(req)
  local source, err = sources.create(req.body_json)
  if not source then
    return nil, err
  end
  return 201, views.source(source), { location = "/sources/" .. source.name }
end

function M.show(req)
  local source, err = sources.get(req.params.name)
  if not source then
    return nil, err
  end
  return 200, views.source(source)
end

function M.change(req)
  local source, err = sources.change(req.params.name, req.body_json)
  if not source then
    return nil, err
  end
  return 200, views.source(source)
end

function M.remove(req)
  local removed, err = sources.remove(req.params.name)
  if not removed then
    return nil, err
  end
  return 204
end

return M
