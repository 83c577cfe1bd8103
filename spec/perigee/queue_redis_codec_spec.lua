local codec = require "perigee.queue.redis.codec"

describe("the steady text of JSON", function()
  it("has a table's keys in order, whatever order they came in", function()
    local steady = '{"a":[1,null,{"x":[],"y":{}}],"b":"\\n","c":1e+21}'
    for _, text in ipairs { steady,
      '{"c":1e21,"b":"\\n","a":[1,null,{"y":{},"x":[]}]}' } do
      assert.equal(steady, codec.steady(text))
    end
    for _, text in ipairs { "[]", "{}", "null", "false", '"t"', "0.1" } do
      assert.equal(text, codec.steady(text))
    end
  end)
end)
