local connection = require "perigee.queue.redis.connection"
local time = require "perigee.time"

-- What TIME says on a server whose clock is so many ms behind ours.
local function reading(behind_ms)
  local ms = time.now() - behind_ms
  return { tostring(math.floor(ms / 1000)), tostring(ms % 1000 * 1000) }
end

describe("the server's clock", function()
  local here

  before_each(function()
    here = connection.open({}, "{q}:marker", "q")
  end)

  local function read(behind_ms)
    here:read_clock(reading(behind_ms))
    return here.ahead
  end

  it("is known by the reading that came fastest", function()
    assert.is_true(read(500) >= 500)
    local ahead = read(20)
    assert.is_true(ahead >= 20 and ahead < 500)
    assert.equal(ahead, read(400))
  end)

  it("is followed at once when a clock has been set", function()
    read(20)
    assert.is_true(read(3600000) >= 3600000)
    assert.is_true(read(-3600000) < 0)
  end)

  it("is taken for ours when the server does not tell", function()
    here:read_clock(nil)
    assert.equal(0, here.ahead)
  end)
end)
