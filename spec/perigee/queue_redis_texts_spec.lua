local texts = require "perigee.queue.redis.texts"

local function text16(n)
  return string.char(0xda, math.floor(n / 256), n % 256) .. ("x"):rep(n)
end

describe("texts that a script has packed", function()
  it("are unpacked, of any length", function()
    assert.same({}, texts.unpack "\144")
    assert.same({ "", "a", "\0\255" }, texts.unpack "\147\160\161a\162\0\255")
    assert.same({ ("x"):rep(31), ("y"):rep(40) },
      texts.unpack("\146\191" .. ("x"):rep(31) .. "\217\40" .. ("y"):rep(40)))
    assert.same({ ("x"):rep(300) }, texts.unpack("\145" .. text16(300)))
    assert.same({ ("z"):rep(70000) }, texts.unpack("\145\219"
      .. string.char(0, 1, 0x11, 0x70) .. ("z"):rep(70000)))
    local many = { "\220\0\40" }
    for i = 1, 40 do many[i + 1] = "\161" .. string.char(64 + i) end
    assert.equal(40, #texts.unpack(table.concat(many)))
    assert.equal(3, #texts.unpack "\221\0\0\0\3\161a\161b\161c")
  end)

  it("are an error where they are cut off or something else", function()
    for _, text in ipairs {
      "", "\145", "\145\161", "\146\161a", "\145\217", "\145\217\5abc",
      "\145\218\0", "\145\219\255\255\255\255a", "\145\1", "\220", "\220\0",
      "\161a", "\221\0\0\0", "\145\192",
    } do
      assert.has_error(function() texts.unpack(text) end)
    end
  end)
end)
