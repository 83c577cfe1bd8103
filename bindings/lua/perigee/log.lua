--- Log lines in pino's form. A level that is off costs a call of an empty
--- function.

local core = require "perigee.core.log"
local errors = require "perigee.error"

local write, encode = core.write, core.encode

local LEVELS =
  { trace = 10, debug = 20, info = 30, warn = 40, error = 50, fatal = 60 }

--- Writes a line. A field `err` takes a perigee.error, a string or a table and
--- becomes {type, message, stack, ...}. Nothing that is logged raises: what
--- JSON has no form for becomes a string such as "[function]" or "[Circular]".
--- Within a request the line carries `reqId`.
---@alias perigee.log.Write fun(msg: any, fields: table?)

---@class perigee.log.Logger
---@field trace perigee.log.Write
---@field debug perigee.log.Write
---@field info perigee.log.Write
---@field warn perigee.log.Write
---@field error perigee.log.Write
---@field fatal perigee.log.Write
---@field child fun(fields: table): perigee.log.Logger # its lines carry fields
---@field enabled fun(level: string): boolean # whether lines of it are written

local function nothing() end

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

local function writer(level, bindings)
  if level < core.level() then
    return nothing
  end
  return function(msg, fields)
    if type(msg) == "table" then
      return write_odd(level, bindings, msg, fields)
    end
    write(level, bindings, msg, fields)
  end
end

local function enabled(level)
  local number = LEVELS[level]
  if not number then
    error("unknown level: " .. tostring(level), 2)
  end
  return number >= core.level()
end

-- Functions are made when they are first asked for: most children log once.
local function make(bindings)
  local logger = { enabled = enabled }
  return setmetatable(logger, {
    __index = function(_, name)
      local value
      if LEVELS[name] then
        value = writer(LEVELS[name], bindings)
      elseif name == "child" then
        value = function(fields)
          return make(encode(bindings, fields))
        end
      end
      logger[name] = value
      return value
    end,
  })
end

---@type perigee.log.Logger
local M = make(nil)

return M
