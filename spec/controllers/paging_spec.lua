local json = require "perigee.json"
local paging = require "controllers.paging"

local function view(item)
  return { name = item }
end

describe("paging.answer", function()
  it("says null and has no link on the last page", function()
    local status, body, headers = paging.answer({ query = {} }, { items = {} }, view)
    assert.equal(200, status)
    assert.equal(json.null, body.next)
    assert.is_true(json.is_array(body.items))
    assert.is_nil(headers.link)
  end)

  it("links to the next page, with the filters", function()
    local req = { path = "/events", query = { limit = 2, type = "a/b&c", after = "x" } }
    local _, body, headers = paging.answer(req, { items = { "y", "z" }, next = "z z" }, view)
    assert.same({ { name = "y" }, { name = "z" } }, body.items)
    assert.equal("z z", body.next)
    assert.equal('</events?limit=2&type=a%2Fb%26c&after=z%20z>; rel="next"', headers.link)
  end)
end)
