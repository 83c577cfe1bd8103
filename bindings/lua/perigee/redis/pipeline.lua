--- Redis: commands that are collected and sent in one go.

local options = require "perigee.options"
local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"

local M = {}

local blame = options.blame

local MAP = commands.MAP

---@class perigee.redis.Pipeline
local Pipeline = {}

local function push(self, upper, ...)
  if self.done then
    blame("redis: the pipeline has been sent")
  end
  if not self.blocking and commands.waits(upper, ...) then
    blame(("redis: %s would keep others waiting in a pipeline"):format(upper))
  end
  local n = self.count + 1
  self.count = n
  self[n] = core.encode(upper, ...)
  self.maps[n] = commands.shape_of(upper, (...)) == MAP
  if self.note then
    self.note(self, n, upper, ...)
  end
end

--- Adds a command; every command is a method too.
---@param name string
---@param ... any
function Pipeline:call(name, ...)
  push(self, commands.check(name, ...), ...)
end

commands.with_methods(Pipeline, function(first, second)
  return function(self, ...)
    if second then
      return push(self, first, second, ...)
    end
    return push(self, first, ...)
  end
end)

--- What fn adds to its argument.
---@param fn fun(p: perigee.redis.Pipeline)
---@param blocking boolean # commands that may wait do no harm
---@param note fun(p: table, n: integer, upper: string, ...: any)? # sees each
---@return perigee.redis.Pipeline? p
---@return perigee.Error? err # fn's
function M.collect(fn, blocking, note)
  if type(fn) ~= "function" then
    blame("a function expected, got " .. type(fn))
  end
  -- No field may be nil: it would be taken for a command.
  local p = setmetatable({
    count = 0,
    maps = {},
    slots = {}, -- for note
    blocking = blocking,
    note = note or false,
    done = false,
  }, { __index = Pipeline })
  local first, err = fn(p)
  p.done = true
  if first == nil and err ~= nil then
    return nil, err
  end
  return p
end

--- Makes maps of the replies that are.
---@param p perigee.redis.Pipeline
---@param list any[]?
---@param err perigee.Error?
---@return any[]? list
---@return perigee.Error? err
function M.finish(p, list, err)
  if not list then
    return nil, err
  end
  for i = 1, p.count do
    if p.maps[i] and type(list[i]) == "table" and not errors.is(list[i]) then
      list[i] = commands.to_map(list[i])
    end
  end
  return list
end

--- Sends them between MULTI and EXEC.
---@param to userdata # a client or a lease
---@param p perigee.redis.Pipeline
---@param asking boolean? # ASKING goes first
---@return any[]? list
---@return perigee.Error? err
function M.execute(to, p, asking)
  local text = core.encode "MULTI" .. table.concat(p, "", 1, p.count)
    .. core.encode "EXEC"
  if asking then
    return M.finish(p, core.many(to, commands.EXEC,
      core.encode "ASKING" .. text, p.count + 3))
  end
  return M.finish(p, core.many(to, commands.EXEC, text, p.count + 2))
end

return M
