local proxies = require "perigee.client.proxy"
local urls = require "perigee.url"

local function find(url, choice, no_proxy)
  return proxies.find(assert(urls.parse(url)), choice, no_proxy)
end

describe("the option proxy", function()
  it("takes a URL, with user and password", function()
    local proxy = find("http://a.example/", "http://u:p%40@proxy.example:3128")
    assert.equal("proxy.example", proxy.host)
    assert.equal(3128, proxy.port)
    assert.equal("Basic dTpwQA==", proxy.authorization)
    assert.equal("Basic dTo=", find("http://a.example/", "http://u@b")
      .authorization) -- "u:"
    assert.equal(80, find("http://a.example/", "proxy.example").port)
  end)

  it("is none unless it is asked for", function()
    assert.is_false(find "http://a.example/")
    assert.is_false(find("http://a.example/", false))
    assert.is_false(find("http://a.example/", ""))
  end)

  it("is passed by for hosts and domains of no_proxy", function()
    local function direct(url, list)
      return find(url, "http://proxy.example:1", list) == false
    end
    assert.is_true(direct("http://a.example/", "b.example, a.example"))
    assert.is_true(direct("http://x.a.example/", "a.example"))
    assert.is_true(direct("http://x.a.example/", ".a.example"))
    assert.is_true(direct("http://x.a.example/", "*.a.example"))
    assert.is_true(direct("http://127.0.0.1:8080/", "127.0.0.1:8080"))
    assert.is_true(direct("http://[::1]/", "[::1]"))
    assert.is_true(direct("http://any.example/", "*"))
    assert.is_false(direct("http://xa.example/", "a.example"))
    assert.is_false(direct("http://127.0.0.1:8081/", "127.0.0.1:8080"))
    assert.is_false(direct("http://a.example/", ""))
  end)

  it("is an error when it is no http URL", function()
    local proxy, err = find("http://a.example/", "socks5://x:1")
    assert.is_nil(proxy)
    assert.equal("invalid", err.kind)
  end)
end)
