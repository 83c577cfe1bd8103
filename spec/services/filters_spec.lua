local filters = require "services.filters"

describe("filters.match", function()
  local cases = {
    { "*", "anything", true },
    { "push", "push", true },
    { "push", "pull", false },
    { "push", "pushed", false },
    { "issues", "issues.opened", true },
    { "issues.opened", "issues", false },
    { "issues.*", "issues.opened", true },
    { "issues.*", "issues.opened.again", true },
    { "issues.*", "issues", false },
    { "issues.*", "issuesX.opened", false },
    { "a.b", "a-b.c", false },
  }
  for _, case in ipairs(cases) do
    local filter, event_type, expected = unpack(case)
    it(("%s %s %s"):format(filter, expected and "wants" or "does not want", event_type), function()
      assert.equal(expected, filters.match({ filter }, event_type))
    end)
  end

  it("wants what any of several filters wants", function()
    assert.is_true(filters.match({ "a", "b" }, "b"))
    assert.is_false(filters.match({ "a", "b" }, "c"))
    assert.is_false(filters.match({}, "a"))
  end)
end)
