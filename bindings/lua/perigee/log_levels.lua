--- Which lines are written, of the whole application and of its parts: by the
--- configuration, or set while it runs (`perigee log-level`). A cell is what
--- loggers look at.

local core = require "perigee.core.log"

local M = {}

local NUMBERS = { trace = 10, debug = 20, info = 30, warn = 40, error = 50,
  fatal = 60, silent = 100 }

---@class perigee.log.Cell
---@field level integer # lines below it are dropped

---@type perigee.log.Cell
local root = { level = core.level() }
local cells = {} -- by the name of a part
local set = {} -- levels by name, set while it runs

local function configured(name)
  local config = require "perigee.config"
  local levels = config.log and config.log.levels or {}
  return NUMBERS[levels[name]]
end

-- Of the longest beginning of a dotted name that has a level.
local function level_of(name)
  while name do
    local level = set[name] or configured(name)
    if level then
      return level
    end
    name = name:match "^(.*)%.[^.]*$"
  end
  return root.level
end

--- The cell of a part of the application; nil: of the whole.
---@param name string?
---@return perigee.log.Cell
function M.cell(name)
  if not name then
    return root
  end
  if not cells[name] then
    cells[name] = { level = level_of(name) }
  end
  return cells[name]
end

--- Sets a level until the next generation.
---@param name string # "" is the whole application
---@param level integer
function M.set(name, level)
  if name == "" then
    root.level = level
  else
    set[name] = level
  end
  for each, cell in pairs(cells) do
    cell.level = level_of(each)
  end
end

return M
