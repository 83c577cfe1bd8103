--- Errors that may happen while running: what `nil, err` carries.

local M = {}

---@alias perigee.ErrorKind
---| "invalid" | "unauthorized" | "forbidden" | "not_found" | "conflict"
---| "too_large" | "unprocessable" | "limited" | "timeout" | "cancelled"
---| "unavailable" | "unrecoverable" | "internal"

---@class perigee.Error
---@field kind perigee.ErrorKind
---@field message string
---@field code string?            # a finer cause: "ECONNREFUSED", "breaker_open"
---@field cause any               # the error that this one wraps
---@field errors table[]?         # validation: {pointer, detail} each
---@field headers table<string, string|string[]>? # of the answer, if it becomes one
---@field retry_after_ms integer? # kind "limited" and "unavailable"

local KINDS = {}
for kind in ("invalid unauthorized forbidden not_found conflict too_large "
  .. "unprocessable limited timeout cancelled unavailable unrecoverable "
  .. "internal"):gmatch "%S+" do
  KINDS[kind] = true
end

-- C finds the metatable under this name (bindings/error.c).
local metatable = debug.getregistry()["perigee.error"] or {}
debug.getregistry()["perigee.error"] = metatable
metatable.__index = {}

function metatable.__tostring(err)
  return tostring(err.message)
end

local function make(kind, message, cause)
  return setmetatable(
    { kind = kind, message = message, cause = cause }, metatable)
end

local function format(text, ...)
  if select("#", ...) == 0 then
    return tostring(text)
  end
  return string.format(text, ...)
end

--- Whether a value is an error made here.
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and getmetatable(value) == metatable
end

--- A new error. Without further arguments the text is taken as it is.
---@param kind perigee.ErrorKind
---@param text string
---@param ... any  # as for string.format
---@return perigee.Error
function M.new(kind, text, ...)
  if not KINDS[kind] then
    error("unknown kind of error: " .. tostring(kind), 2)
  end
  return make(kind, format(text, ...))
end

-- What somebody else's value says of itself may fail, too.
local function said_by(value)
  local ok, text = pcall(tostring, value)
  return ok and text or ("a %s that cannot say what it is")
    :format(type(value))
end

--- The same error with more words in front; keeps kind, code and the like. Any
--- other value becomes an error of kind "internal".
---@param err any
---@param text string?
---@param ... any  # as for string.format
---@return perigee.Error
function M.wrap(err, text, ...)
  local is_error = M.is(err)
  local message = is_error and err.message or said_by(err)
  if text ~= nil then
    message = format(text, ...) .. ": " .. message
  end
  local wrapped = make(is_error and err.kind or "internal", message, err)
  if is_error then
    wrapped.code = err.code
    wrapped.errors = err.errors
    wrapped.headers = err.headers
    wrapped.retry_after_ms = err.retry_after_ms
  end
  return wrapped
end

--- An error after which a job must not be tried again.
---@param text string
---@param ... any
---@return perigee.Error
function M.unrecoverable(text, ...)
  return make("unrecoverable", format(text, ...))
end

return M
