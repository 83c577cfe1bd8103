--- Webhooks through the whole application, without a socket.

local crypto = require "perigee.crypto"
local json = require "perigee.json"
local test = require "perigee.test"

local support = require "spec.support"

local SECRET = "It's a Secret to Everybody"
local EXAMPLES = "tests/node_modules/@octokit/webhooks-examples/api.github.com/index.json"

local function post(path, body, headers)
  return test.request { method = "POST", path = path, body = body, headers = headers }
end

local function github(body, event, delivery)
  return post("/in/github", body, {
    ["content-type"] = "application/json",
    ["x-github-event"] = event,
    ["x-github-delivery"] = delivery,
    ["x-hub-signature-256"] = "sha256=" .. crypto.hmac_hex("sha256", SECRET, body),
  })
end

before_each(function()
  support.clear()
  local made = test.request {
    path = "/sources", json = { name = "github", kind = "github", secret = SECRET },
  }
  assert.equal(201, made.status)
end)

describe("POST /in/:source", function()
  it("answers 202, and the event is there", function()
    local taken = github([[{"action":"opened","list":[],"none":null}]], "issues")
    assert.equal(202, taken.status)
    local event = test.request(taken.headers.location)
    assert.equal(200, event.status)
    assert.equal("issues.opened", event:json().type)
    assert.truthy(event.body:find('"list":[]', 1, true))
    assert.truthy(event.body:find('"none":null', 1, true))
  end)

  it("answers a repeat with the same bytes", function()
    local first = github("{}", "push", "72d3162e")
    local second = github("{}", "push", "72d3162e")
    assert.equal(202, second.status)
    assert.equal(first.body, second.body)
    assert.is_nil(first.headers["idempotency-replayed"])
    assert.equal("true", second.headers["idempotency-replayed"])
  end)

  it("answers 401, 404, 405 and 422 as problems", function()
    github("{}", "push", "1")
    for status, answer in pairs {
      [401] = post("/in/github", "{}", { ["x-github-event"] = "push" }),
      [404] = post("/in/nobody", "{}", {}),
      [405] = test.request "/in/github",
      [422] = github('{"other":1}', "push", "1"),
    } do
      assert.equal(status, answer.status)
      assert.matches("^application/problem%+json", answer.headers["content-type"])
      assert.equal(status, answer:json().status)
    end
  end)
end)

describe("GitHub's example payloads", function()
  local file = io.open(EXAMPLES)
  if not file then
    pending("are not installed (npm ci in tests/)")
    return
  end
  local definitions = assert(json.decode(file:read "*a"))
  file:close()

  for _, definition in ipairs(definitions) do
    it(definition.name .. " come out equal", function()
      for _, example in ipairs(definition.examples) do
        local body = assert(json.encode(example))
        local taken = github(body, definition.name, crypto.uuid.v4())
        assert.equal(202, taken.status)
        local event = test.request(taken.headers.location)
        assert.same(example, event:json().body)
        assert.equal(body, test.request(taken.headers.location .. "/body").body)
      end
    end)
  end
end)
