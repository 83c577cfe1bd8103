local cron = require "perigee.queue.cron"
local zones = require "perigee.queue.zone"

-- "2026-03-29 01:30:00" (UTC) -> Unix ms
local function utc(text)
  local year, month, day, hour, minute, second = text:match(
    "(%d+)-(%d+)-(%d+) (%d+):(%d+):?(%d*)")
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  local days = 0
  for y = 1970, year - 1 do
    days = days + ((y % 4 == 0 and y % 100 ~= 0 or y % 400 == 0)
      and 366 or 365)
  end
  local lengths = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
  if year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0 then
    lengths[2] = 29
  end
  for m = 1, month - 1 do
    days = days + lengths[m]
  end
  return ((days + day - 1) * 86400 + hour * 3600 + minute * 60
    + (tonumber(second) or 0)) * 1000
end

local function show(ms)
  return os.date("!%Y-%m-%d %H:%M:%S", ms / 1000)
end

-- The next times after one, in UTC.
local function times(pattern, tz, after, count)
  local parsed = assert(cron.parse(pattern, tz))
  local list, at = {}, utc(after)
  for i = 1, count do
    at = parsed:next(at)
    list[i] = show(at)
  end
  return list
end

describe("a cron pattern", function()
  it("has five fields, or six with seconds", function()
    assert.same({ "2026-01-01 00:05:00", "2026-01-01 00:10:00" },
      times("*/5 * * * *", nil, "2026-01-01 00:00:00", 2))
    assert.same({ "2026-01-01 00:00:10", "2026-01-01 00:00:40" },
      times("10,40 * * * * *", nil, "2026-01-01 00:00:00", 2))
  end)

  it("knows names, ranges, steps and Sunday's two numbers", function()
    assert.same({ "2026-01-02 09:00:00", "2026-01-05 09:00:00" },
      times("0 9 * * mon-fri", nil, "2026-01-01 10:00:00", 2))
    assert.same(times("0 0 * * 0", nil, "2026-01-01 00:00:00", 3),
      times("0 0 * * 7", nil, "2026-01-01 00:00:00", 3))
    assert.same({ "2028-02-29 12:00:00", "2032-02-29 12:00:00" },
      times("0 12 29 feb *", nil, "2026-01-01 00:00:00", 2))
    assert.same({ "2026-01-01 01:00:00" },
      times("@hourly", nil, "2026-01-01 00:00:00", 1))
  end)

  it("takes a day of the month or of the week when both are told", function()
    assert.same({ "2026-01-02 00:00:00", "2026-01-09 00:00:00",
      "2026-01-13 00:00:00" },
      times("0 0 13 * fri", nil, "2026-01-01 00:00:00", 3))
  end)

  it("goes by the week alone when it has every day of the month", function()
    for _, days in ipairs { "*", "?", "*/1", "1-31" } do
      assert.same({ "2026-01-05 00:00:00", "2026-01-12 00:00:00" },
        times(("0 0 %s * mon"):format(days), nil, "2026-01-01 00:00:00", 2))
    end
    assert.same({ "2026-01-13 00:00:00", "2026-02-13 00:00:00" },
      times("0 0 13 * 0-6", nil, "2026-01-01 00:00:00", 2))
  end)

  it("knows the last day of a month, and a weekday's last and nth", function()
    assert.same({ "2028-01-31 00:00:00", "2028-02-29 00:00:00" },
      times("0 0 L * *", nil, "2028-01-01 00:00:00", 2))
    assert.same({ "2026-01-15 00:00:00", "2026-01-31 00:00:00" },
      times("0 0 15,L * *", nil, "2026-01-01 00:00:00", 2))
    assert.same({ "2026-12-25 00:00:00", "2027-01-29 00:00:00" },
      times("0 0 * * 5L", nil, "2026-12-01 00:00:00", 2))
    assert.same({ "2026-12-14 00:00:00", "2027-01-11 00:00:00" },
      times("0 0 * * mon#2", nil, "2026-12-01 00:00:00", 2))
    assert.same({ "2027-01-29 00:00:00", "2027-04-30 00:00:00" },
      times("0 0 * * fri#5", nil, "2026-12-01 00:00:00", 2))
  end)

  it("that never comes is nil", function()
    assert.is_nil(cron.parse("0 0 30 2 *"):next(0))
  end)

  it("is refused with its field when it is wrong", function()
    for pattern, why in pairs {
      ["* * * *"] = "fields", ["60 * * * *"] = "minute",
      ["* 24 * * *"] = "hour", ["* * 0 * *"] = "day",
      ["* * * 13 *"] = "month", ["* * * * 8"] = "weekday",
      ["a * * * *"] = "minute", ["*/0 * * * *"] = "minute",
      ["5-1 * * * *"] = "minute", [", * * * *"] = "minute",
      ["0x5 * * * *"] = "minute", ["1e1 * * * *"] = "minute",
      ["1.0 * * * *"] = "minute", ["L * * * *"] = "minute",
      ["* * * * 5#6"] = "weekday", ["* * * * L"] = "weekday",
      ["* * 5L * *"] = "day",
    } do
      local parsed, message = cron.parse(pattern)
      assert.is_nil(parsed)
      assert.matches(why, message)
    end
    assert.matches("time zone", select(2, cron.parse("* * * * *", "No/Zone")))
    assert.is_nil((cron.parse("* * * * *", "../etc/passwd")))
  end)

  describe("in a time zone", function()
    local berlin = zones.get "Europe/Berlin"
    if not berlin then
      pending "this system has no tzdata"
      return
    end

    it("goes by its clocks, summer and winter", function()
      assert.same({ "2026-01-01 08:00:00" },
        times("0 9 * * *", "Europe/Berlin", "2026-01-01 00:00:00", 1))
      assert.same({ "2026-07-01 07:00:00" },
        times("0 9 * * *", "Europe/Berlin", "2026-07-01 00:00:00", 1))
    end)

    it("runs what falls into the hour left out once, after it", function()
      assert.same({ "2026-03-28 01:30:00", "2026-03-29 01:00:00",
        "2026-03-30 00:30:00" },
        times("30 2 * * *", "Europe/Berlin", "2026-03-28 00:00:00", 3))
    end)

    it("runs what is at a certain hour once when it comes twice", function()
      assert.same({ "2026-10-25 00:30:00", "2026-10-26 01:30:00" },
        times("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00:00", 2))
    end)

    it("runs what is every hour in both", function()
      assert.same({ "2026-10-24 23:30:00", "2026-10-25 00:30:00",
        "2026-10-25 01:30:00", "2026-10-25 02:30:00" },
        times("30 * * * *", "Europe/Berlin", "2026-10-24 23:00:00", 4))
    end)
  end)
end)
