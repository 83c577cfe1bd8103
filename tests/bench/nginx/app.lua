--- The same routes for nginx with its Lua module: what a user might pick
--- instead. Loaded once, by init_by_lua.

local cjson = require "cjson.safe"

local has_redis, redis = pcall(require, "nginx.redis")
if not has_redis then
  has_redis, redis = pcall(require, "resty.redis")
end

local ngx = ngx
local M = {}

local REDIS_PORT = tonumber(os.getenv "REDIS_PORT" or 6379)

local function send(status, content_type, body)
  ngx.status = status
  ngx.header["Content-Type"] = content_type
  ngx.header["Content-Length"] = #body
  ngx.print(body)
end

local function send_json(status, value)
  send(status, "application/json", cjson.encode(value))
end

function M.plaintext()
  send(200, "text/plain", "Hello, World!")
end

function M.json()
  send_json(200, { message = "Hello, World!" })
end

function M.user()
  local id = ngx.var.uri:sub(#"/users/" + 1)
  if id == "" or id:find("/", 1, true) then
    return send_json(404, { title = "Not Found" })
  end
  send_json(200, { id = id, name = "user " .. id })
end

function M.echo()
  ngx.req.read_body()
  local value = cjson.decode(ngx.req.get_body_data() or "")
  if type(value) ~= "table" or type(value.name) ~= "string" then
    return send_json(400, { title = "Bad Request" })
  end
  send_json(200, { hello = value.name })
end

function M.cache()
  if not has_redis then
    return send_json(501, { title = "no Redis client is installed" })
  end
  local r = redis:new()
  r:set_timeouts(1000, 1000, 1000)
  local value, err = r:connect("127.0.0.1", REDIS_PORT)
  if value then
    value, err = r:get "bench:cache"
  end
  if not value or value == ngx.null then
    return send_json(502, { title = err or "no key" })
  end
  r:set_keepalive(60000, 512)
  send_json(200, { value = value })
end

function M.near()
  local dict = ngx.shared.bench
  dict:incr("requests", 1, 0)
  send_json(200, { value = dict:get "value" })
end

function M.other()
  send_json(200, { other = true })
end

return M
