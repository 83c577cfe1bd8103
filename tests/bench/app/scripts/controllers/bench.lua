--- What the measured routes answer.

local errors = require "perigee.error"
local redis = require "perigee.redis"

local M = {}

local main = redis.get "main"

function M.plaintext()
  return "Hello, World!"
end

function M.json()
  return { message = "Hello, World!" }
end

function M.user(req)
  local id = req.params.id
  return { id = id, name = "user " .. id }
end

function M.echo(req)
  return { hello = req.body_json.name }
end

function M.cache()
  local value, err = main:get "bench:cache"
  if not value then
    return nil, err or errors.new("unavailable", "no key")
  end
  return { value = value }
end

function M.other()
  return { other = true }
end

return M
