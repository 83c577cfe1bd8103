--- require for applications: from the generation's bundle, then the library
--- inside the program, then the usual paths. It may wait, since it is written
--- in Lua; a module that another task is loading is waited for.

local find_bundled, load_embedded = ...
local loaded, preload = package.loaded, package.preload
local loading = {} -- name -> { task = id, waiters = {...} }
local awaited = {} -- id of a task -> the entry of loading that it waits for

-- A file of the bundle, by its path: "services/orders" below scripts/.
local function from_bundle(path)
  for _, file in ipairs { path .. ".lua", path .. "/init.lua" } do
    local text = find_bundled("scripts/" .. file)
    if text then
      local chunk, err = loadstring(text, "@scripts/" .. file)
      return chunk or error(err, 0)
    end
  end
  return nil
end

local function from_library(name, path)
  if name ~= "perigee" and name:sub(1, 8) ~= "perigee." then
    return nil
  end
  for _, file in ipairs { path .. ".lua", path .. "/init.lua" } do
    local chunk = load_embedded(file)
    if chunk then
      return chunk
    end
  end
  return nil
end

-- Lua files and C modules that are installed on the machine.
local function from_machine(name, tried)
  for i = 2, #package.loaders do
    local found = package.loaders[i](name)
    if type(found) == "function" then
      return found
    elseif type(found) == "string" then
      tried[#tried + 1] = found
    end
  end
  return nil
end

local function find(name)
  if preload[name] then
    return preload[name]
  end
  local path = name:gsub("%.", "/")
  local tried = {
    "\n\tno file 'scripts/" .. path .. ".lua'",
    "\n\tno file 'scripts/" .. path .. "/init.lua'",
  }
  local chunk = from_bundle(path) or from_library(name, path)
    or from_machine(name, tried)
  if chunk then
    return chunk
  end
  -- The place is that of whoever called require: find, load_module's function,
  -- pcall and load_module lie between.
  error("module '" .. name .. "' not found:" .. table.concat(tried), 5)
end

local function wait_until_loaded(name, entry)
  while loading[name] == entry do
    local event = loaded["perigee.core.task"].event()
    entry.waiters[#entry.waiters + 1] = event
    event:wait()
  end
end

local function wait_for(name, entry)
  local task = loaded["perigee.core.task"]
  local current = task and task.current_id() or 0
  -- Whoever loads it may itself be waiting, in the end for this task.
  local one = entry
  while one do
    if one.task == current then
      error("loop in require: '" .. name .. "' is loading already", 3)
    end
    one = awaited[one.task]
  end
  awaited[current] = entry
  local ok, err = pcall(wait_until_loaded, name, entry)
  awaited[current] = nil -- the next task of that id waits for nothing
  if not ok then
    error(err, 0)
  end
end

local function finish(name, entry)
  loading[name] = nil
  for _, event in ipairs(entry.waiters) do
    event:set()
  end
end

local function load_module(name)
  local task = loaded["perigee.core.task"]
  local entry = { task = task and task.current_id() or 0, waiters = {} }
  loading[name] = entry
  local ok, value = pcall(function()
    return find(name)(name)
  end)
  finish(name, entry)
  if not ok then
    error(value, 0)
  end
  if value ~= nil then
    loaded[name] = value
  elseif loaded[name] == nil then
    loaded[name] = true
  end
  return loaded[name]
end

function _G.require(name) -- luacheck: ignore
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got "
      .. type(name) .. ")", 2)
  end
  local value = loaded[name]
  if value ~= nil then
    return value
  end
  if loading[name] then
    wait_for(name, loading[name])
    return require(name)
  end
  return load_module(name)
end
