local json = require "perigee.json"
local schema = require "perigee.schema"

-- The faults of value as "pointer detail" lines.
local function faults(def, value, options)
  local result, err = schema.compile(def, options)(value)
  if not err then
    return {}
  end
  assert.is_nil(result)
  assert.equal("invalid", err.kind)
  local lines = {}
  for i, fault in ipairs(err.errors) do
    lines[i] = fault.pointer .. " " .. fault.detail
  end
  table.sort(lines)
  return lines
end

local function load_error(def, options)
  local ok, message = pcall(schema.compile, def, options)
  assert.is_false(ok)
  return message
end

describe("schema.compile", function()
  it("gives the value back, the same table", function()
    local validate = schema.compile { type = "object" }
    local value = { a = 1 }
    assert.equal(value, validate(value))
  end)

  it("takes true and false", function()
    assert.equal(5, schema.compile(true)(5))
    assert.same({ " is not allowed" }, faults(false, 5))
  end)

  it("refuses a missing value", function()
    assert.same({ " is required" }, faults({ type = "string" }, nil))
    assert.same({ " is required" }, faults(true, nil))
  end)

  it("names an unknown keyword and its place", function()
    local message = load_error {
      properties = { name = { typ = "string", minLenght = 1 } },
    }
    assert.matches('/properties/name: unknown keyword "typ" (did you mean '
      .. '"type"?)', message, 1, true)
    assert.matches('"minLength"', message, 1, true)
    assert.matches("unknown keyword", load_error { ["x-note"] = 1 })
  end)

  it("tells all faults of a schema at once", function()
    local message = load_error {
      type = "strin", minimum = "1", required = "a", pattern = "(",
      properties = { ["a/b"] = 5 }, anyOf = { 1 }, format = "emial",
      ["$schema"] = "http://json-schema.org/draft-07/schema#",
    }
    for _, place in ipairs { "/type: ", "/minimum: ", "/required: ",
      "/pattern: ", "/properties/a~1b: ", "/anyOf/0: ", "/$schema: " } do
      assert.matches(place, message, 1, true)
    end
    assert.matches("has no format", load_error { format = "emial" })
  end)

  it("names a reference that leads nowhere", function()
    assert.matches('/items: "#/$defs/x" leads nowhere',
      load_error { items = { ["$ref"] = "#/$defs/x" } }, 1, true)
  end)

  it("raises for what is no schema", function()
    assert.has_error(function() schema.compile "string" end)
    assert.has_error(function() schema.compile() end)
    assert.has_error(function() schema.compile { 1, 2 } end)
  end)

  it("takes documents for references", function()
    local documents = {
      ["https://example.com/name"] = { type = "string", minLength = 2 },
    }
    local def = { properties = {
      a = { ["$ref"] = "https://example.com/name" },
    } }
    assert.same({ "/a must have 2 characters or more" },
      faults(def, { a = "x" }, { documents = documents }))
  end)

  it("gives a validator back as it is", function()
    local validate = schema.compile { type = "string" }
    assert.equal(validate, schema.compile(validate))
    assert.has_error(function() schema.compile(print) end)
  end)

  it("takes any name for a member", function()
    for _, name in ipairs { 'a"b', "a\nb", "a\\b", "%d%s", "]]", "a\0b", "--" } do
      local def = { properties = { [name] = { type = "null", default = 1 } },
        required = { name } }
      assert.same({ "/" .. name .. " is required" }, faults(def, {}))
      assert.same({ "/" .. name .. " must be null" }, faults(def,
        { [name] = 1 }))
    end
  end)

  it("takes one table used in several places", function()
    local text = { type = "string" }
    local def = { properties = { a = text, b = text } }
    assert.same({ "/a must be a string", "/b must be a string" },
      faults(def, { a = 1, b = 2 }))
  end)
end)

describe("faults", function()
  it("are all there, each with its pointer", function()
    local def = {
      type = "object",
      required = { "name", "age" },
      additionalProperties = false,
      properties = {
        name = { type = "string", minLength = 2, pattern = "^[a-z]+$" },
        age = { type = "integer", minimum = 0 },
        items = { type = "array", minItems = 3, items = {
          type = "object", required = { "name" },
          properties = { name = { type = "string" } },
        } },
        ["a/b~c"] = { type = "null" },
      },
    }
    assert.same({
      "/age is required",
      "/a~1b~0c must be null",
      "/extra is not expected",
      "/items must have 3 items or more",
      "/items/0/name must be a string",
      "/items/1/name is required",
      "/name must have 2 characters or more",
      "/name must match the pattern ^[a-z]+$",
    }, faults(def, {
      name = "A", items = { { name = 1 }, {} }, extra = 1, ["a/b~c"] = 1,
    }))
  end)

  it("end at a hundred", function()
    local value = {}
    for i = 1, 1000 do
      value[i] = "x"
    end
    assert.equal(100, #faults({ items = { type = "number" } }, value))
  end)

  it("begin with the prefix that is given", function()
    local _, err = schema.compile {
      properties = { page = { type = "integer" } },
    }({ page = "x" }, "/query")
    assert.equal("/query/page", err.errors[1].pointer)
    assert.equal("/query/page must be an integer", err.message)
  end)

  it("say what a value must be", function()
    local cases = {
      { { type = { "string", "null" } }, 1, "must be a string or null" },
      { { enum = { "a", 1, json.null } }, "b", 'must be one of "a", 1, null' },
      { { const = { a = 1 } }, {}, 'must be {"a":1}' },
      { { minimum = 3 }, 2, "must be 3 or more" },
      { { exclusiveMaximum = 3 }, 3, "must be less than 3" },
      { { multipleOf = 0.01 }, 0.001, "must be a multiple of 0.01" },
      { { maxLength = 2 }, "äöü", "must have 2 characters or fewer" },
      { { minLength = 1 }, "", "must not be empty" },
      { { format = "date" }, "2023-02-29", "must be a valid date" },
      { { uniqueItems = true }, { 1, 1 }, "must not have equal items" },
      { { anyOf = { { type = "string" }, { minimum = 3 } } }, 2,
        "fits none of 2 alternatives" },
      { { oneOf = { true, true } }, 2,
        "fits 2 alternatives, and must fit one" },
      { { ["not"] = { type = "number" } }, 2, "is what it must not be" },
      { { minProperties = 1 }, {}, "must have 1 members or more" },
    }
    for _, case in ipairs(cases) do
      assert.same({ " " .. case[3] }, faults(case[1], case[2]))
    end
  end)
end)

describe("coerce", function()
  local options = { coerce = true }

  it("turns text into what the schema asks for, in place", function()
    local validate = schema.compile({
      properties = {
        page = { type = "integer" }, ratio = { ["$ref"] = "#/$defs/ratio" },
        all = { type = "boolean" }, none = { type = "null" },
        tags = { type = "array", items = { type = "integer" } },
        either = { type = { "integer", "string" } },
        text = { type = "string" },
      },
      ["$defs"] = { ratio = { type = "number" } },
    }, options)
    local value = {
      page = "5", ratio = "-1.5e1", all = "true", none = "", tags = "7",
      either = "5", text = "5",
    }
    assert.equal(value, validate(value))
    assert.same({
      page = 5, ratio = -15, all = true, none = json.null, tags = { 7 },
      either = "5", text = "5",
    }, value)
  end)

  it("leaves alone what it can't turn", function()
    local def = { properties = {
      a = { type = "integer" }, b = { type = "boolean" },
      c = { type = "number" }, d = { type = "integer" },
    } }
    assert.same({ "/a must be an integer", "/b must be true or false",
      "/c must be a number", "/d must be an integer" },
      faults(def, { a = "5.5", b = "yes", c = " 1", d = "0x10" }, options))
  end)

  it("turns the whole value, lists and other members", function()
    assert.equal(5, schema.compile({ type = "integer" }, options) "5")
    assert.same({ 1, 2 }, schema.compile({
      items = { type = "number" } }, options) { "1", "2" })
    assert.same({ x = 1 }, schema.compile({
      additionalProperties = { type = "number" } }, options) { x = "1" })
  end)

  it("changes nothing in branches that may not apply", function()
    local validate = schema.compile({ anyOf = {
      { properties = { a = { type = "integer" } }, required = { "b" } },
      { properties = { a = { type = "string" } } },
    } }, options)
    assert.same({ a = "5" }, validate { a = "5" })
  end)

  it("is off unless told", function()
    assert.same({ " must be an integer" }, faults({ type = "integer" }, "5"))
  end)
end)

describe("defaults", function()
  local options = { defaults = true }

  it("fill in absent members, before they are required", function()
    local validate = schema.compile({
      required = { "limit" },
      properties = {
        limit = { type = "integer", default = 20 },
        nested = { default = {}, properties = { a = { default = 1 } } },
        ref = { ["$ref"] = "#/$defs/d" },
      },
      ["$defs"] = { d = { default = false } },
    }, options)
    assert.same({ limit = 20, nested = { a = 1 }, ref = false }, validate {})
    assert.equal(5, validate({ limit = 5 }).limit)
  end)

  it("are never shared", function()
    local validate = schema.compile({ properties = {
      tags = { default = json.array {} }, o = { default = { a = { 1 } } },
    } }, options)
    local one, two = validate {}, validate {}
    one.tags[1] = "x"
    one.o.a[1] = 2
    assert.equal("[]", json.encode(two.tags))
    assert.same({ a = { 1 } }, two.o)
  end)

  it("have to be valid", function()
    assert.same({ "/a must be a string" }, faults({ properties = {
      a = { type = "string", default = 1 },
    } }, {}, options))
  end)
end)

describe("patterns", function()
  it("are ECMA-262's, not Lua's", function()
    local cases = {
      { "^a*$", "aaa", true }, { "^\\d{3}-\\d{4}$", "555-1234", true },
      { "^(foo|bar)+$", "foobarfoo", true }, { "^(foo|bar)+$", "foob", false },
      { "^[\\w.+-]+@\\w+\\.\\w{2,}$", "a.b+c@example.com", true },
      { "^\\p{Lu}\\p{Ll}+$", "Ärger", true }, { "^.$", "🐲", true },
      { "^(?=.*\\d)(?=.*[a-z]).{8,}$", "abcdefg1", true },
      { "^(?!admin$)", "admin", false }, { "^$", "", true },
      { "\\bcat\\b", "a cat.", true }, { "\\bcat\\b", "concat", false },
      { "^[^\\s/]+$", "a b", false }, { "é", "caf\195\169", true },
    }
    for _, case in ipairs(cases) do
      assert.equal(case[3],
        schema.compile({ pattern = case[1] })(case[2]) ~= nil)
    end
  end)

  it("don't run away", function()
    local validate = schema.compile { pattern = "^(a+)+$" }
    local start = os.clock()
    assert.is_nil((validate(("a"):rep(5000) .. "b")))
    assert(os.clock() - start < 1)
  end)

  it("that can't be followed are refused when loaded", function()
    for _, pattern in ipairs { "(a)\\1", "(?<=a)b", "[", "(", "a{2,1}", "*",
      "\\", "\\p{Nonsense}", "(?i)a", "a{99999}", "((a{100}){100}){100}" } do
      assert.matches("/pattern: is no regular expression",
        load_error { pattern = pattern }, 1, true)
    end
  end)
end)

describe("formats", function()
  local CASES = {
    date = { { "2024-02-29", "0000-01-01" }, { "2023-02-29", "2023-13-01",
      "2023-1-1", "2023-01-01x", "" } },
    time = { { "12:00:00Z", "23:59:60Z", "01:02:03.456+05:30",
      "15:59:60-08:00" }, { "12:00:00", "24:00:00Z", "12:60:00Z",
      "12:00:60Z", "12:00:00+24:00", "12:00Z" } },
    ["date-time"] = { { "2024-01-02T03:04:05Z", "2024-01-02t03:04:05.1z" },
      { "2024-01-02 03:04:05Z", "2024-01-02T03:04:05", "2024-01-02" } },
    duration = { { "P1D", "PT1H30M", "P1Y2M3DT4H5M6S", "P2W", "P1M" },
      { "", "P", "PT", "1D", "P1", "P1D2H", "P1S", "P1W1D", "P1YT" } },
    email = { { "a@example.com", "a.b+c@x-y.example", '"a b"@example.com',
      "a@[127.0.0.1]" }, { "a", "@b", "a@", "a b@c", "a@b@c", ".a@b.c",
      "a..b@c.d", "a@-b.c" } },
    hostname = { { "a", "example.com", "x-1.y" }, { "", "-a", "a-", "a..b",
      "a_b", ("a"):rep(64), "a." } },
    ipv4 = { { "0.0.0.0", "255.255.255.255" }, { "256.0.0.1", "1.2.3",
      "01.2.3.4", "1.2.3.4.5", "a.b.c.d", "1.2.3.4 " } },
    ipv6 = { { "::", "::1", "1::", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4",
      "1::8", "1:2:3:4:5:6:1.2.3.4" }, { "", ":", ":::", "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::g", "1:2:3:4:5:6:7::8",
      "::1.2.3.256", "1.2.3.4", ":1:2:3:4:5:6:7" } },
    uri = { { "http://example.com/a?b#c", "urn:x:y", "mailto:a@b.c",
      "http://[::1]:80/", "file:///etc" }, { "", "/a", "a b:c", "http://a b",
      "http://a/%zz", "//a/b", "http://[::1", "http://a/\\", "1a:b",
      "http://a:x/" } },
    ["uri-reference"] = { { "", "/a/b", "#x", "?q", "a/b:c", "//h/p" },
      { "\\a", "a b", "%", "#a#b", "1:b" } },
    uuid = { { "2c041c6e-b254-4bd4-a295-fa781c8551a2",
      "2C041C6E-B254-4BD4-A295-FA781C8551A2" }, { "",
      "2c041c6eb2544bd4a295fa781c8551a2",
      "2c041c6e-b254-4bd4-a295-fa781c8551ag" } },
    ["json-pointer"] = { { "", "/", "/a/0", "/~0~1" }, { "a", "/~2", "/~" } },
    ["relative-json-pointer"] = { { "0", "1/a", "0#" }, { "", "/a", "01",
      "0##", "-1" } },
    regex = { { "^a+$", "[a-z]" }, { "(", "[", "\\a" } },
    ["uri-template"] = { { "/a/{b}{?c,d*}", "x" }, { "{a", "a}", "{}", "a b" } },
  }

  for name, case in pairs(CASES) do
    it("know " .. name, function()
      local validate = schema.compile { format = name }
      for _, text in ipairs(case[1]) do
        assert(validate(text) ~= nil, "should be valid: " .. text)
      end
      for _, text in ipairs(case[2]) do
        assert(validate(text) == nil, "should not be valid: " .. text)
      end
      assert.equal(5, validate(5))
    end)
  end

  it("are annotations where the dialect is declared", function()
    local def = {
      ["$schema"] = "https://json-schema.org/draft/2020-12/schema",
      format = "email",
    }
    assert.equal("x", schema.compile(def) "x")
    assert.is_nil((schema.compile(def, { formats = true }) "x"))
    assert.equal("x", schema.compile({ format = "email" },
      { formats = false }) "x")
  end)
end)

describe("recursive schemas", function()
  local TREE = {
    type = "object", additionalProperties = false,
    properties = { children = { type = "array",
      items = { ["$ref"] = "#" } } },
  }

  it("go as deep as the value", function()
    local validate = schema.compile(TREE)
    local value = {}
    for _ = 1, 490 do
      value = { children = { value } }
    end
    assert.equal(value, validate(value))
  end)

  it("name the place of a fault", function()
    assert.same({ "/children/0/children/1/x is not expected" },
      faults(TREE, { children = { { children = { {}, { x = 1 } } } } }))
  end)

  it("that never end are a fault, not a crash", function()
    assert.same({ " is nested too deep" },
      faults({ ["$ref"] = "#" }, 1))
  end)

  it("survive a value that contains itself", function()
    local value = { children = {} }
    value.children[1] = value
    local lines = faults(TREE, value)
    assert.matches("nested too deep", lines[#lines])
  end)
end)
