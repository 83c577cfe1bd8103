local cjson = require "cjson"
local ffi = require "ffi"
local json = require "perigee.json"

local null = json.null

-- What each text is, in the manner of JSONTestSuite's y_ cases.
local ACCEPTED = {
  { "[]", json.array {} },
  { "{}", {} },
  { " [1]\n", { 1 } },
  { "\t\r\n {\"a\" :\n1 }", { a = 1 } },
  { "null", null },
  { "true", true },
  { "false", false },
  { '""', "" },
  { "0", 0 },
  { "-0", 0 },
  { "-1", -1 },
  { "1e3", 1000 },
  { "1E+2", 100 },
  { "1E-2", 0.01 },
  { "0e1", 0 },
  { "0.1", 0.1 },
  { "-1.5e-3", -0.0015 },
  { "123456789012345678901234567890", 123456789012345678901234567890 },
  { "9007199254740993", 9007199254740992 },
  { "9007199254740991", 9007199254740991 },
  { "1e-400", 0 },
  { "0." .. ("0"):rep(400) .. "1", 0 },
  { "1" .. ("0"):rep(300), 1e300 },
  { "2.2250738585072011e-308", 2.2250738585072011e-308 },
  { "5e-324", 5e-324 },
  { "1.7976931348623157e308", 1.7976931348623157e308 },
  { '"\\"\\\\\\/\\b\\f\\n\\r\\t"', "\"\\/\b\f\n\r\t" },
  { '"\\u0041\\u00e9\\u20AC"', "A\195\169\226\130\172" },
  { '"\\u0000"', "\0" },
  { '"\\ud83d\\ude00"', "\240\159\152\128" },
  { '"\\uDBFF\\uDFFF"', "\244\143\191\191" },
  { '"\240\159\152\128"', "\240\159\152\128" },
  { '"\127"', "\127" },
  { '"\226\128\168"', "\226\128\168" },
  { '{"":0}', { [""] = 0 } },
  { '{"a":1,"a":2}', { a = 2 } },
  { '{"a":{},"b":[]}', { a = {}, b = json.array {} } },
  { '{"\\u0000":1}', { ["\0"] = 1 } },
  { "[null,1,\"a\",true]", { null, 1, "a", true } },
  { "[[],[[]]]", { {}, { {} } } },
}

-- What is not JSON, n_ cases: the text, and the byte that is named.
local REFUSED = {
  { "", 1 }, { " ", 2 }, { "[", 2 }, { "{", 2 }, { "]", 1 }, { "[1,]", 4 },
  { "[,1]", 2 }, { "[1,,2]", 4 }, { "[1", 3 }, { "[1 2]", 4 }, { "[1}", 3 },
  { "{]", 2 }, { '{"a"}', 5 }, { '{"a":}', 6 }, { '{"a":1,}', 8 },
  { "{a:1}", 2 }, { "{1:1}", 2 }, { "{'a':1}", 2 }, { '{"a" 1}', 6 },
  { '{"a":1 "b":2}', 8 }, { '{"a":1}}', 8 }, { "[1]x", 4 }, { "1 2", 3 },
  { "nul", 1 }, { "nulls", 5 }, { "True", 1 }, { "TRUE", 1 }, { "nil", 1 },
  { "NaN", 1 }, { "nan", 1 }, { "Infinity", 1 }, { "-Infinity", 1 },
  { "inf", 1 }, { "0x10", 2 }, { "01", 1 }, { "-01", 1 }, { "00", 1 },
  { "+1", 1 }, { ".5", 1 }, { "-.5", 1 }, { "1.", 1 }, { "1.e3", 1 },
  { "1e", 1 }, { "1e+", 1 }, { "-", 1 }, { "--1", 1 }, { "1.2.3", 4 },
  { "1_000", 2 }, { "0.1.", 4 }, { "1a", 2 }, { "1e5.5", 4 }, { "1e400", 1 },
  { "-1e400", 1 }, { "[1e309]", 2 },
  { '"', 2 }, { '"a', 3 }, { '"\\', 3 }, { '"\\"', 4 }, { "'a'", 1 },
  { '"\\a"', 2 }, { '"\\x41"', 2 }, { '"\\u"', 2 }, { '"\\u12"', 2 },
  { '"\\u12g4"', 2 }, { '"\\U0041"', 2 }, { '"\\ud800"', 2 },
  { '"\\udc00"', 2 }, { '"\\ud800\\u0041"', 2 }, { '"\\ud800x"', 2 },
  { '"\\ud800\\ud800"', 2 }, { '"a\\ude00"', 3 },
  { '"\t"', 2 }, { '"\n"', 2 }, { '"\0"', 2 }, { '"a\31"', 3 },
  { '"\128"', 2 }, { '"\192\175"', 2 }, { '"\255"', 2 }, { '"\195"', 2 },
  { '"\237\160\128"', 2 }, { '"\244\144\128\128"', 2 },
  { '"\240\130\130\172"', 2 }, { '"abc\224\128\175"', 5 },
  { "\239\187\191{}", 1 }, { "\0", 1 }, { "[1]\0", 4 }, { "\f[]", 1 },
  { "[\194\160]", 2 }, { "// a\n1", 1 }, { "/**/1", 1 }, { "#1", 1 },
  { "\255\254[\0]\0", 1 }, { '{"a":1,"\\ud800":2}', 9 },
}

describe("json.decode", function()
  for _, case in ipairs(ACCEPTED) do
    it("reads " .. case[1]:sub(1, 40):gsub("%c", "."), function()
      local value, err = json.decode(case[1])
      assert.is_nil(err)
      assert.same(case[2], value)
    end)
  end

  for _, case in ipairs(REFUSED) do
    it("refuses " .. ("%q"):format(case[1]), function()
      local value, err = json.decode(case[1])
      assert.is_nil(value)
      assert.equal("invalid", err.kind)
      assert.equal("json_decode", err.code)
      assert.equal(case[2], tonumber(err.message:match "at byte (%d+)$"))
    end)
  end

  it("reads -0 as minus zero", function()
    assert.equal(-math.huge, 1 / json.decode "-0")
    assert.equal(-math.huge, 1 / json.decode "-0.0")
  end)

  it("takes 1000 levels and refuses 1001", function()
    for _, pair in ipairs { { "[", "]" }, { '{"a":', "}" } } do
      local function nested(levels)
        return pair[1]:rep(levels - 1)
          .. (pair[1] == "[" and "[]" or "{}") .. pair[2]:rep(levels - 1)
      end
      assert.is_table(json.decode(nested(1000)))
      local _, err = json.decode(nested(1001))
      assert.equal("invalid", err.kind)
      assert.matches("nested deeper than 1000", err.message)
    end
  end)

  it("ends quickly on a hundred thousand brackets", function()
    local _, err = json.decode(("["):rep(100000))
    assert.matches("nested deeper than 1000 at byte 1001", err.message)
  end)

  it("has a limit of depth and of size", function()
    assert.is_table(json.decode("[[1]]", { max_depth = 2 }))
    local _, err = json.decode("[[1]]", { max_depth = 1 })
    assert.matches("nested deeper than 1 at byte 2", err.message)
    assert.is_table(json.decode("[1]", { max_bytes = 3 }))
    _, err = json.decode("[1]", { max_bytes = 2 })
    assert.equal("too_large", err.kind)
  end)

  it("keeps lists and objects of every length whole", function()
    for _, length in ipairs { 1, 2, 31, 32, 33, 63, 64, 65, 129, 1000 } do
      local items, fields = {}, {}
      for i = 1, length do
        items[i] = tostring(i)
        fields[i] = ('"k%d":%d'):format(i, i)
      end
      local list = json.decode("[" .. table.concat(items, ",") .. "]")
      assert.equal(length, #list)
      assert.equal(length, list[length])
      local object = json.decode("{" .. table.concat(fields, ", ") .. "}")
      for i = 1, length do
        assert.equal(i, object["k" .. i])
      end
    end
  end)

  it("reads strings of every length, with and without escapes", function()
    for length = 0, 70 do
      local text = ("abcdefghij"):rep(8):sub(1, length)
      assert.equal(text, json.decode('"' .. text .. '"'))
      assert.equal(text .. "\n\195\169",
        json.decode('"' .. text .. '\\n\195\169"'))
      assert.is_nil((json.decode('"' .. text .. "\n" .. '"')))
    end
    local long = ("x\195\169\n"):rep(100000)
    assert.equal(long, json.decode(json.encode(long)))
  end)

  it("raises for what is no text", function()
    assert.has_error(function() json.decode(nil) end)
    assert.has_error(function() json.decode {} end)
    assert.has_error(function() json.decode("1", { max_depth = "x" }) end)
  end)

  it("raises for an option that it does not have", function()
    assert.error_matches(function() json.decode("1", { maxdepth = 1 }) end,
      "json.decode: unknown option maxdepth")
    assert.error_matches(function() json.encode(1, { prety = true }) end,
      "json.encode: unknown option prety")
    assert.error_matches(function() json.encode(1, { true }) end,
      "unknown option")
  end)
end)

describe("json.encode", function()
  local function fails(value, words)
    local text, err = json.encode(value)
    assert.is_nil(text)
    assert.equal("invalid", err.kind)
    assert.matches(words, err.message, 1, true)
  end

  it("writes numbers as JavaScript does", function()
    local numbers = {
      [0] = "0", [1] = "1", [-1] = "-1", [100] = "100", [0.1] = "0.1",
      [1.5] = "1.5", [1 / 3] = "0.3333333333333333", [1e21] = "1e+21",
      [123456789012345680000] = "123456789012345680000", [1e20] =
      "100000000000000000000", [5e-324] = "5e-324", [1e-7] = "1e-7",
      [0.000001] = "0.000001", [1.7976931348623157e308] =
      "1.7976931348623157e+308", [2 ^ 53] = "9007199254740992",
      [-2 ^ 53] = "-9007199254740992", [0.1 + 0.2] = "0.30000000000000004",
      [4.35] = "4.35", [1234.5678] = "1234.5678", [-0.00015] = "-0.00015",
      [1e15 + 0.3] = "1000000000000000.2", [1e300] = "1e+300",
    }
    for number, text in pairs(numbers) do
      assert.equal(text, json.encode(number))
    end
  end)

  it("keeps minus zero", function()
    assert.equal("-0", json.encode(-0.0))
  end)

  it("brings random doubles back exactly", function()
    local bits = ffi.new "union { double d; uint32_t u[2]; }"
    for _ = 1, 20000 do
      local high = math.random(0, 2 ^ 32 - 1)
      -- Not even to look at: to LuaJIT other NaNs than its own are tables,
      -- strings, or a crash.
      if math.floor(high / 2 ^ 20) % 2 ^ 11 ~= 2 ^ 11 - 1 then
        bits.u[0], bits.u[1] = math.random(0, 2 ^ 32 - 1), high
        local number = bits.d
        assert(json.decode(json.encode(number)) == number)
      end
    end
  end)

  it("escapes what has to be, and nothing else", function()
    assert.equal('"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\127"',
      json.encode "\"\\/\b\f\n\r\t\0\31\127")
    assert.equal('"\195\169\226\128\168\240\159\152\128"',
      json.encode "\195\169\226\128\168\240\159\152\128")
  end)

  it("writes strings of every length", function()
    for length = 0, 70 do
      local text = ("abcdefghij"):rep(8):sub(1, length)
      assert.equal('"' .. text .. '"', json.encode(text))
      assert.equal('"' .. text .. '\\n' .. text .. '"',
        json.encode(text .. "\n" .. text))
      assert.equal('{"' .. text .. '":1}', json.encode { [text] = 1 })
    end
  end)

  it("tells lists and objects apart", function()
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array()))
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("[]", json.encode(json.empty_array))
    assert.equal("[[],{}]", json.encode { json.empty_array, {} })
    assert.equal("[1,2,3]", json.encode { 1, 2, 3 })
    assert.equal('{"a":[]}', json.encode(json.decode '{"a":[]}'))
  end)

  it("keeps a decoded list a list when it has been emptied", function()
    local list = json.decode "[1]"
    list[1] = nil
    assert.equal("[]", json.encode(list))
  end)

  it("writes a list however its table came about", function()
    local backwards = {}
    for i = 20, 1, -1 do
      backwards[i] = i
    end
    assert.equal(table.concat({ json.encode(backwards) }),
      "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]")
    local shrunk = { 1, 2, 3, x = 1 }
    shrunk.x = nil
    assert.equal("[1,2,3]", json.encode(shrunk))
  end)

  it("writes null, true, false", function()
    assert.equal("[null,true,false]", json.encode { null, true, false })
    assert.equal("null", json.encode(nil))
    assert.equal(cjson.null, null)
  end)

  it("writes 64-bit integers with all their digits", function()
    assert.equal("[9223372036854775807,-9223372036854775808,0,"
      .. "18446744073709551615]", json.encode {
      9223372036854775807LL, -9223372036854775807LL - 1, 0LL,
      18446744073709551615ULL,
    })
    fails({ ffi.new "int[2]" }, "at /0: a cdata")
    fails(1i, "a cdata")
  end)

  it("refuses what JSON can't say, and where", function()
    fails(0 / 0, "not a number")
    fails(math.huge, "an infinite number")
    fails({ a = { 1, -math.huge } }, "at /a/1: an infinite number")
    fails(print, "a function")
    fails({ items = { 1, 2, 3, print } }, "at /items/3: a function")
    fails({ ["a/b~c"] = coroutine.create(print) }, "at /a~1b~0c: a thread")
    fails({ io.stdout }, "at /0: a userdata")
    fails({ [1.5] = 1 }, "neither names nor positions")
    fails({ [0] = 1 }, "neither names nor positions")
    fails({ [-1] = 1, "a" }, "neither names nor positions")
    fails({ x = { [true] = 1 } }, "at /x: a table with a boolean as a key")
  end)

  it("refuses holes, and items beside names", function()
    fails({ 1, nil, 3 }, "a list with holes")
    fails({ [2] = 1 }, "a list with holes")
    fails({ [1000000] = 1 }, "a list with holes")
    fails({ 1, 2, x = 3 }, "both items and named fields")
    fails({ x = 1, [3] = 2 }, "both items and named fields")
    fails({ 1, 2, [4] = 4, x = 3 }, "both items and named fields")
    fails(json.array { x = 1 }, "both items and named fields")
  end)

  it("refuses a table that contains itself", function()
    local a = {}
    a.b = { a }
    fails(a, "a table that contains itself")
    local shared = { 1 }
    assert.equal("[[1],[1]]", json.encode { shared, shared })
  end)

  it("takes 1000 levels and refuses 1001", function()
    local function nested(levels)
      local value = {}
      for _ = 2, levels do
        value = { value }
      end
      return value
    end
    assert.is_string(json.encode(nested(1000)))
    fails(nested(1001), "nested deeper than 1000")
  end)

  it("refuses text that is not UTF-8", function()
    fails("\255", "not UTF-8")
    fails({ a = "abc\237\160\128" }, "at /a: a string that is not UTF-8")
    fails({ ["\192\128"] = 1 }, "not UTF-8")
  end)

  it("works on after a failure", function()
    assert.is_nil((json.encode { ("x"):rep(10000), print }))
    assert.equal("[1]", json.encode { 1 })
  end)

  it("writes for people: indented, names in order", function()
    assert.equal([[
{
  "a": [
    1,
    {},
    []
  ],
  "b": {
    "c": "d"
  }
}]], json.encode({ b = { c = "d" }, a = { 1, {}, json.array() } },
      { pretty = true }))
    local _, err = json.encode({ b = { print } }, { pretty = true })
    assert.matches("at /b/0: a function", err.message, 1, true)
  end)

  it("raises without a value", function()
    assert.has_error(function() json.encode() end)
  end)
end)

describe("json.array", function()
  it("marks the table it is given", function()
    local list = { 1 }
    assert.equal(list, json.array(list))
    assert.is_true(json.is_array(list))
    assert.is_true(json.is_array(json.empty_array))
    assert.is_true(json.is_array(json.decode "[]"))
    assert.is_false(json.is_array {})
    assert.is_false(json.is_array(json.decode "{}"))
  end)

  it("raises for what it can't mark", function()
    assert.has_error(function() json.array(1) end)
    assert.has_error(function() json.array(setmetatable({}, {})) end)
    assert.has_error(function() json.empty_array[1] = 1 end)
  end)
end)

-- cjson is right about all that does not involve empty tables, many digits or
-- malformed text.
describe("json beside cjson", function()
  local random = math.random

  local function random_text()
    local bytes = {}
    for i = 1, random(0, 30) do
      bytes[i] = string.char(random(1, 127))
    end
    return table.concat(bytes) .. (random() < 0.3 and "\226\130\172" or "")
  end

  local function random_value(depth)
    local kind = random(depth > 4 and 4 or 6)
    if kind == 1 then
      return random(-1000000, 1000000)
    elseif kind == 2 then
      return random(-1000000, 1000000) / 64
    elseif kind == 3 then
      return random_text()
    elseif kind == 4 then
      return ({ true, false, null })[random(3)]
    end
    local value = {}
    for i = 1, random(1, 12) do
      value[kind == 5 and i or "k" .. random_text()] = random_value(depth + 1)
    end
    return value
  end

  it("writes what cjson reads, and reads what cjson writes", function()
    for _ = 1, 500 do
      local value = random_value(1)
      assert.same(value, cjson.decode((assert(json.encode { value })))[1])
      assert.same(value, json.decode(cjson.encode { value })[1])
      assert.same(value, json.decode(assert(json.encode(value))))
    end
  end)
end)
