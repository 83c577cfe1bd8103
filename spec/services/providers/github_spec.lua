local crypto = require "perigee.crypto"
local json = require "perigee.json"
local github = require "services.providers.github"

local SECRET = "It's a Secret to Everybody"
local SOURCE = { secret = SECRET }

local function message(body, headers)
  return {
    body = body,
    header = function(name)
      return headers[name]
    end,
    json = function()
      return json.decode(body)
    end,
  }
end

describe("github.verify", function()
  it("agrees with GitHub's own example", function()
    assert.is_true(github.verify(SOURCE, message("Hello, World!", {
      ["x-hub-signature-256"] =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    })))
  end)

  it("refuses what does not begin with sha256=", function()
    local right = crypto.hmac_hex("sha256", SECRET, "x")
    for _, given in ipairs { right, "sha1=" .. right, "sha256=", "SHA256=" .. right, "" } do
      local signed, err = github.verify(SOURCE, message("x", { ["x-hub-signature-256"] = given }))
      assert.is_nil(signed)
      assert.equal("unauthorized", err.kind)
    end
    assert.is_nil(github.verify(SOURCE, message("x", {})))
  end)
end)

describe("github.describe", function()
  local function describe_body(body, headers)
    return github.describe(SOURCE, message(body, headers or { ["x-github-event"] = "issues" }))
  end

  it("has the action in the type", function()
    assert.equal("issues.opened", describe_body([[{"action":"opened"}]]).type)
    assert.equal("issues", describe_body([[{"action":null}]]).type)
    assert.equal("issues", describe_body("{}").type)
  end)

  it("knows a repeat by its delivery id, with the same body only", function()
    local described = describe_body("{}",
      { ["x-github-event"] = "push", ["x-github-delivery"] = "72d3162e" })
    assert.equal("72d3162e", described.provider_id)
    assert.equal("github:72d3162e", described.key.key)
    assert.is_true(described.key.strict)
    assert.is_nil(describe_body("{}").key)
  end)

  it("refuses what has no event or no JSON object", function()
    for _, body in ipairs { "", "x", "1", "null", "payload=%7B%7D" } do
      local described, err = describe_body(body)
      assert.is_nil(described)
      assert.equal("invalid", err.kind)
    end
    assert.is_nil(describe_body("{}", {}))
  end)
end)
