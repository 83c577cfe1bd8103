--- Log lines in pino's form. A level that is off costs a call and a look.

local core = require "perigee.core.log"
local errors = require "perigee.error"
local levels = require "perigee.log_levels"
local options = require "perigee.options"

local encode, write = core.encode, core.write
local clock = require("perigee.time").monotonic
local units = require "perigee.units"

local SITES_MAX = 1000 -- call sites that a limited logger keeps apart

local LEVELS =
  { trace = 10, debug = 20, info = 30, warn = 40, error = 50, fatal = 60 }

--- Writes a line. A field `err` takes a perigee.error, a string or a table and
--- becomes {type, message, stack, ...}. Nothing that is logged raises: what
--- JSON has no form for becomes a string such as "[function]" or "[Circular]".
--- Within a request the line carries `reqId`.
---@alias perigee.log.Write fun(msg: any, fields: table?)

---@class perigee.log.Limit
---@field lines integer?      # within `per`; 1
---@field per (string|number)? # "10s" unless told

---@class perigee.log.Logger
---@field trace perigee.log.Write
---@field debug perigee.log.Write
---@field info perigee.log.Write
---@field warn perigee.log.Write
---@field error perigee.log.Write
---@field fatal perigee.log.Write
---@field child fun(fields: table): perigee.log.Logger # its lines carry fields
---@field limited fun(opts: perigee.log.Limit?): perigee.log.Logger # so many lines of each call site
---@field sampled fun(share: number): perigee.log.Logger # a share of the lines, 0 to 1
---@field enabled fun(level: string): boolean # whether lines of it are written

-- Also log.error(err), log.error(err, msg) and log.info(fields, msg), as pino
-- has them.
local function write_odd(level, bindings, first, second)
  if errors.is(first) then
    local msg = type(second) == "string" and second or first.message
    local fields = type(second) == "table" and second or nil
    return write(level, bindings, msg, fields, first)
  end
  write(level, bindings, second, first)
end

local function writer(cell, level, bindings)
  return function(msg, fields)
    if level < cell.level then
      return
    end
    if type(msg) == "table" then
      return write_odd(level, bindings, msg, fields)
    end
    write(level, bindings, msg, fields)
  end
end

-- The logger's functions, with `pass(level)` in front of each: nil, or fields
-- to be added to the line.
local function guarded(logger, cell, pass)
  local guard = { child = logger.child, enabled = logger.enabled }
  return setmetatable(guard, {
    __index = function(_, name)
      local level = LEVELS[name]
      if not level then
        return logger[name]
      end
      local log_it = logger[name]
      guard[name] = function(msg, fields)
        local more = level >= cell.level and pass()
        if not more then
          return
        end
        if more ~= true then
          logger.child(more)[name](msg, fields)
        else
          log_it(msg, fields)
        end
      end
      return guard[name]
    end,
  })
end

local LIMIT = { lines = true, per = true }

local function check_limit(opts)
  options.check(opts, LIMIT, "log.limited")
  local lines = opts.lines or 1
  local per = units.duration(opts.per or "10s")
  if type(lines) ~= "number" or lines < 1 or not per or per <= 0 then
    error("log.limited: { lines = 5, per = \"10s\" } expected", 3)
  end
  return lines, per
end

-- A call site may log `lines` lines within `per`; the next one that passes
-- tells how many did not.
local function limited(logger, cell, opts)
  local lines, per = check_limit(opts or {})
  local sites, count = {}, 0
  return guarded(logger, cell, function()
    local info = debug.getinfo(3, "Sl")
    local key = info and info.short_src .. ":" .. info.currentline or "?"
    local now, site = clock(), sites[key]
    if not site then
      if count >= SITES_MAX then
        sites, count = {}, 0
      end
      count = count + 1
      site = { since = now, passed = 0, held = 0 }
      sites[key] = site
    end
    if now - site.since >= per then
      site.since, site.passed = now, 0
    end
    if site.passed >= lines then
      site.held = site.held + 1
      return nil
    end
    site.passed = site.passed + 1
    local held = site.held
    site.held = 0
    return held > 0 and { suppressed = held } or true
  end)
end

local function sampled(logger, cell, share)
  if type(share) ~= "number" or share < 0 or share > 1 then
    error("log.sampled: a share from 0 to 1 expected", 2)
  end
  return guarded(logger, cell, function()
    return math.random() < share or nil
  end)
end

-- Functions are made when they are first asked for: most children log once.
local function make(bindings, cell)
  local logger = {
    enabled = function(level)
      local number = LEVELS[level]
      if not number then
        error("unknown level: " .. tostring(level), 2)
      end
      return number >= cell.level
    end,
  }
  return setmetatable(logger, {
    __index = function(_, name)
      local value
      if LEVELS[name] then
        value = writer(cell, LEVELS[name], bindings)
      elseif name == "child" then
        value = function(fields)
          return make(encode(bindings, fields), cell)
        end
      elseif name == "limited" then
        value = function(opts)
          return limited(logger, cell, opts)
        end
      elseif name == "sampled" then
        value = function(share)
          return sampled(logger, cell, share)
        end
      end
      logger[name] = value
      return value
    end,
  })
end

---@type perigee.log.Logger
local M = make(nil, levels.cell())

--- The logger of a part of the application: its lines carry `module`, and
--- `log.levels` or `perigee log-level` may give it a level of its own
--- ("services" also for "services.billing").
---@param name string
---@return perigee.log.Logger
function M.get(name)
  if type(name) ~= "string" then
    error("the name of a module expected", 2)
  end
  return make(encode(nil, { module = name }), levels.cell(name))
end

return M
