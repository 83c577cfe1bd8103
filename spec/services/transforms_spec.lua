local errors = require "perigee.error"
local json = require "perigee.json"
local task = require "perigee.task"
local support = require "spec.support"
local transforms = require "services.transforms"

local EVENT = {
  id = "1", source = "s", type = "t", received_at_ms = 1, headers = {},
  body = [[{"n":1,"list":[],"none":null}]],
}

local function run(fn, event)
  support.transform("of_spec", fn)
  return transforms.run("of_spec", event or EVENT)
end

describe("transforms.run", function()
  after_each(function()
    support.transform("of_spec", nil)
  end)

  it("gives the payload as JSON, exactly", function()
    local outcome = run(function(event)
      return event.body
    end)
    assert.equal("pending", outcome.status)
    assert.same(json.decode(EVENT.body), json.decode(outcome.payload))
    assert.truthy(outcome.payload:find("[]", 1, true))
  end)

  it("passes what is no table, too", function()
    for _, value in ipairs { "text", 7, false, json.null } do
      assert.equal(json.encode(value), run(function()
        return value
      end).payload)
    end
  end)

  it("skips when it gives nil", function()
    assert.same({ status = "skipped" }, run(function() end))
  end)

  it("gives each transform a copy of its own", function()
    local first
    run(function(event)
      first = event.body
      first.n = 2
      return first
    end)
    assert.equal('{"n":1}', run(function(event)
      assert.not_equal(first, event.body)
      return { n = event.body.n }
    end).payload)
  end)

  it("has no body when the webhook was no JSON", function()
    local event = setmetatable({ body = "text" }, { __index = EVENT })
    assert.equal('"text"', run(function(given)
      return given.body == nil and given.raw or "wrong"
    end, event).payload)
  end)

  it("fails, with the reason, when it raises", function()
    local outcome = run(function()
      error "bad day"
    end)
    assert.equal("failed", outcome.status)
    assert.truthy(outcome.error:find "transforms_spec.lua:%d+: bad day")
  end)

  it("fails when it returns nil and an error", function()
    local outcome = run(function()
      return nil, errors.new("unavailable", "the moon is away")
    end)
    assert.same({ status = "failed", error = "the moon is away" }, outcome)
  end)

  it("fails when it takes too long", function()
    assert.equal("failed", run(function()
      task.sleep "30s"
    end).status)
  end)

  it("fails when what it gives is no JSON, or too much of it", function()
    for _, value in ipairs { print, { print }, { 1, a = 2 }, 0 / 0, ("x"):rep(2 ^ 20) } do
      assert.equal("failed", run(function()
        return value
      end).status)
    end
  end)

  it("fails when there is none of that name", function()
    assert.same({ status = "failed", error = "transform not_there: there is none" },
      transforms.run("not_there", EVENT))
  end)
end)

describe("transforms.load", function()
  it("stays in its folder", function()
    for _, name in ipairs { "..main", "../main", "a.b", "a/b", "", "A", "os" } do
      local found, err = transforms.load(name)
      assert.is_nil(found)
      assert.equal("unprocessable", err.kind)
    end
  end)
end)
