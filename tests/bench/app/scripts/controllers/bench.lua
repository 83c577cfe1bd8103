--- What the measured routes answer.

local errors = require "perigee.error"
local redis = require "perigee.redis"
local shared = require "perigee.shared"

local M = {}

local main = redis.get "main"
local dict = shared.dict("bench", { size = "10mb" })
dict:set("value", "cached value")

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

function M.near()
  dict:incr("requests", 1, 0)
  return { value = dict:get "value" }
end

function M.other()
  return { other = true }
end

return M
