--- SQLite off the loop: `sqlite.get "main"` and what it gives.

local core = require "perigee.core.sqlite"
local errors = require "perigee.error"
local task = require "perigee.task"

local M = {}

---@class perigee.sqlite.Result
---@field changes integer # rows inserted, updated or deleted; without triggers'
---@field last_id integer # rowid of the last insert on the writing connection

--- What both a database and a transaction can do. Values of parameters: string
--- (TEXT), number, boolean (0 or 1), nil and json.null (NULL), int64_t,
--- `sqlite.blob(s)`; or one table for `:name` `@name` `$name`, where a missing
--- name is NULL. In rows NULL is absent, integers beyond 2^53 are int64_t.
---@class perigee.sqlite.Queries
local Queries = {} -- luacheck: ignore 241

--- All rows, at most sqlite.NAME.rows_max.
---@param sql string # one statement
---@param ... any
---@return table[]? rows
---@return perigee.Error? err
function Queries:query(sql, ...) end -- luacheck: ignore 212

--- The first row; nil alone when there is none.
---@param sql string # one statement
---@param ... any
---@return table? row
---@return perigee.Error? err
function Queries:one(sql, ...) end -- luacheck: ignore 212

--- Runs a statement; or several, without parameters, all or none of them.
---@param sql string
---@param ... any
---@return perigee.sqlite.Result? result
---@return perigee.Error? err # kind "conflict" for UNIQUE and FOREIGN KEY
function Queries:exec(sql, ...) end -- luacheck: ignore 212

---@class perigee.sqlite.Db: perigee.sqlite.Queries
local Db = core.db

---@class perigee.sqlite.Tx: perigee.sqlite.Queries
local Tx = core.tx

local depths = setmetatable({}, { __mode = "k" })
local committed = setmetatable({}, { __mode = "k" }) -- tx -> functions
local databases = setmetatable({}, { __mode = "k" }) -- tx -> db

local function check_function(fn)
  if type(fn) ~= "function" then
    error("a function expected, got " .. type(fn), 3)
  end
end

-- The function has ended well or badly; undo does not wait.
local function settle(keep, undo, ok, ...)
  if not ok then
    undo()
    error((...), 0)
  end
  local first, second = ...
  if first == nil and second ~= nil then
    undo()
    return ...
  end
  local kept, err = keep()
  if not kept then
    return nil, err
  end
  return ...
end

--- Runs fn in a transaction that has the writer for itself, and gives what it
--- gives. Rolled back when it raises or gives nil and an error, and when the
--- task is cancelled or overdue. Everything in it goes through the argument.
---@generic T
---@param fn fun(tx: perigee.sqlite.Tx): T?, any
---@return T? value
---@return perigee.Error? err # kind "unavailable": locked, or the disk is full
function Db:transaction(fn)
  check_function(fn)
  local tx = core.new_tx(self)
  local begun, err = core.begin(tx)
  if not begun then
    return nil, err
  end
  core.enter(tx)
  depths[tx] = 0
  databases[tx] = self
  return settle(function()
    local kept, why = core.commit(tx)
    for _, told in ipairs(kept and committed[tx] or {}) do
      task.spawn_detached(told, self)
    end
    return kept, why
  end, function()
    core.rollback(tx)
  end, pcall(fn, tx))
end

--- A transaction inside of this one: what it did is undone alone when fn
--- fails. One at a time.
---@generic T
---@param fn fun(tx: perigee.sqlite.Tx): T?, any
---@return T? value
---@return perigee.Error? err
function Tx:transaction(fn)
  check_function(fn)
  local depth = (depths[self] or 0) + 1
  local saved, err = core.save(self, depth)
  if not saved then
    return nil, err
  end
  depths[self] = depth
  return settle(function()
    depths[self] = depth - 1
    return core.release(self, depth)
  end, function()
    depths[self] = depth - 1
    core.undo(self, depth)
  end, pcall(fn, self))
end

local open = {}

--- The database of that name in the configuration (sqlite.NAME.path).
---@param name string? # "main" unless told
---@return perigee.sqlite.Db
function M.get(name)
  name = name or "main"
  local db = open[name]
  if not db then
    db = core.open(name)
    if not db then
      error(("no database %q: set sqlite.%s.path in config/"):format(
        tostring(name), tostring(name)), 2)
    end
    open[name] = db
  end
  return db
end

--- A value to be stored as a BLOB instead of TEXT.
---@param bytes string
---@return any
function M.blob(bytes)
  return core.blob(bytes)
end

--- For the library's own modules: fn(db) is called, as a task of its own, when
--- the transaction has been committed. Once for the same key.
function M.after_commit(tx, key, fn)
  if not databases[tx] then
    error("a transaction of db:transaction expected", 3)
  end
  local list = committed[tx] or {}
  committed[tx] = list
  if not list[key] then
    list[key] = true
    list[#list + 1] = fn
  end
end

--- How many reads, writes and commits of writes there were in this worker.
---@param db perigee.sqlite.Db
---@return {reads: integer, writes: integer, commits: integer}
function M.stats(db)
  return core.stats(db)
end

-- {path, text} of each file: as the generation has it, or from a folder of the
-- application's outside of scripts/.
local function read_folder(folder)
  local app = require "perigee.core.app"
  local list = {}
  for _, path in ipairs(app.files(folder .. "/")) do
    if path:find("^[^/]+%.sql$", #folder + 2) then
      list[#list + 1] = { path, app.file(path) }
    end
  end
  return #list > 0 and list or core.folder(folder)
end

-- {version, path, sql} of each file, in order of their numbers.
local function read_migrations(folder)
  local list, by_version = {}, {}
  for _, file in ipairs(read_folder(folder)) do
    local path, sql = file[1], file[2]
    local version = tonumber(path:match "/(%d+)_[^/]*$")
    if not version then
      return nil, errors.new("internal",
        "%s:1: a migration is named NNN_name.sql", path)
    end
    if by_version[version] then
      return nil, errors.new("internal", "%s:1: has the same number as %s",
        path, by_version[version])
    end
    by_version[version] = path
    list[#list + 1] = { version = version, path = path, sql = sql }
  end
  table.sort(list, function(a, b)
    return a.version < b.version
  end)
  return list
end

local function folder_of(name, options)
  if options.migrations ~= nil then
    return options.migrations
  end
  local folder = "scripts/data/migrations"
  return name == "main" and folder or folder .. "/" .. name
end

--- Brings every database up to date: the files NNN_name.sql of
--- scripts/data/migrations (main) and scripts/data/migrations/NAME (others)
--- that were not applied yet, each in a transaction. Called by the host before
--- on_start.
---@return boolean? ok
---@return perigee.Error? err # its message begins with file and line
function M.migrate()
  local config = require "perigee.config"
  local log = require "perigee.log"
  for name, options in pairs(config.sqlite or {}) do
    local folder = folder_of(name, options)
    local list, err = {}, nil
    if folder then
      list, err = read_migrations(folder)
    end
    if not list then
      return nil, err
    end
    if #list > 0 then
      local applied
      applied, err = core.migrate(M.get(name), list)
      if not applied then
        return nil, err
      end
      for _, path in ipairs(applied) do
        log.info("migration applied", { database = name, path = path })
      end
    end
  end
  return true
end

return M
