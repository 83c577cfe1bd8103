--- Cron patterns: five fields, or six with seconds in front, by the clocks of a
--- time zone.
---
--- When clocks are put forward, what falls into the hour that does not exist
--- runs at the moment of the change, once. When they are put back, patterns for
--- certain hours run in the first of the two; those for every hour in both.

local zones = require "perigee.queue.zone"

local M = {}

local MONTHS = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6,
  jul = 7, aug = 8, sep = 9, oct = 10, nov = 11, dec = 12 }
local DAYS = { sun = 0, mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6 }

local FIELDS = {
  { name = "second", low = 0, high = 59 },
  { name = "minute", low = 0, high = 59 },
  { name = "hour", low = 0, high = 23 },
  { name = "day", low = 1, high = 31 },
  { name = "month", low = 1, high = 12, names = MONTHS },
  { name = "weekday", low = 0, high = 7, names = DAYS },
}

local MACROS = {
  ["@yearly"] = "0 0 1 1 *", ["@annually"] = "0 0 1 1 *",
  ["@monthly"] = "0 0 1 * *", ["@weekly"] = "0 0 * * 0",
  ["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *",
  ["@hourly"] = "0 * * * *",
}

local YEARS_MAX = 30

local function number(field, text)
  local value = field.names and field.names[text:lower()]
    or text:find "^%d+$" and tonumber(text)
  if not value or value < field.low or value > field.high then
    return nil
  end
  return value
end

-- "L", the last of the month: of its days, or ("5L") of its Fridays, say.
-- "5#2": its second Friday.
local function add_special(field, set, part)
  if field.name == "day" and part:upper() == "L" then
    set.last = true
    return true
  elseif field.name ~= "weekday" then
    return false
  end
  local day, last = part:match "^(%w+)([lL])$"
  local nth
  if not day then
    day, nth = part:match "^(%w+)#([1-5])$"
  end
  day = day and number(field, day)
  if not day then
    return false
  end
  set.nth = set.nth or {}
  table.insert(set.nth, { day = day % 7, n = not last and tonumber(nth) })
  return true
end

local function add_part(field, set, part)
  local range, step = part:match "^([^/]+)/(%d+)$"
  range = range or part
  step = tonumber(step or 1)
  local low, high
  if range == "*" or range == "?" then
    low, high = field.low, field.name == "weekday" and 6 or field.high
  else
    local from, to = range:match "^(%w+)%-(%w+)$"
    low = number(field, from or range)
    if to then
      high = number(field, to)
    else
      high = part:find "/" and field.high or low
    end
  end
  if not low or not high or step < 1 or low > high then
    return false
  end
  for value = low, high, step do
    set[field.name == "weekday" and value % 7 or value] = true
  end
  return true
end

local function is_full(field, set)
  for value = field.low, field.name == "weekday" and 6 or field.high do
    if not set[value] then
      return false
    end
  end
  return true
end

local function parse_field(field, text)
  local set = {}
  for part in (text .. ","):gmatch "([^,]*)," do
    if not add_part(field, set, part)
      and not add_special(field, set, part) then
      return nil
    end
  end
  set.any = is_full(field, set) -- however it is written
  return set
end

-- ---- dates, counted in days since 1970 ----

local function date_of(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460)
    + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4)
    - math.floor(year / 100))
  local shifted = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * shifted + 2) / 5) + 1
  local month = shifted < 10 and shifted + 3 or shifted - 9
  return year + era * 400 + (month <= 2 and 1 or 0), month, day
end

local function is_last(days)
  local _, _, day = date_of(days + 1)
  return day == 1
end

-- Of a day with that number in its month: whether it is one of those of "5L" or
-- "5#2".
local function is_nth(nth, days, day, weekday)
  for _, one in ipairs(nth) do
    if one.day == weekday then
      if one.n then
        if math.ceil(day / 7) == one.n then
          return true
        end
      else
        local _, _, next_week = date_of(days + 7)
        if next_week < day then
          return true
        end
      end
    end
  end
  return false
end

---@class perigee.queue.Cron
local Cron = {}
Cron.__index = Cron

local function day_matches(self, days)
  local _, month, day = date_of(days)
  if not self.month[month] then
    return false
  end
  local weekday, of_week = (days + 4) % 7, self.weekday
  local by_day = self.day[day] or self.day.last and is_last(days) or false
  local by_week = of_week[weekday] or of_week.nth
    and is_nth(of_week.nth, days, day, weekday) or false
  if self.day.any or of_week.any then
    return by_day and by_week
  end
  return by_day or by_week
end

-- The first value of the set from `from` on, or nil.
local function at_least(set, from, high)
  for value = from, high do
    if set[value] then
      return value
    end
  end
  return nil
end

-- Within a day, at or after so many seconds of it.
local function time_in_day(self, from)
  local hour = math.floor(from / 3600)
  local minute = math.floor(from % 3600 / 60)
  local second = from % 60
  while true do
    local found = at_least(self.hour, hour, 23)
    if not found then
      return nil
    elseif found > hour then
      hour, minute, second = found, 0, 0
    end
    found = at_least(self.minute, minute, 59)
    if found and found > minute then
      minute, second = found, 0
    end
    local last = found and at_least(self.second, second, 59)
    if last then
      return hour * 3600 + minute * 60 + last
    elseif found then
      minute, second = minute + 1, 0
    end
    if not found or minute > 59 then
      hour, minute, second = hour + 1, 0, 0
    end
  end
end

-- The first time on the wall that matches, at or after `wall`.
local function next_wall(self, wall)
  local days = math.floor(wall / 86400)
  local from = wall - days * 86400
  for _ = 1, YEARS_MAX * 366 do
    if day_matches(self, days) then
      local seconds = time_in_day(self, from)
      if seconds then
        return days * 86400 + seconds
      end
    end
    days, from = days + 1, 0
  end
  return nil
end

--- The first time after that one; nil when there is none for many years.
---@param after_ms number # Unix ms
---@return integer? ms
function Cron:next(after_ms)
  local zone = self.zone
  local after = math.floor(after_ms / 1000)
  local wall = after + 1 + zone:offset(after + 1)
  local best
  while not best do
    local found = next_wall(self, wall)
    if not found then
      return nil
    end
    best = zone:at(found, after)
    -- Shown a second time: certain hours had their turn in the first.
    if best and not self.hour.any and best - 7200 <= after then
      local first = zone:at(found, best - 14400)
      if first and first < best and first <= after then
        best = nil
      end
    end
    wall = found + 1
  end
  if self.hour.any then
    local back = zone:put_back(after, best)
    if back then
      local again = next_wall(self, back + zone:offset(back))
      local seconds = again and again - zone:offset(back)
      if seconds and seconds < best and seconds > after then
        best = seconds
      end
    end
  end
  return best * 1000
end

local parsed = {}

--- A pattern, or nil and what is wrong with it.
---@param text string
---@param tz string? # "Europe/Berlin"; UTC unless told
---@return perigee.queue.Cron?
---@return string? why
function M.parse(text, tz)
  if type(text) ~= "string" then
    return nil, "cron: a pattern of 5 or 6 fields expected"
  end
  local key = text .. "\n" .. tostring(tz)
  if parsed[key] then
    return parsed[key]
  end
  local zone, why = zones.get(tz)
  if not zone then
    return nil, why
  end
  local words = {}
  for word in (MACROS[text:lower()] or text):gmatch "%S+" do
    words[#words + 1] = word
  end
  if #words == 5 then
    table.insert(words, 1, "0")
  end
  if #words ~= 6 then
    return nil, ("cron: %q has %d fields, not 5 or 6"):format(text, #words)
  end
  local cron = { zone = zone }
  for i, field in ipairs(FIELDS) do
    local set = parse_field(field, words[i])
    if not set then
      return nil, ("cron: %q is no %s"):format(words[i], field.name)
    end
    cron[field.name] = set
  end
  parsed[key] = setmetatable(cron, Cron)
  return parsed[key]
end

return M
