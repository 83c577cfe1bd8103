local json = require "perigee.json"

describe("slack_message", function()
  local slack_message = require "transforms.slack_message"

  it("says what happened where, by whom and to what", function()
    assert.same({ text = "issues.opened in a/b by x: Broken" }, slack_message {
      type = "issues.opened",
      body = {
        repository = { full_name = "a/b" },
        sender = { login = "x" },
        issue = { title = "Broken" },
      },
    })
  end)

  it("says what it can of any event", function()
    assert.same({ text = "release in a/b" }, slack_message {
      type = "release",
      body = {
        repository = { full_name = "a/b" }, release = { name = json.null }, sender = json.null,
      },
    })
    assert.same({ text = "ping" }, slack_message { type = "ping" })
    assert.same({ text = "ping" }, slack_message { type = "ping", body = "text" })
  end)
end)

describe("main_branch_only", function()
  local main_branch_only = require "transforms.main_branch_only"

  it("passes pushes to the default branch", function()
    local body = { ref = "refs/heads/trunk", repository = { default_branch = "trunk" } }
    assert.equal(body, main_branch_only { type = "push", body = body })
    assert.is_table(main_branch_only { type = "push", body = { ref = "refs/heads/main" } })
  end)

  it("skips the rest", function()
    assert.is_nil(main_branch_only { type = "push", body = { ref = "refs/heads/other" } })
    assert.is_nil(main_branch_only { type = "issues", body = { ref = "refs/heads/main" } })
    assert.is_nil(main_branch_only { type = "push" })
    assert.is_nil(main_branch_only { type = "push", body = { repository = json.null } })
  end)
end)

describe("envelope", function()
  it("has the event's body below data", function()
    local wrapped = require "transforms.envelope" {
      id = "1", source = "s", type = "t", received_at_ms = 5, body = { 1 }, raw = "[1]",
    }
    assert.same({ id = "1", source = "s", type = "t", received_at_ms = 5, data = { 1 } }, wrapped)
  end)
end)
