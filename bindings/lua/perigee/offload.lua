--- task.offload: from a function to what another thread needs to run it, and
--- from what that gives to values. The other half is perigee/offload_state.lua.
---
--- Functions travel as bytecode with their upvalues. A table or function that a
--- loaded module is, or holds, travels as its name: the thread's state requires
--- the module itself.

local core = require "perigee.core.offload"
local errors = require "perigee.error"
local json = require "perigee.core.json"
local log = require "perigee.core.log"
local options = require "perigee.options"

local M = {}

local blame = options.blame

local UPVALUES_MAX = 60
local FUNCTIONS_MAX = 200

local codes = setmetatable({}, { __mode = "k" }) -- function -> bytecode
local names = setmetatable({}, { __mode = "k" }) -- value -> { module, key }
local crew

local function learn(name, module)
  if type(module) ~= "table" and type(module) ~= "function" then
    return
  end
  names[module] = names[module] or { name }
  if type(module) == "table" and not getmetatable(module) then
    for key, value in next, module do
      if type(value) == "function" and type(key) == "string" then
        names[value] = names[value] or { name, key }
      end
    end
  end
end

-- What modules there are changes while they load.
local function name_of(value)
  if names[value] then
    return names[value]
  end
  for name, module in pairs(package.loaded) do
    if name ~= "_G" then
      learn(name, module)
    end
  end
  learn("_G", _G)
  return names[value]
end

local function refuse(name, why)
  error(("offload: %s cannot be handed over: %s"):format(name, why), 0)
end

local add_function

local function check_plain(value, name, depth)
  local kind = type(value)
  if kind == "table" then
    if depth > 100 then
      refuse(name, "tables nested too deep, or in a circle")
    end
    for key, item in next, value do
      check_plain(key, name, depth + 1)
      check_plain(item, name, depth + 1)
    end
  elseif kind == "function" or kind == "thread" or kind == "cdata"
    or kind == "userdata" and value ~= json.null then
    refuse(name, "it holds a " .. kind)
  end
end

-- { "plain", value } and the like; nil: an upvalue that is nil.
local function upvalue_of(request, name, value)
  if value == nil then
    return { "plain" }
  end
  if type(value) == "table" or type(value) == "function" then
    local known = name_of(value)
    if known then
      return { "module", known[1], known[2] }
    end
  end
  if type(value) == "function" then
    return { "function", add_function(request, value, name) }
  end
  check_plain(value, name, 0)
  return { "plain", value }
end

function add_function(request, fn, name)
  if request.places[fn] then
    return request.places[fn]
  end
  local place = #request.functions + 1
  if place > FUNCTIONS_MAX then
    refuse(name, "too many functions hang on it")
  end
  local code = codes[fn]
  if not code then
    local ok, text = pcall(string.dump, fn)
    if not ok then
      refuse(name, "it is written in C")
    end
    code, codes[fn] = text, text
  end
  local entry = { code = code, up = {} }
  request.functions[place] = entry
  request.places[fn] = place
  for i = 1, UPVALUES_MAX do
    local up_name, value = debug.getupvalue(fn, i)
    if not up_name then
      break
    end
    local id = debug.upvalueid(fn, i)
    local shared = request.cells[id]
    if shared then
      entry.up[i] = { "shared", shared[1], shared[2] }
    else
      request.cells[id] = { place, i }
      if up_name == "" then up_name = "an upvalue" end
      entry.up[i] = upvalue_of(request, up_name, value)
    end
  end
  return place
end

local function make_request(fn, ...)
  local request = { functions = {}, places = {}, cells = {} }
  local known = name_of(fn)
  local entry = known and { "module", known[1], known[2] }
    or { "function", add_function(request, fn, "the function") }
  return {
    functions = request.functions, entry = entry, args = { ... },
    count = select("#", ...), level = log.level(),
  }
end

local function revive(fields)
  local err = errors.new(fields.kind, fields.message)
  for key, value in pairs(fields) do
    err[key] = value
  end
  return err
end

local function values_of(result)
  for _, line in ipairs(result.lines or {}) do
    log.write(line[1], nil, line[2], line[3])
  end
  if result.failed then
    return nil, revive(result.failed)
  end
  for _, place in ipairs(result.errors) do
    result.values[place] = revive(result.values[place])
  end
  return unpack(result.values, 1, result.count)
end

--- See task.offload.
function M.run(fn, ...)
  if type(fn) ~= "function" then
    blame("offload: a function expected")
  end
  local ok, request = pcall(make_request, fn, ...)
  if not ok then
    blame(request)
  end
  crew = crew or core.crew()
  local result, err = core.run(crew, request)
  if not result then
    if type(err) == "string" then
      blame(err)
    end
    return nil, err
  end
  return values_of(result)
end

return M
