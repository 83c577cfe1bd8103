local http = require "perigee.http"

describe("http.cookie", function()
  it("is what a browser should do with it, unless told", function()
    assert.equal("a=b; Path=/; HttpOnly; SameSite=Lax", http.cookie("a", "b"))
    assert.equal("a=; Path=/p; Domain=x.org; Max-Age=5; "
      .. "Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=none; Secure",
      http.cookie("a", "", {
        path = "/p", domain = "x.org", max_age = 5, expires = 0,
        http_only = false, same_site = "none", secure = true,
      }))
    assert.equal("a=b; Path=/", http.cookie("a", "b",
      { http_only = false, same_site = false }))
  end)

  it("raises for what is no cookie, in the caller's line", function()
    local cases = {
      { "", "b", nil, "a cookie needs a name" },
      { "a b", "c", nil, "the name has characters" },
      { "a", "b; c", nil, "the value has characters" },
      { "a", 5, nil, "the value is a number, not a string" },
      { nil, "b", nil, "the name is a nil, not a string" },
      { "a", "b", { domain = "x; y" }, "domain has characters" },
      { "a", "b", { path = 5 }, "path is a number, not a string" },
      { "a", "b", { max_age = "1h" }, "max_age is a string, not a number" },
      { "a", "b", { same_site = "Laxed" }, "same_site is Strict, Lax, None" },
    }
    for _, case in ipairs(cases) do
      local ok, err = pcall(function()
        local text = http.cookie(case[1], case[2], case[3])
        return text
      end)
      assert.is_false(ok)
      assert.matches("cookie_spec.lua:%d+: " .. case[4], err)
    end
  end)
end)
