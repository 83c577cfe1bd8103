local cookies = require "perigee.cookies"
local urls = require "perigee.url"

local function url(text)
  return assert(urls.parse(text))
end

local SITE = url "http://shop.example.com/cart/view"

describe("http.cookie_jar", function()
  local jar

  before_each(function()
    jar = cookies.jar()
  end)

  local function sent(to)
    return jar:header(url(to))
  end

  it("gives back to the host, and its folder, what it set", function()
    jar:store(SITE, "a=1")
    assert.equal("a=1", sent "http://shop.example.com/cart/")
    assert.equal("a=1", sent "http://shop.example.com/cart/x?y")
    assert.is_nil(sent "http://shop.example.com/other")
    assert.is_nil(sent "http://example.com/cart/")
    assert.is_nil(sent "http://x.shop.example.com/cart/")
  end)

  it("heeds Path and Domain", function()
    jar:store(SITE, { "a=1; Path=/", "b=2; Domain=.example.com; Path=/docs" })
    assert.equal("a=1", sent "http://shop.example.com/")
    assert.equal("b=2", sent "http://www.example.com/docs/x")
    assert.is_nil(sent "http://www.example.com/docsx")
    assert.equal("b=2; a=1", sent "http://shop.example.com/docs")
  end)

  it("takes no cookie for somebody else's domain", function()
    jar:store(SITE, { "a=1; Domain=example.org", "b=1; Domain=hop.example.com" })
    jar:store(url "http://127.0.0.1/", "c=1; Domain=0.0.1")
    assert.same({}, jar.list)
  end)

  it("keeps a cookie for a whole top level to its host", function()
    jar:store(url "http://a.com/", "a=1; Domain=com")
    assert.is_nil(sent "http://b.com/")
  end)

  it("sends what is Secure to https alone, and takes it from there", function()
    jar:store(SITE, "a=1; Secure; Path=/")
    assert.same({}, jar.list)
    jar:store(url "https://shop.example.com/", "a=1; Secure")
    assert.is_nil(sent "http://shop.example.com/")
    assert.equal("a=1", sent "https://shop.example.com/")
  end)

  it("replaces, and forgets by Max-Age and Expires", function()
    jar:store(SITE, "a=1; Path=/")
    jar:store(SITE, "a=2; Path=/; Max-Age=60")
    assert.equal("a=2", sent "http://shop.example.com/")
    assert.equal("2", jar:get "a")
    jar:store(SITE, "a=; Path=/; Max-Age=0")
    assert.is_nil(sent "http://shop.example.com/")
    jar:store(SITE, "b=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT")
    jar:store(SITE, "c=1; Expires=Wed, 21 Oct 2065 07:28:00 GMT")
    jar:store(SITE, "d=1; Expires=Sunday, 06-Nov-94 08:49:37 GMT")
    assert.equal("c=1", sent "http://shop.example.com/cart/x")
  end)

  it("refuses what is malformed or too large", function()
    jar:store(SITE, { "nothing", "=1", "a=\1", ("a=%s"):format(("x"):rep(5000)) })
    assert.same({}, jar.list)
  end)

  it("is bounded", function()
    for i = 1, 120 do
      jar:store(SITE, ("n%d=1"):format(i))
    end
    assert.equal(50, #jar.list)
    for i = 1, 2000 do
      jar:store(url(("http://h%d.example.org/"):format(i)), "a=1")
    end
    assert.equal(1000, #jar.list)
    jar:clear()
    assert.same({}, jar.list)
  end)
end)

describe("the option cookies", function()
  it("takes names and values", function()
    assert.equal("a=1; b=x", cookies.header({ b = "x", a = 1 }, SITE))
    assert.has_error(function() cookies.header({ a = "x; b=1" }, SITE) end)
    assert.has_error(function() cookies.header({ ["a b"] = "x" }, SITE) end)
  end)
end)
