--- Time zones, from the system's tzdata (TZif files).

local M = {}

local FOLDERS = { "/usr/share/zoneinfo/", "/usr/lib/zoneinfo/" }

local zones = {}

---@class perigee.queue.Zone
---@field times integer[]   # when something changes, Unix seconds
---@field offsets integer[] # seconds east of Greenwich from then on
---@field first integer     # before all of them
local Zone = {}
Zone.__index = Zone

local function be32(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  local value = ((a * 256 + b) * 256 + c) * 256 + d
  return value >= 2 ^ 31 and value - 2 ^ 32 or value
end

local function be64(text, at)
  local high, low = be32(text, at), be32(text, at + 4)
  return high * 2 ^ 32 + (low < 0 and low + 2 ^ 32 or low)
end

local function counts(text, at)
  local list = {}
  for i = 0, 5 do
    list[i + 1] = be32(text, at + 20 + i * 4)
  end
  return unpack(list)
end

-- isut, isstd, leap, time, type and char counts of RFC 9636.
local function parse(text)
  if #text < 44 or text:sub(1, 4) ~= "TZif" then
    return nil
  end
  local at, size, read = 1, 4, be32
  local isut, isstd, leap, times, types, chars = counts(text, at)
  if text:byte(5) >= 50 then -- "2": the same again, in 64 bits
    at = 45 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    size, read = 8, be64
    isut, isstd, leap, times, types, chars = counts(text, at)
  end
  local base = at + 44
  local zone = { times = {}, offsets = {} }
  local type_base = base + times * (size + 1)
  local function offset(index)
    return be32(text, type_base + index * 6)
  end
  zone.first = types > 0 and offset(0) or 0
  for i = 1, times do
    zone.times[i] = read(text, base + (i - 1) * size)
    zone.offsets[i] = offset(text:byte(base + times * size + i - 1))
  end
  return setmetatable(zone, Zone)
end

--- Seconds to be added to UTC at that time.
---@param seconds integer # Unix
---@return integer
function Zone:offset(seconds)
  local low, high = 0, #self.times
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if self.times[middle] <= seconds then
      low = middle
    else
      high = middle - 1
    end
  end
  return low == 0 and self.first or self.offsets[low], low
end

--- The first time in (from, to] at which clocks are put back, or nil.
---@return integer? seconds
function Zone:put_back(from, to)
  local _, at = self:offset(from)
  for i = at + 1, #self.times do
    if self.times[i] > to then
      return nil
    end
    if self.offsets[i] < (self.offsets[i - 1] or self.first) then
      return self.times[i]
    end
  end
  return nil
end

--- When a clock on the wall shows so many seconds (counted as if it were UTC):
--- the first such time later than `after`; where clocks are put forward over
--- it, the moment when they are.
---@return integer? seconds # nil: it was not later
function Zone:at(wall, after)
  local early = self:offset(wall - 86400)
  local late = self:offset(wall + 86400)
  local best
  for _, offset in ipairs { early, late, self:offset(wall - early),
    self:offset(wall - late) } do
    local seconds = wall - offset
    if self:offset(seconds) == offset and seconds > after
      and (not best or seconds < best) then
      best = seconds
    end
  end
  if best then
    return best
  end
  for _, offset in ipairs { early, late } do
    if self:offset(wall - offset) == offset then
      return nil -- shown, but not after that
    end
  end
  local low, high = wall - 86400 - early, wall + 86400 - late
  for i = 1, #self.times do
    local moment = self.times[i]
    if moment > low and moment < high and moment > after
      and moment + (self.offsets[i - 1] or self.first) <= wall
      and moment + self.offsets[i] > wall then
      return moment
    end
  end
  return nil
end

local UTC = setmetatable({ times = {}, offsets = {}, first = 0 }, Zone)

--- A zone by its name: "Europe/Berlin".
---@param name string?  # UTC unless told
---@return perigee.queue.Zone?
---@return string? why
function M.get(name)
  if name == nil or name == "UTC" or name == "Etc/UTC" then
    return UTC
  end
  if type(name) ~= "string" or name:find "%.%." or name:find "^/"
    or not name:find "^[%w_+/-]+$" then
    return nil, "tz: the name of a time zone expected, such as Europe/Berlin"
  end
  if zones[name] then
    return zones[name]
  end
  for _, folder in ipairs(FOLDERS) do
    local file = io.open(folder .. name, "rb")
    if file then
      local text = file:read "*a"
      file:close()
      local zone = text and parse(text)
      if zone then
        zones[name] = zone
        return zone
      end
    end
  end
  return nil, ("tz: no time zone %q on this system (tzdata)"):format(name)
end

return M
