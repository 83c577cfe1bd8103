--- perigee test: busted, inside of the host's own VM and on its loop.
---
--- busted is Debian's. Each `it`, with its before_each and after_each, runs as
--- a task of its own: it may wait, and what it has spawned ends with it.

local cli = require "perigee.core.cli"

local TEST_LIMIT_MS = 120000
local USAGE = 2
local UNAVAILABLE = 69
local BAD_CODE = 78
local PATHS = "/usr/local/share/lua/5.1/?.lua;"
  .. "/usr/local/share/lua/5.1/?/init.lua;"
  .. "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
local LIBRARIES = "/usr/local/lib/lua/5.1/?.so;/usr/lib/lua/5.1/?.so;"
  .. "/usr/lib/" .. jit.arch .. "-linux-gnu/lua/5.1/?.so"
local ARCHITECTURES = { x64 = "x86_64", arm64 = "aarch64" }

-- Where Debian keeps modules for Lua 5.1, if this LuaJIT does not look there.
local function add_paths()
  local arch = ARCHITECTURES[jit.arch] or jit.arch
  local libraries = LIBRARIES:gsub(jit.arch .. "%-linux", arch .. "-linux")
  package.path = package.path .. ";" .. PATHS
  package.cpath = package.cpath .. ";" .. libraries
end

-- busted forgets between files what they required, so that each begins with a
-- clean slate. The library itself stays: C knows some of its tables.
local function load_library()
  for _, name in ipairs(cli.embedded "perigee/") do
    local module = name:gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
    if module ~= "perigee.require" and not module:find("%.cli%.") then
      pcall(require, module)
    end
  end
end

-- Specs of services and data find the tables that the host would make.
local function migrate()
  local files = require("perigee.core.app").files "scripts/data/migrations/"
  if #files == 0 then
    return true
  end
  return require("perigee.sqlite").migrate()
end

local function in_scope(executor)
  local scope = require "perigee.test.scope"
  return function(...)
    scope.enter()
    executor(...)
    local faults = scope.leave()
    if faults then
      io.stderr:write("perigee test: ", faults, "\n")
    end
  end
end

local function in_task(executor)
  local task = require "perigee.task"
  local core = require "perigee.core.test"
  local function guarded(...)
    local guard = core.guard(TEST_LIMIT_MS)
    local ok, err = pcall(executor, ...)
    core.unguard(guard)
    if not ok then
      error(err, 0)
    end
  end
  return function(...)
    local _, err = task.spawn(guarded, ...):join()
    if err then
      error(err, 0)
    end
  end
end

-- Wraps what busted runs for a file and for an `it`.
local function instrument()
  local init = require "busted"
  package.loaded["busted"] = function(busted)
    local register = busted.register
    package.loaded["busted"] = init
    function busted.register(name, executor, ...)
      if name == "it" and type(executor) == "function" then
        executor = in_task(in_scope(executor))
      elseif name == "file" and type(executor) == "function" then
        executor = in_scope(executor)
      end
      return register(name, executor, ...)
    end
    init(busted)
    busted.register = register
  end
end

local function wants_plain(args)
  for _, word in ipairs(args) do
    if word:find "^%-o" or word:find "^%-%-output" then
      return false
    end
  end
  return (os.getenv "NO_COLOR" or "") ~= ""
end

-- busted tells of a wrong option, and ends with 1 as after a failed test.
local function note_wrong_usage(done)
  local create = require "busted.modules.cli"
  package.loaded["busted.modules.cli"] = function(...)
    local parser = create(...)
    local parse = parser.parse
    function parser.parse(...)
      local args, err = parse(...)
      done.wrong_usage = args == nil
      return args, err
    end
    return parser
  end
end

-- busted ends the process when it is done; the host ends in its own time.
local function run_busted(options)
  local done = {}
  note_wrong_usage(done)
  local exit = os.exit
  function os.exit(code) -- luacheck: ignore
    done.code = (code == true or code == nil) and 0 or tonumber(code) or 1
    error(done, 0)
  end
  local run = assert(loadstring(
    'local options = ...\nrequire "busted.runner"(options)', "=perigee test"))
  local ok, err = pcall(run, options)
  os.exit = exit -- luacheck: ignore
  if ok then
    return 0
  elseif err == done then
    return done.wrong_usage and USAGE or done.code
  elseif err ~= nil then
    io.stderr:write("perigee test: ", tostring(err), "\n")
  end
  return 1
end

return function(...)
  add_paths()
  if not pcall(require, "busted.core") then
    io.stderr:write("perigee test: busted is not installed; on Debian: "
      .. "apt install lua-busted\n")
    return UNAVAILABLE
  end
  load_library()
  local migrated, why = migrate()
  if not migrated then
    io.stderr:write("perigee test: ", tostring(why), "\n")
    return BAD_CODE
  end
  instrument()
  _G.arg = { [0] = "perigee test", ... }
  local code = run_busted {
    standalone = false,
    output = wants_plain { ... } and "plainTerminal" or nil,
  }
  io.stdout:flush()
  return code
end
