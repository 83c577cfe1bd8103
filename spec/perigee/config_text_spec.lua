local dotenv = require "perigee.config.dotenv"
local lines = require "perigee.config.lines"
local suggest = require "perigee.config.suggest"

describe("dotenv.parse", function()
  local function parse(text)
    local result, wrong = {}, {}
    for _, entry in ipairs(dotenv.parse(text, function(line, message)
      wrong[#wrong + 1] = line .. ": " .. message
    end)) do
      result[entry.name] = entry.value
    end
    return result, wrong
  end

  -- The cases of the dotenv package's own tests.
  it("quotes as the dotenv package does", function()
    local cases = {
      ["BASIC=basic"] = "basic",
      ["EMPTY="] = "",
      ["EMPTY=''"] = "",
      ['EMPTY=""'] = "",
      ["EMPTY=``"] = "",
      ["A='single_quotes'"] = "single_quotes",
      ["A='    single quotes    '"] = "    single quotes    ",
      ['A="    double quotes    "'] = "    double quotes    ",
      ['A=\'double "quotes" work inside single quotes\''] =
        'double "quotes" work inside single quotes',
      ['A="{ port: $MONGOLAB_PORT}"'] = "{ port: $MONGOLAB_PORT}",
      ["A=`double \"quotes\" and single 'quotes' work`"] =
        "double \"quotes\" and single 'quotes' work",
      ['A="expand\\nnew\\nlines"'] = "expand\nnew\nlines",
      ["A=dontexpand\\nnewlines"] = "dontexpand\\nnewlines",
      ["A='dontexpand\\nnewlines'"] = "dontexpand\\nnewlines",
      ["A=inline comments # work"] = "inline comments",
      ["A='inline comments outside of #singlequotes' # work"] =
        "inline comments outside of #singlequotes",
      ['A="inline comments outside of #doublequotes" # work'] =
        "inline comments outside of #doublequotes",
      ["A=inline comments start with a#number sign. no space required."] =
        "inline comments start with a",
      ["A=equals=="] = "equals==",
      ['A={"foo": "bar"}'] = '{"foo": "bar"}',
      ["A='{\"foo\": \"bar\"}'"] = '{"foo": "bar"}',
      ["A=    some spaced out string   "] = "some spaced out string",
      ["A=therealnerdybeast@example.tld"] = "therealnerdybeast@example.tld",
      ["    A = parsed"] = "parsed",
      ["export A=exported"] = "exported",
      ["A: yaml"] = "yaml",
      ['A="THIS\nIS\nA\nMULTILINE\nSTRING"'] = "THIS\nIS\nA\nMULTILINE\nSTRING",
      ["A='THIS\nIS'"] = "THIS\nIS",
      ['A="a" b'] = '"a" b',
      ["A=it's"] = "it's",
    }
    for text, value in pairs(cases) do
      local result, wrong = parse(text)
      assert.same({}, wrong)
      assert.equal(value, result.A or result.BASIC or result.EMPTY, text)
    end
  end)

  it("reads line ends of all kinds, and counts them", function()
    local result, wrong = parse "\239\187\191A=1\r\nB='x\r\ny'\rC=3\n?\n"
    assert.same({ A = "1", B = "x\ny", C = "3" }, result)
    assert.same({ "5: neither NAME=value nor a comment" }, wrong)
  end)

  it("tells of a quote that is not closed", function()
    local _, wrong = parse 'A=1\nB="x\nC=3'
    assert.same({ "2: B: a quote is not closed" }, wrong)
  end)
end)

describe("lines.of", function()
  it("finds keys in nested tables, past strings, comments and code", function()
    local found = lines.of [==[
-- { not = 1 }
local s = "{ x = 1 }" .. [[
{ y = 2 }]]
return {
  a = 1, -- b = 2
  b = {
    ["c-d"] = function(x) return { e = x }, 1 end,
    f = (x or { 1, 2 }), g = 3,
  };
  3,
  h = x == y,
}
]==]
    assert.equal(5, found.a)
    assert.equal(6, found.b)
    assert.equal(7, found["b.c-d"])
    assert.equal(8, found["b.f"])
    assert.equal(8, found["b.g"])
    assert.equal(10, found["1"])
    assert.equal(11, found.h)
    assert.is_nil(found["b.c-d.e"])
  end)

  it("falls back to other tables of the file", function()
    assert.equal(2, lines.of "local M = {\n  a = 1,\n}\nreturn M".a)
  end)

  it("ends on any text", function()
    for _, text in ipairs { "{", "return {", "return { a = ", '"', "[[", "--[[",
      "return { [", "{{{{", "return { a = function( }" } do
      assert.is_table(lines.of(text))
    end
  end)
end)

describe("suggest.nearest", function()
  it("finds slips of the finger, and nothing far away", function()
    local words = { "port", "host", "backlog", "production" }
    assert.equal("port", suggest.nearest("prot", words))
    assert.equal("backlog", suggest.nearest("backlgo", words))
    assert.equal("production", suggest.nearest("prod", words))
    assert.is_nil(suggest.nearest("zebra", words))
  end)
end)
