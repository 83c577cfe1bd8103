--- From files, variables and flags to one checked configuration. Runs in a VM
--- of its own (bindings/stage.c), before there is anything of the application.

local dotenv = require "perigee.config.dotenv"
local environ = require "perigee.config.environ"
local json = require "perigee.json"
local lines = require "perigee.config.lines"
local output = require "perigee.config.output"
local schema = require "perigee.config.schema"
local suggest = require "perigee.config.suggest"
local tree = require "perigee.config.tree"
local types = require "perigee.config.types"

local M = {}

---@class perigee.config.Input
---@field dir string
---@field env string?          # from the flag
---@field dev boolean          # the command is `dev`
---@field terminal boolean     # stdin and stdout are one
---@field overrides string[]   # "a.b=c"
---@field environ table<string, string>
---@field files table<string, string>  # config/*.lua and .env*, by name

---@class perigee.config.Output
---@field faults string[]
---@field env string
---@field config string?    # JSON
---@field sources string?   # JSON
---@field settings string?  # lines for C

local DEPTH_MAX = 50
-- Of one file, with what it calls; less than a second. The compiler is off.
local INSTRUCTIONS_MAX = 50000000
local ENV_NAMES = { "PERIGEE_ENV", "APP_ENV", "NODE_ENV" }

local function environment_of(input)
  if input.env then
    return input.env, "flag --env"
  end
  for _, name in ipairs(ENV_NAMES) do
    local value = input.environ[name]
    if value and value ~= "" then
      return value, "environment " .. name
    end
  end
  return (input.dev or input.terminal) and "development" or "production",
    "built-in default"
end

local function check_environment(context, name, source)
  for _, known in ipairs(schema.environments) do
    if name == known then
      return name
    end
  end
  local near = suggest.nearest(name, { unpack(schema.environments) })
  context.fault(source, ('must be one of "%s", not %s%s'):format(
    table.concat(schema.environments, '", "'), types.quote(name),
    near and ('; did you mean "%s"?'):format(near) or ""))
  return "production"
end

-- ---- variables: what the process has, over .env.ENV, over .env ----

local function read_dotenv(context, name)
  local text = context.input.files[name]
  local variables = { values = {}, lines = {} }
  if text then
    local entries = dotenv.parse(text, function(line, message)
      context.fault(("%s:%d"):format(name, line), message)
    end)
    for _, entry in ipairs(entries) do
      variables.values[entry.name] = entry.value
      variables.lines[entry.name] = entry.line
    end
  end
  function variables.label(variable)
    local line = variables.lines[variable]
    return line and ("%s:%d: %s"):format(name, line, variable)
      or name .. ": " .. variable
  end
  return variables
end

local function process_variables(input)
  return {
    values = input.environ,
    label = function(name)
      return "environment " .. name
    end,
  }
end

-- Low to high.
local function variable_layers(context, env)
  local layers = {}
  if env ~= "production" then
    layers[1] = read_dotenv(context, ".env")
    layers[2] = read_dotenv(context, ".env." .. env)
  end
  layers[#layers + 1] = process_variables(context.input)
  return layers
end

local BOOLEANS = { ["true"] = true, ["1"] = true, yes = true, on = true,
  ["false"] = false, ["0"] = false, no = false, off = false }

-- The text of a variable in the type of its default.
local function like(text, default)
  if type(default) == "number" then
    return tonumber(text)
  elseif type(default) == "boolean" then
    return BOOLEANS[text:lower()]
  end
  return text
end

--- env("NAME", default) for configuration files.
local function env_function(context, layers)
  return function(name, default)
    if type(name) ~= "string" then
      error("env: the name must be a string", 2)
    end
    for i = #layers, 1, -1 do
      local text, source = environ.lookup(context, layers[i], name)
      if text ~= nil and (text ~= "" or default == nil) then
        local value = like(text, default)
        if value == nil then
          context.fault(source, ("must be a %s: config asks for one")
            :format(type(default)))
          return default
        end
        return value
      end
    end
    return default
  end
end

-- ---- files ----

-- There is neither an application nor a loop yet: what needs one must not be
-- loaded here.
local PURE = { ["perigee.crypto"] = true, ["perigee.error"] = true,
  ["perigee.json"] = true, ["perigee.schema"] = true }

local function require_pure(name)
  if type(name) == "string" and name:find "^perigee" and not PURE[name] then
    error(("a configuration file cannot use %s"):format(name), 2)
  end
  return require(name)
end

-- config/prodution.lua would never be read.
local function check_names(context)
  local known = { "default", "schema", unpack(schema.environments) }
  local exact = {}
  for _, name in ipairs(known) do
    exact["config/" .. name .. ".lua"] = true
  end
  for _, file in ipairs(types.sorted_keys(context.input.files)) do
    local name = file:match "^config/([^/]+)%.lua$"
    local near = name and not exact[file] and suggest.nearest(name, known)
    if near then
      context.fault(file, ("is never read; did you mean config/%s.lua?")
        :format(near))
    end
  end
end

-- Where the configuration is, as "config/default.lua:3: "; it may be in code
-- that it has called.
local function place_of(name)
  for level = 3, 100 do
    local info = debug.getinfo(level, "Sl")
    if not info then
      return name .. ": "
    elseif info.source == "@" .. name then
      return ("%s:%d: "):format(name, info.currentline)
    end
  end
  return name .. ": "
end

-- Else `perigee check` would end with 0 in the middle of a file.
local TAME_OS = setmetatable({
  exit = function()
    error("os.exit would end the host", 2)
  end,
}, { __index = os })

-- pcall(chunk), for so long at most: then every instruction of it raises, so
-- that no pcall of its own keeps it going.
local function call_bounded(chunk, name)
  local self = debug.getinfo(1, "f").func
  local over
  local function stop()
    if debug.getinfo(2, "f").func == self then
      return
    end
    if not over then
      over = ("%sruns for over %d million instructions: does it end?"):format(
        place_of(name), INSTRUCTIONS_MAX / 1000000)
      debug.sethook(stop, "", 1)
    end
    error(over, 0)
  end
  debug.sethook(stop, "", INSTRUCTIONS_MAX)
  local ok, value = pcall(chunk)
  debug.sethook()
  if over then
    return false, over
  end
  return ok, value
end

local function evaluate(context, name, env)
  local text = context.input.files[name]
  if not text then
    return nil
  end
  local chunk, why = loadstring(text, "@" .. name)
  if not chunk then
    context.fault(nil, why)
    context.incomplete = true
    return nil
  end
  setfenv(chunk, setmetatable({ env = env, require = require_pure,
    os = TAME_OS }, { __index = _G }))
  local ok, value = call_bounded(chunk, name)
  if not ok then
    context.fault(not tostring(value):find(name, 1, true) and name or nil,
      type(value) == "string" and value or types.quote(value))
    context.incomplete = true
    return nil
  end
  if type(value) ~= "table" then
    context.fault(name, "must return a table, not " .. types.quote(value))
    context.incomplete = true
    return nil
  end
  return value, text
end

-- Nothing may be walked through before this has been asked.
local function is_circular(value, depth)
  if depth > DEPTH_MAX then
    return true
  end
  for _, item in pairs(value) do
    if type(item) == "table" and is_circular(item, depth + 1) then
      return true
    end
  end
  return false
end

local function merge_file(context, name, env)
  local value, text = evaluate(context, name, env)
  if not value then
    return
  end
  if is_circular(value, 1) then
    context.fault(name, "has a table within itself, or is nested too deep")
    context.incomplete = true
    return
  end
  if types.is_list(value) then
    context.fault(name, "must return a table with names, not a list")
    return
  end
  local known = lines.of(text)
  context.tree:merge(value, function(path)
    local at = path
    while at and not known[at] do
      at = at:match "^(.*)%.[^.]*$"
    end
    return at and ("%s:%d"):format(name, known[at]) or name
  end)
end

-- ---- the application's own settings ----

local APP_TYPES = { integer = types.integer, number = types.number,
  boolean = types.boolean, string = types.string }

-- A type that reads text as a JSON Schema expects it; what is not plain stays
-- open. Only parses: perigee.schema is the judge.
local function app_type(definition)
  if type(definition) ~= "table" then
    return types.open()
  end
  local make = APP_TYPES[definition.type]
  if make then
    return make()
  elseif definition.type == "array" then
    return types.list { of = app_type(definition.items) }
  end
  local properties = definition.properties or {}
  local result = types.open()
  result.fields = {}
  for key, property in pairs(properties) do
    result.fields[key] = app_type(property)
  end
  return result
end

local function pointer_path(pointer)
  local path = "app"
  for token in tostring(pointer):gmatch "/([^/]*)" do
    local key = token:gsub("~1", "/"):gsub("~0", "~")
    path = path .. "." .. (key:find "^%d+$" and tostring(tonumber(key) + 1)
      or key)
  end
  return path
end

local function load_app_schema(context, env)
  local definition = evaluate(context, "config/schema.lua", env)
  if not definition then
    return nil
  end
  local found, json_schema = pcall(require, "perigee.schema")
  if not found then
    context.fault("config/schema.lua", json_schema)
    return nil
  end
  local ok, check = pcall(json_schema.compile, definition, { defaults = true })
  if not ok then
    context.fault("config/schema.lua", type(check) == "table"
      and check.message or tostring(check))
    return nil
  end
  context.schema = setmetatable({ fields = setmetatable({
    app = app_type(definition),
  }, { __index = schema.root.fields }) }, { __index = schema.root })
  return check
end

local function check_app(context, check, value)
  local checked, err = check(value)
  if checked ~= nil then
    return checked
  end
  for _, item in ipairs(err.errors or {}) do
    local path = pointer_path(item.pointer)
    context.fault_at(path, item.detail)
  end
  if not err.errors then
    context.fault_at("app", err.message)
  end
  return value
end

-- Only data may travel: JSON has no functions.
local function check_data(context, value, path)
  local kind = type(value)
  if kind == "table" then
    for _, key in ipairs(types.sorted_keys(value)) do
      if (type(key) == "string") == types.is_list(value) then
        context.fault_at(path, types.is_list(value)
          and "mixes a list and names"
          or ("has a key that is no text: %s"):format(tostring(key)))
        break
      end
      check_data(context, value[key], types.join(path, key))
    end
  elseif kind == "number" and value - value ~= 0 then
    context.fault_at(path, "is not a finite number")
  elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    context.fault_at(path, "must be plain data, not " .. types.quote(value))
  end
end

-- ---- all of it ----

local function new_context(input)
  local context = { input = input, dir = input.dir, faults = {}, notes = {},
    secrets = {},
    schema = schema.root, tree = tree.new(types.defaults(schema.root)) }
  local told = {}
  function context.fault(source, message)
    local text = (source and source .. ": " or "") .. message
    if not told[text] then
      told[text] = true
      context.faults[#context.faults + 1] = text
    end
  end
  -- What is passed over, and said in the log.
  function context.note(text)
    if not told[text] then
      told[text] = true
      context.notes[#context.notes + 1] = text
    end
  end
  function context.fault_at(path, message)
    local missing = message:find "^is required"
    if missing and context.incomplete then
      return -- it may stand in the file that could not be read
    end
    local source = context.tree:source(path)
    if not source or source:find "^built%-in" then
      source = "config"
    end
    context.fault(source, path .. ": " .. message)
  end
  return context
end

local function lay(context, env)
  local layers = variable_layers(context, env)
  local env_fn = env_function(context, layers)
  local function preset(name)
    return function()
      return name
    end
  end
  context.tree:merge(schema.presets[env],
    preset("built-in default for " .. env))
  if context.input.dev then
    context.tree:merge(schema.dev, preset "built-in default of perigee dev")
  end
  check_names(context)
  local check = load_app_schema(context, env_fn)
  merge_file(context, "config/default.lua", env_fn)
  merge_file(context, "config/" .. env .. ".lua", env_fn)
  for _, variables in ipairs(layers) do
    environ.apply(context, variables)
  end
  for _, override in ipairs(context.input.overrides) do
    environ.apply_flag(context, override)
  end
  return check
end

-- What a higher layer covers is a fault too, one that would show elsewhere.
local function check_covered(context)
  for _, covered in ipairs(context.tree.covered) do
    local keys = {}
    for key in covered.path:gmatch "[^.]+" do
      keys[#keys + 1] = key
    end
    local _, known_type = context.tree:locate(schema.root, keys)
    if known_type then
      types.validate(known_type, covered.value, covered.path,
        function(path, message)
          context.fault(covered.source, path .. ": " .. message)
        end)
    end
  end
end

--- What one setting needs of another.
local function check_together(context, config)
  local tls = config.http and config.http.tls
  if tls and tls.verify_client and not tls.ca then
    context.fault_at("http.tls.verify_client",
      "needs http.tls.ca: who may have issued the clients' certificates")
  end
  local driver = config.queue and config.queue.driver
  if driver == "redis" and not (config.redis or {})[config.queue.redis] then
    context.fault_at("queue.driver", ('needs redis.%s.url'):format(
      tostring(config.queue.redis)))
  end
end

local function write(context, config, result)
  local leaves = output.leaves(config, context.tree)
  local text, err = json.encode(config)
  if not text then
    context.fault("config", err.message)
    return
  end
  result.config = text
  result.settings = output.settings(leaves, context.notes)
  result.sources = json.encode(output.sources(leaves, context.secrets))
end

---@param input perigee.config.Input
---@return perigee.config.Output
function M.load(input)
  local context = new_context(input)
  local env = check_environment(context, environment_of(input))
  local check = lay(context, env)
  local config = types.validate(schema.root, context.tree.root, "",
    context.fault_at) or {}
  check_covered(context)
  check_data(context, config.app or {}, "app")
  if #context.faults == 0 then
    check_together(context, config)
  end
  if check and type(config.app) == "table" and not context.incomplete then
    config.app = check_app(context, check, config.app)
  elseif type(config.app) ~= "table" or types.is_list(config.app) then
    context.fault_at("app", "must be a table")
  end
  local result = { faults = context.faults, env = env }
  if #context.faults == 0 then
    write(context, config, result)
  end
  return result
end

return M
