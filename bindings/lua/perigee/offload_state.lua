--- Inside of an offload thread's state: what is there, and how one call runs.

local errors = require "perigee.error"

local REACHABLE = {
  ["perigee.core.config"] = true,
  ["perigee.core.crypto"] = true,
  ["perigee.core.json"] = true,
  ["perigee.core.regex"] = true,
}
-- Modules that ask for something of the worker's while they load.
local WHOLE = {
  "perigee.cache", "perigee.queue", "perigee.resilience", "perigee.shared",
  "perigee.sqlite", "perigee.trace",
}
local CACHED_MAX = 64
local LINES_MAX = 1000

local M = {}
local lines, level = {}, 100

-- What stands in for the parts of the library that need the worker's loop:
-- modules that require them load; a call raises.
local function absent(name)
  return setmetatable({}, {
    __index = function(_, key)
      return function()
        error(("%s.%s is not to be had in offloaded code"):format(
          name:gsub("^perigee%.core", "perigee"), tostring(key)), 2)
      end
    end,
  })
end

-- The same for a module of plain values: to read one raises.
local function absent_values(name)
  return setmetatable({}, {
    __index = function(_, key)
      error(("%s.%s is not to be had in offloaded code"):format(name,
        tostring(key)), 2)
    end,
  })
end

local function log_core()
  local core = absent "perigee.core.log"
  core.level = function() return level end
  core.encode = function() return nil end
  core.write = function(number, _, msg, fields)
    if number >= level and #lines < LINES_MAX then
      lines[#lines + 1] = { number, tostring(msg), fields }
    end
  end
  return core
end

local function time_core()
  local ffi = require "ffi"
  ffi.cdef [[
    typedef struct { long s; long ns; } peri_offload_time;
    int clock_gettime(int id, peri_offload_time *out);
  ]]
  local at = ffi.new "peri_offload_time"
  local function read(id)
    ffi.C.clock_gettime(id, at)
    return tonumber(at.s) * 1000 + tonumber(at.ns) / 1e6
  end
  return {
    now = function() return math.floor(read(0)) end,
    monotonic = function() return read(1) end,
  }
end

-- ---- functions ----

local cached, cached_count = {}, 0 -- bytecode -> function: keeps what is compiled

local function function_of(code, used)
  local fn = cached[code]
  if fn and not used[fn] then
    used[fn] = true
    return fn
  end
  fn = assert(loadstring(code))
  if not cached[code] then
    if cached_count >= CACHED_MAX then
      cached, cached_count = {}, 0
    end
    cached[code], cached_count = fn, cached_count + 1
  end
  used[fn] = true
  return fn
end

local function from_module(name, key)
  local module = name == "_G" and _G or require(name)
  if key == nil then
    return module
  end
  return module[key]
end

local function link(functions, specs)
  for place, spec in ipairs(specs) do
    for i, up in ipairs(spec.up) do
      local fn = functions[place]
      if up[1] == "shared" then
        debug.upvaluejoin(fn, i, functions[up[2]], up[3])
      elseif up[1] == "function" then
        debug.setupvalue(fn, i, functions[up[2]])
      elseif up[1] == "module" then
        debug.setupvalue(fn, i, from_module(up[2], up[3]))
      else
        debug.setupvalue(fn, i, up[2])
      end
    end
  end
end

-- A joined upvalue stays joined: cached functions get cells of their own back.
local function cell(value)
  return function() return value end
end

local function build(request)
  local functions, used = {}, {}
  for place, spec in ipairs(request.functions) do
    functions[place] = function_of(spec.code, used)
    for i = 1, #spec.up do
      debug.upvaluejoin(functions[place], i, cell(), 1)
    end
  end
  link(functions, request.functions)
  local entry = request.entry
  if entry[1] == "module" then
    return from_module(entry[2], entry[3])
  end
  return functions[entry[2]]
end

-- ---- results ----

local function fields_of(err)
  return {
    kind = err.kind, message = tostring(err.message), code = err.code,
    errors = err.errors, headers = err.headers,
    retry_after_ms = err.retry_after_ms, traceback = err.traceback,
  }
end

local function on_error(err)
  local found = errors.is(err) and err or errors.wrap(err)
  found.traceback = found.traceback or debug.traceback("", 2):gsub("^%s+", "")
  return found
end

local function result_of(ok, ...)
  if not ok then
    local err = ...
    local found = errors.is(err) and err or errors.wrap(err)
    if err == "not enough memory" then -- the handler is not asked for it
      found.kind, found.code = "too_large", "offload_memory"
    end
    return { failed = fields_of(found) }
  end
  local result = { count = select("#", ...), values = { ... }, errors = {} }
  for i = 1, result.count do
    if errors.is(result.values[i]) then
      result.values[i] = fields_of(result.values[i])
      result.errors[#result.errors + 1] = i
    end
  end
  return result
end

local function call(request)
  return build(request)(unpack(request.args, 1, request.count))
end

--- Runs one request of perigee/offload.lua.
function M.run(request)
  lines, level = {}, request.level
  local result = result_of(xpcall(call, on_error, request))
  result.lines = lines[1] and lines or nil
  return result
end

--- Makes the state it is called in one for offloaded code.
function M.install()
  for name in pairs(package.preload) do
    if name:find "^perigee%.core%." and not REACHABLE[name] then
      package.preload[name] = function() return absent(name) end
    end
  end
  for _, name in ipairs(WHOLE) do
    package.preload[name] = function() return absent(name) end
  end
  package.preload["perigee.host"] = function()
    return absent_values "perigee.host"
  end
  package.preload["perigee.core.log"] = log_core
  package.preload["perigee.core.time"] = time_core
  package.preload["perigee.core.task"] = function()
    local core = absent "perigee.core.task"
    core.current_id = function() return 0 end -- for require
    return core
  end
  os.exit = function() -- luacheck: ignore
    error("os.exit would end the worker and every request in it", 2)
  end
  setmetatable(_G, {
    __newindex = function(_, name)
      error(("assignment to the global %q: make it local, or a field of a "
        .. "module"):format(tostring(name)), 2)
    end,
  })
end

return M
