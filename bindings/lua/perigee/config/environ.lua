--- Variables of the environment and of .env files as settings:
--- PERIGEE_HTTP__PORT, the bare names that other programs use too (PORT,
--- REDIS_URL, ...), and NAME_FILE for secrets that lie in files.

local otel = require "perigee.config.otel"
local types = require "perigee.config.types"

local M = {}

---@class perigee.config.Variables
---@field values table<string, string>
---@field label fun(name: string): string  # where a variable came from

local BARE = {
  { "PORT", "http.port" },
  { "HOST", "http.host" },
  { "LOG_LEVEL", "log.level", string.lower },
  { "REDIS_URL", "redis.main.url" },
  { "AMQP_URL", "rabbitmq.main.url" },
  { "KAFKA_BROKERS", "kafka.main.brokers" },
  { "WEB_CONCURRENCY", "cluster.workers" },
  { "STATSD_HOST", "metrics.statsd.host" },
  { "STATSD_PORT", "metrics.statsd.port" },
}

local MAX_SECRET_BYTES = 1048576

--- Reads a secret's file, relative to the application; one trailing line break
--- is dropped.
---@return string? text, string? why
function M.read_secret(dir, path)
  local full = path:sub(1, 1) == "/" and path or dir .. "/" .. path
  local file, why = io.open(full, "rb")
  if not file then
    return nil, why
  end
  local text, failed = file:read(MAX_SECRET_BYTES)
  file:close()
  if failed then
    return nil, full .. ": " .. tostring(failed)
  end
  return (text or ""):gsub("\r?\n$", "", 1)
end

--- The value of a variable, or what is in the file that NAME_FILE names.
---@param context table  # {dir, fault, secrets}
---@param variables perigee.config.Variables
---@param name string
---@return string? value, string? source
function M.lookup(context, variables, name)
  local value = variables.values[name]
  local file_name = name .. "_FILE"
  local file = variables.values[file_name]
  if value ~= nil and value ~= "" then
    return value, variables.label(name)
  elseif not file or file == "" then
    return value, variables.label(name)
  end
  local text, why = M.read_secret(context.dir, file)
  if not text then
    context.fault(variables.label(file_name), why)
    return nil
  end
  context.secrets[text] = true
  return text, variables.label(file_name)
end

local function split(path)
  local keys = {}
  for key in path:gmatch "[^.]+" do
    keys[#keys + 1] = key
  end
  return keys
end

local function set_text(context, keys, text, source)
  local path, t, _, existing = context.tree:locate(context.schema, keys)
  local value
  if t == nil then
    value = text -- an unknown key: validation says so
  elseif t.kind == "open" and type(existing) == "string" then
    value = text
  else
    value = types.parse(t, text)
  end
  if text == "" and t and t.kind ~= "string" and t.kind ~= "open" then
    return -- NAME= in a compose file means that it is not set
  end
  context.tree:set(path, value, source)
end

-- sqlite:path, sqlite:///abs, file:path; postgres goes to its own section.
local function database_url(context, url, source)
  local scheme, rest = url:match "^([%a][%w+]*):(.*)$"
  if scheme == "sqlite" or scheme == "sqlite3" or scheme == "file" then
    local path = rest:gsub("^//", "", 1):gsub("%?.*$", "")
    context.tree:set({ "sqlite", "main", "path" }, path, source)
  elseif scheme == "postgres" or scheme == "postgresql" then
    context.tree:set({ "postgres", "main", "url" }, url, source)
  else
    context.fault(source, "must be a URL that begins with sqlite:, file: or "
      .. "postgres:")
  end
end

local function apply_bare(context, variables)
  for _, rule in ipairs(BARE) do
    local text, source = M.lookup(context, variables, rule[1])
    if text and text ~= "" then
      set_text(context, split(rule[2]), rule[3] and rule[3](text) or text,
        source)
    end
  end
  local url, source = M.lookup(context, variables, "DATABASE_URL")
  if url and url ~= "" then
    database_url(context, url, source)
  end
  otel.apply(function(name)
    return (M.lookup(context, variables, name))
  end, function(path, value, name)
    local keys, layer = split(path), value
    for i = #keys, 1, -1 do
      layer = { [keys[i]] = layer }
    end
    context.tree:merge(layer, function()
      return variables.label(name)
    end)
  end, function(name, why)
    context.note(variables.label(name) .. ": " .. why)
  end)
end

-- "PERIGEE_HTTP__PORT" -> {"http", "port"}; nil for other names, such as those
-- that Kubernetes makes for a service called perigee.
local function keys_of(name)
  local rest = name:match "^PERIGEE_(.+)$"
  if not rest or not rest:find("__", 1, true) then
    return nil
  end
  local keys = {}
  for key in (rest .. "__"):gmatch "(.-)__" do
    if key == "" then
      return nil
    end
    keys[#keys + 1] = key:lower()
  end
  return keys
end

-- PERIGEE_A__B_FILE names a file, unless there is a setting a.b_file.
local function apply_file(context, variables, name, keys)
  local _, _, known = context.tree:locate(context.schema, keys)
  local bare = name:match "^(.*)_FILE$"
  if known or not bare then
    return false
  end
  if variables.values[bare] ~= nil then
    return true -- said twice: the plain one wins
  end
  local text, source = M.lookup(context, variables, bare)
  if text then
    set_text(context, keys_of(bare), text, source)
  end
  return true
end

--- Lays the variables' settings over the tree of the context.
---@param context table  # {tree, schema, dir, fault, note, secrets}
---@param variables perigee.config.Variables
function M.apply(context, variables)
  apply_bare(context, variables)
  for _, name in ipairs(types.sorted_keys(variables.values)) do
    local keys = keys_of(name)
    if keys and not apply_file(context, variables, name, keys) then
      set_text(context, keys, variables.values[name], variables.label(name))
    end
  end
end

--- One "a.b=c" of the command line; `--port:http.port=80` says which flag.
---@param context table
---@param override string
function M.apply_flag(context, override)
  local flag, assignment = override:match "^(%-%-[%w-]+):(.*)$"
  local key, text = (assignment or override):match "^([^=]+)=(.*)$"
  if not key or ("." .. key):gsub("%.[%w_-]+", "") ~= "" then
    context.fault("flag --set " .. override, "must be KEY=VALUE, such as "
      .. "http.port=8080")
    return
  end
  set_text(context, split(key), text,
    flag and "flag " .. flag or "flag --set " .. key)
end

return M
