local jit = require "jit"

local dump = assert(loadfile "bindings/tools/dump.lua")()

local function loaded(text)
  return assert(loadstring(dump(assert(loadstring(text, "=text")))))
end

local function assert_same_results(text, ...)
  assert.same({ assert(loadstring(text))(...) }, { loaded(text)(...) }, text)
end

local SHAPES = {
  empty = "return {}",
  constants = "return { a = 1, b = 'x', c = true, d = false, e = 1.5, f = -0.5 }",
  ["a constant nil"] = "return { a = nil, b = 1 }",
  dynamic = "local x, y = ... return { a = x, b = y }",
  ["nil at run time"] = "local x, y, z = ... return { a = z, b = x, c = z }",
  mixed = "local x = ... return { a = 1, b = x, c = 2, d = x }",
  ["one key twice"] =
    "local x, y = ... return { a = 1, a = x, b = x, b = y, c = x, c = 2 }",
  nested =
    "local x = ... return { a = { b = { c = x, d = 1 }, e = x }, f = { x, g = x } }",
  list = "local x, y = ... return { 1, x, 3, y, nil, x }",
  ["list and keys"] = "local x, y = ... return { x, a = y, 2, b = 3, [7] = x, [y] = 1 }",
  ["keys of other kinds"] = "local x = ... return { [1.5] = x, [true] = x, ['a b'] = x, [x] = 1 }",
  ["a call"] = "local x = ... return { a = tostring(x), b = tostring(x), c = 1 }",
  ["all of a call"] = "return { a = 1, b = select('#', ...), select(1, ...) }",
  ["all arguments"] = "return { a = ..., b = 1, ... }",
  choices =
    "local x, y, z = ... return { a = z or x, b = z and x, c = x and y, d = not x, e = x == y }",
  operators =
    "local x, y = ... return { a = x + y, b = -x, c = x .. y, d = #tostring(x), e = x < y }",
  ["grown later"] = "local x, y = ... local t = { a = 1 } t.b = x t.c = y t.a = y return t",
  ["grown on one way"] =
    "local x, y = ... local t = { a = 1 } if x == y then t.b = 1 end return t",
  ["one of two"] = [[
    local x, y = ...
    local t
    if x == y then t = { a = 1 } else t = { b = 1 } end
    t.c = x
    return t]],
  ["another in its place"] = [[
    local x = ...
    local t = { a = 1 }
    local u = t
    t = { b = 1 }
    t.c, u.d = x, x
    return t, u]],
  ["a fresh one each time"] = [[
    local x, made = ..., {}
    for i = 1, 3 do
      local t = { a = i, b = x }
      t.c, made[i] = made[i - 1] and made[i - 1].a, t
    end
    return made]],
  ["within functions"] = [[
    local x, y = ...
    local function make(z)
      return { a = z, make = function(w) return { b = w, c = x, d = { e = w } } end }
    end
    local one, two = make(x), make(y)
    return one.a, one.make(y), two.a, two.make(x)]],
  ["with a metatable"] = [[
    local x = ...
    local t = setmetatable({ a = x, b = nil }, { __index = { b = x, c = 4 }, __newindex = error })
    return t.a, t.b, t.c, rawget(t, "b")]],
  ["what the tool itself uses"] =
    [[local x = ... return { a = "\1perigee:", b = x, c = "\0\5", d = "" }]],
  ["text longer than a byte can say"] =
    ("local x = ... return { a = %q, b = x, c = x }"):format(("-"):rep(300)),
}

-- A constructor of many keys, their values of many kinds. The numbers are the
-- same in each run.
local function arbitrary(seed, constants, values)
  local state = seed
  local function pick(below)
    state = (state * 1103515245 + 12345) % 2 ^ 31
    return math.floor(state / 65536) % below
  end
  local parts = {}
  for i = 1, 1 + pick(40) do
    local from = pick(3) == 0 and constants or values
    parts[i] = ("k%d = %s"):format(pick(60), from[pick(#from) + 1])
  end
  return table.concat(parts, ", ")
end

local CONSTANTS = { "1", "'text'", "true", "false", "-2.5", "12345678" }
local VALUES = {
  "x", "y", "z", "x + 1", "x .. y", "tostring(x)", "z or x", "x and y", "(...)", "-x",
  "{ x, y }", "{}", "{ deep = x, er = { y } }", "{ deep = 1 }", "#tostring(y)", "x, y",
}
local UNCOUNTED = { "x", "y", "z", "x + 1", "z or x", "x and y", "(...)", "-x", "#y", "not x" }

-- What the compiler keeps would count.
local function interpreted(fn)
  jit.off(fn)
  return fn
end

local count = interpreted(function()
  return collectgarbage "count"
end)

-- How much memory there is when a constructor begins to set its keys, and when
-- it has set them: their values take none.
local function sizes(keys)
  local make = interpreted(loaded(
    "local x, y, z, count = ... return { first = count(), " .. keys .. ", last = count() }"))
  collectgarbage "stop"
  local made = make(3, "4", nil, count)
  collectgarbage "restart"
  return made.first, made.last
end

describe("bytecode of the build", function()
  for name, text in pairs(SHAPES) do
    it("makes the tables that its text makes: " .. name, function()
      assert_same_results(text, 3, 4)
    end)
  end

  it("makes the tables that its text makes: many of chance", function()
    for seed = 1, 200 do
      local keys = arbitrary(seed, CONSTANTS, VALUES)
      assert_same_results("local x, y, z = ... return { " .. keys .. " }", 3, 4)
    end
  end)

  it("makes tables that do not grow while they get their keys", function()
    local first, last = sizes "a = x, b = y, c = x, d = y, e = x, f = y, g = x"
    assert.equal(first, last)
    for seed = 1, 200 do
      local keys = arbitrary(seed, CONSTANTS, UNCOUNTED)
      first, last = sizes(keys)
      assert.equal(first, last, keys)
    end
  end)

  it("makes tables that do not grow while they get their items", function()
    local first, last = sizes "a = 1, x, y, x, y, x, y, x, y"
    assert.equal(first, last)
  end)

  it("makes such tables in functions within functions, too", function()
    local make = interpreted(loaded [[
      return function(count)
        return function(x)
          return { first = count(), a = x, b = x, c = x, d = x, last = count() }
        end
      end]] ()(count))
    collectgarbage "stop"
    local made = make(1)
    collectgarbage "restart"
    assert.equal(made.first, made.last)
  end)

  it("keeps names, lines and upvalues", function()
    local make = loaded "local n = 0\nreturn function(step)\nn = n + step\nreturn { a = n }\nend" ()
    assert.same({ a = 2 }, make(2))
    assert.same({ a = 5 }, make(3))
    local info = debug.getinfo(make, "S")
    assert.same({ "text", 2, 5 }, { info.short_src, info.linedefined, info.lastlinedefined })
    assert.equal("n", (debug.getupvalue(make, 1)))
  end)
end)
