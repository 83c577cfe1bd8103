--- Dictionaries that all workers of a host see.

local core = require "perigee.core.shared"
local core_metrics = require "perigee.core.metrics"
local errors = require "perigee.error"
local ffi = require "ffi"
local metrics = require "perigee.metrics"
local options = require "perigee.options"
local units = require "perigee.units"

local M = {}

local blame = options.blame

local BOOLEAN, NUMBER, STRING, TABLE = 1, 2, 3, 4 -- as peri_dict_type
local SET, ADD, REPLACE = 0, 1, 2
local ELIMIT, ESTATE, ENOTFOUND, EEXISTS = -5000, -5005, -5006, -5007
local DEFAULT_SIZE = 16 * 1024 * 1024
local KEY_MAX = 4096
local DICT = { size = true }

ffi.cdef [[
typedef struct peri_dict peri_dict;
typedef struct peri_dict_value {
  double number;
  char *data;
  size_t length;
  size_t room_bytes;
  uint32_t type;
} peri_dict_value;
]]

local function fn(name, signature)
  return ffi.cast(signature, core.ffi[name])
end

local c_get = fn("get",
  "int (*)(peri_dict *, const char *, size_t, peri_dict_value *)")
local c_set_number = fn("set_number", "int (*)(peri_dict *, const char *, "
  .. "size_t, double, uint32_t, double, int)")
local c_set_bytes = fn("set_bytes", "int (*)(peri_dict *, const char *, "
  .. "size_t, const char *, size_t, uint32_t, double, int)")
local c_incr = fn("incr", "int (*)(peri_dict *, const char *, size_t, "
  .. "double, double, double, double *)")
local c_cas = fn("cas", "int (*)(peri_dict *, const char *, size_t, "
  .. "const peri_dict_value *, const peri_dict_value *, double)")
local c_delete = fn("delete", "int (*)(peri_dict *, const char *, size_t)")
local c_ttl = fn("ttl", "double (*)(peri_dict *, const char *, size_t)")

-- Where values are read to; no call waits, so one is enough.
local room = ffi.new("char[?]", 4096)
local out = ffi.cast("peri_dict_value *", core.found)
out.data, out.room_bytes = room, 4096
local number_out = ffi.new "double[1]"


---@class perigee.Dict
---@field name string
local dict = {}
dict.__index = dict

---@alias perigee.DictValue boolean|number|string|table

local function key_text(key)
  if type(key) == "number" then
    return tostring(key)
  end
  blame("a key must be a string, not a " .. type(key))
end

local function check_ttl(ttl)
  if ttl == nil then
    return 0
  end
  local ms, why = units.duration(ttl)
  if not ms then
    blame("ttl: " .. why)
  end
  return ms > 0 and ms < 1 and 1 or ms
end

-- The words for a negative status.
local function failure(rc, self, key)
  local name = ("%s[%q]"):format(self.name, #key > 80 and key:sub(1, 80) or key)
  if rc == ELIMIT then
    if #key > KEY_MAX then
      return errors.new("too_large", "a key of " .. #key .. " bytes")
    end
    return errors.new("too_large", name .. ": the value is too big")
  elseif rc == ESTATE then
    return errors.new("conflict", name .. " is of another type")
  elseif rc == ENOTFOUND then
    return errors.new("not_found", name .. " is absent")
  elseif rc == EEXISTS then
    return errors.new("conflict", name .. " is there already")
  end
  return errors.new("internal", name .. ": status " .. tonumber(rc))
end

-- Room for what was too big for it, and that read.
local function make_room(self, key, rc)
  while rc == ELIMIT do
    local size = tonumber(out.length)
    size = math.ceil(size * 1.5 / 8) * 8
    room = ffi.new("char[?]", size)
    out.data, out.room_bytes = room, size
    rc = c_get(self.c, key, #key, out)
  end
  return rc
end

-- What is not read by the fast path of get.
local function get_rest(self, key, rc)
  rc = make_room(self, key, rc)
  if rc == STRING then
    return ffi.string(out.data, out.length)
  elseif rc == TABLE then
    return core.found_table()
  elseif rc == BOOLEAN then
    return out.number ~= 0
  elseif rc == NUMBER then
    return out.number
  end
  return nil
end

--- The value of a key; nil when it is absent. A table is a copy.
---@param key string
---@return perigee.DictValue?
function dict:get(key)
  if type(key) ~= "string" then
    key = key_text(key)
  end
  local rc = c_get(self.c, key, #key, out)
  if rc == 0 then
    self.misses[0] = self.misses[0] + 1
    return nil
  end
  local hits = self.hits
  hits[0] = hits[0] + 1
  if rc == STRING then
    return ffi.string(out.data, out.length)
  elseif rc == NUMBER then
    return out.number
  end
  return get_rest(self, key, rc)
end

-- Each value of a list, for the cache; nothing when there is none.
---@private
---@param key string
---@return any ...
function dict:values(key)
  local rc = make_room(self, key, c_get(self.c, key, #key, out))
  local count = rc == 0 and self.misses or self.hits
  count[0] = count[0] + 1
  if rc == TABLE then
    return core.found_values()
  end
end

-- Stores, however the mode says.
local function put(self, key, value, ttl, mode)
  if type(key) ~= "string" then
    key = key_text(key)
  end
  if ttl ~= 0 then
    ttl = check_ttl(ttl)
  end
  local kind, rc = type(value), nil
  if kind == "string" then
    rc = c_set_bytes(self.c, key, #key, value, #value, STRING, ttl, mode)
  elseif kind == "number" then
    rc = c_set_number(self.c, key, #key, value, NUMBER, ttl, mode)
  elseif kind == "boolean" then
    rc = c_set_number(self.c, key, #key, value and 1 or 0, BOOLEAN, ttl, mode)
  elseif kind == "table" then
    local bytes, err = core.pack(value)
    if not bytes then
      return nil, err
    end
    rc = c_set_bytes(self.c, key, #key, bytes, #bytes, TABLE, ttl, mode)
  else
    blame("a " .. kind .. " cannot be kept in a dictionary")
  end
  if rc == 0 then
    return true
  end
  return nil, failure(rc, self, key)
end

--- Sets a key; nil deletes it. A dictionary that is full makes room by evicting
--- what has not been read for long.
---@param key string
---@param value perigee.DictValue?
---@param ttl string|number?  # "30s", or milliseconds; without: for good
---@return true? ok
---@return perigee.Error? err # kind "too_large"; "invalid": not plain data
function dict:set(key, value, ttl)
  if value == nil then
    self:delete(key)
    return true
  end
  return put(self, key, value, ttl or 0, SET)
end

--- Sets a key that is absent.
---@param key string
---@param value perigee.DictValue
---@param ttl string|number?
---@return true? ok
---@return perigee.Error? err # kind "conflict": it is there
function dict:add(key, value, ttl)
  return put(self, key, value, ttl or 0, ADD)
end

--- Sets a key that is there.
---@param key string
---@param value perigee.DictValue
---@param ttl string|number?
---@return true? ok
---@return perigee.Error? err # kind "not_found": it is absent
function dict:replace(key, value, ttl)
  return put(self, key, value, ttl or 0, REPLACE)
end

--- Adds to a number, in one step. An absent key starts from init, and gets the
--- ttl; that of a key that is there stays.
---@param key string
---@param by number?   # 1
---@param init number? # 0
---@param ttl string|number?
---@return number? value
---@return perigee.Error? err # kind "conflict": it is no number
function dict:incr(key, by, init, ttl)
  if type(key) ~= "string" then
    key = key_text(key)
  end
  by, init = by or 1, init or 0
  if type(by) ~= "number" or type(init) ~= "number" then
    blame("a number expected to add, and to begin with")
  end
  local rc = c_incr(self.c, key, #key, by, init,
    ttl == nil and 0 or check_ttl(ttl), number_out)
  if rc == 0 then
    return number_out[0]
  end
  return nil, failure(rc, self, key)
end

-- A C value, and the text that it points into.
local function to_c(value)
  local c, text = ffi.new "peri_dict_value", nil
  local kind = type(value)
  if kind == "string" or kind == "table" then
    text = value
    if kind == "table" then
      local err
      text, err = core.pack(value)
      if not text then
        return nil, err
      end
    end
    c.type = kind == "string" and STRING or TABLE
    c.data, c.length = ffi.cast("char *", text), #text
  elseif kind == "number" then
    c.type, c.number = NUMBER, value
  elseif kind == "boolean" then
    c.type, c.number = BOOLEAN, value and 1 or 0
  elseif kind ~= "nil" then
    blame("a " .. kind .. " cannot be kept in a dictionary")
  end
  return { value = c, text = text }
end

-- Whether two values hold the same, in whatever order.
local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b or (a ~= a and b ~= b)
  elseif next(a) == nil or next(b) == nil then
    return core.pack(a) == core.pack(b) -- [] is not {}
  end
  for key, value in pairs(a) do
    if not is_same(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

-- The bytes of the table that is stored, if it holds the same as t.
local function same_stored(self, key, t)
  if make_room(self, key, c_get(self.c, key, #key, out)) ~= TABLE then
    return nil
  end
  local bytes = ffi.string(out.data, out.length)
  return is_same(core.unpack(bytes), t) and bytes or nil
end

local function point_to(c, bytes)
  c.value.data, c.value.length = ffi.cast("char *", bytes), #bytes
  c.text = bytes
end

--- Sets a key if its value is still `old` (nil: absent). new = nil deletes.
--- Tables are equal when they hold the same.
---@param key string
---@param old perigee.DictValue?
---@param new perigee.DictValue?
---@param ttl string|number? # without: that of the present value stays
---@return true? ok
---@return perigee.Error? err # kind "conflict": it has another value
function dict:cas(key, old, new, ttl)
  if type(key) ~= "string" then
    key = key_text(key)
  end
  local old_c, err = to_c(old)
  if not old_c then
    return nil, err
  end
  local new_c
  new_c, err = to_c(new)
  if not new_c then
    return nil, err
  end
  local ttl_ms = ttl == nil and -1 or check_ttl(ttl)
  local rc = c_cas(self.c, key, #key, old_c.value, new_c.value, ttl_ms)
  while rc == EEXISTS and type(old) == "table" do
    -- The order of a table's keys is not its value.
    local bytes = same_stored(self, key, old)
    if not bytes then
      break
    end
    point_to(old_c, bytes)
    rc = c_cas(self.c, key, #key, old_c.value, new_c.value, ttl_ms)
  end
  if rc == 0 then
    return true
  elseif rc == EEXISTS then
    return nil, errors.new("conflict", "%s[%q] has another value", self.name,
      key)
  end
  return nil, failure(rc, self, key)
end

--- Deletes a key.
---@param key string
---@return boolean was_there
function dict:delete(key)
  if type(key) ~= "string" then
    key = key_text(key)
  end
  return c_delete(self.c, key, #key) == 1
end

--- The milliseconds that a key has left; nil when it has no end, or is absent.
---@param key string
---@return number? ms
function dict:ttl(key)
  if type(key) ~= "string" then
    key = key_text(key)
  end
  local ms = c_ttl(self.c, key, #key)
  return ms >= 0 and ms or nil
end

--- The keys, in no order. Walks all of the dictionary: not for every request.
---@param max integer? # at most so many
---@return string[]
function dict:keys(max)
  return core.keys(self.handle, max or math.huge)
end

--- Deletes all.
function dict:flush()
  core.flush(self.handle)
end

---@class perigee.DictStats
---@field size integer     # bytes, all in all
---@field room integer     # of them for entries
---@field used integer     # by entries that are there
---@field items integer
---@field hits integer     # of get, in all workers, ever; 0 for a cache's level
---@field misses integer
---@field evicted integer  # to make room, ever
---@field expired integer  # met after their time, ever
---@field repaired integer # times that a process died while it wrote
---@field item_max integer # bytes that a key and its value may have

-- What get found, of all workers.
local function count_of(self, result)
  local name = self.name:gsub('[\\"\n]', { ["\\"] = "\\\\", ['"'] = '\\"',
    ["\n"] = "\\n" })
  return core_metrics.total("perigee_shared_requests_total",
    ('dict="%s",result="%s"'):format(name, result))
end

---@return perigee.DictStats
function dict:stats()
  local stats = core.stats(self.handle)
  stats.hits, stats.misses = 0, 0
  if self.counted then
    stats.hits, stats.misses = count_of(self, "hit"), count_of(self, "miss")
  end
  return stats
end

local opened = {}

local function count_requests(d)
  local requests = metrics.own.counter {
    name = "perigee_shared_requests_total", labels = { "dict", "result" },
    help = "Gets of dictionaries.",
  }
  d.hits = requests:with(d.name, "hit").cells
  d.misses = requests:with(d.name, "miss").cells
  d.counted = true
  return d
end

local function open(name, size, region)
  local handle, address, real = core.open(region, size)
  if not handle then
    blame(address)
  end
  local d = setmetatable({
    name = name,
    handle = handle,
    c = ffi.cast("peri_dict *", address),
    -- Of the library's own: nobody looks.
    hits = ffi.new "double[1]",
    misses = ffi.new "double[1]",
  }, dict)
  return d, real
end

--- The dictionary of that name, the same one in all workers; made by whoever
--- asks first, with that size, and there until the host ends. Who asks for
--- another size gets the one that is there.
---@param name string
---@param opts { size: (string|number)? }? # "16mb"
---@return perigee.Dict
function M.dict(name, opts)
  if opened[name] then
    return opened[name]
  end
  if type(name) ~= "string" or name == "" or #name > 64 then
    blame("a dictionary's name is a string of up to 64 bytes")
  end
  local size = DEFAULT_SIZE
  if opts ~= nil then
    options.check(opts, DICT, "shared.dict")
  end
  if opts and opts.size then
    local why
    size, why = units.size(opts.size)
    if not size then
      blame("size: " .. why)
    end
  end
  opened[name] = count_requests((open(name, size, "dict:" .. name)))
  return opened[name]
end

--- For the library's own modules: a dictionary beside those of applications.
function M.internal(name, size)
  local key = "\0" .. name
  opened[key] = opened[key] or open(name, size, name)
  return opened[key]
end

return M
