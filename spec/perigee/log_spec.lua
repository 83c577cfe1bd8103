local core = require "perigee.core.log"
local errors = require "perigee.error"
local json = require "perigee.json"

describe("perigee.log", function()
  local function line(msg, fields, bindings, err)
    return core.format(30, bindings, msg, fields, err)
  end

  local function decode(...)
    return assert(json.decode((line(...))))
  end

  -- perigee.log over a module that keeps the lines it is given.
  local function logger(level)
    local lines = {}
    local fake = setmetatable({
      level = function() return level or 10 end,
      write = function(...) lines[#lines + 1] = core.format(...) end,
    }, { __index = core })
    local saved, saved_core, saved_time, saved_levels =
      package.loaded["perigee.log"], package.loaded["perigee.core.log"],
      package.loaded["perigee.time"], package.loaded["perigee.log_levels"]
    local clock = { now = 0 }
    package.loaded["perigee.time"] = {
      monotonic = function() return clock.now end,
    }
    package.loaded["perigee.log"] = nil
    package.loaded["perigee.log_levels"] = nil
    package.loaded["perigee.core.log"] = fake
    local log = require "perigee.log"
    local levels = require "perigee.log_levels"
    package.loaded["perigee.log_levels"] = saved_levels
    package.loaded["perigee.log"] = saved
    package.loaded["perigee.core.log"] = saved_core
    package.loaded["perigee.time"] = saved_time
    return log, lines, clock, levels
  end

  describe("a line", function()
    it("has pino's fields in pino's order", function()
      local text = line("hello", { a = 1 }, ',"b":2')
      assert.matches('^{"level":30,"time":%d+,"pid":%d+,"hostname":"[^"]+"'
        .. '.*,"b":2,"a":1,"msg":"hello"}\n$', text)
    end)

    it("takes any message", function()
      assert.equal("12", decode(12).msg)
      assert.equal("true", decode(true).msg)
      assert.equal("[function]", decode(print).msg)
      assert.is_nil(decode(nil).msg)
      assert.equal("\226\130\172 \239\191\189", decode("\226\130\172 \255").msg)
    end)

    it("has json.null for an error that is none", function()
      assert.equal(json.null, decode("m", { err = json.null }).err)
    end)

    it("keeps its own keys", function()
      local got = decode("m", { level = 1, msg = "x", time = 2 })
      assert.equal(30, got.level)
      assert.equal("m", got.msg)
      assert.equal(1, got.level_)
      assert.equal("x", got.msg_)
    end)
  end)

  describe("fewer lines", function()
    it("lets a call site log so many, and tells what was held back", function()
      local log, lines, clock = logger()
      local few = log.limited { lines = 2, per = "50ms" }
      for i = 1, 10 do
        few.info("one", { i = i })
      end
      few.info "another site"
      assert.equal(3, #lines)
      clock.now = 50
      for i = 11, 12 do
        few.info("two", { i = i })
      end
      assert.equal(5, #lines)
      for _ = 1, 2 do
        for i = 1, 3 do
          few.warn("again", { i = i })
        end
        clock.now = clock.now + 50
      end
      local told = assert(json.decode(lines[#lines - 1]))
      assert.equal(1, told.suppressed)
      assert.has_error(function() log.limited { lines = 0 } end)
    end)

    it("samples a share", function()
      local log, lines = logger()
      local none, all = log.sampled(0), log.child({ a = 1 }).sampled(1)
      for _ = 1, 20 do
        none.error "no"
        all.error "yes"
      end
      assert.equal(20, #lines)
      assert.equal(1, json.decode(lines[1]).a)
      assert.has_error(function() log.sampled(2) end)
    end)

    it("costs nothing where the level is off", function()
      local log, lines = logger(40)
      log.limited().info "no"
      log.sampled(1).debug "no"
      assert.equal(0, #lines)
      assert.is_false(log.limited().enabled "info")
    end)
  end)

  describe("odd values", function()
    it("become strings", function()
      local got = decode("m", {
        f = print, nan = 0 / 0, inf = 1 / 0, ninf = -1 / 0,
        co = coroutine.create(print), null = json.null, big = 12LL,
        [5] = "five", [true] = "yes",
      })
      assert.equal("[function]", got.f)
      assert.equal("NaN", got.nan)
      assert.equal("Infinity", got.inf)
      assert.equal("-Infinity", got.ninf)
      assert.equal("[thread]", got.co)
      assert.equal(json.null, got.null)
      assert.equal(12, got.big)
      assert.equal("five", got["5"])
      assert.equal("yes", got["true"])
    end)

    it("are cut where they are too deep or go round", function()
      local cycle = { a = {} }
      cycle.a.back = cycle
      assert.equal("[Circular]", decode("m", { c = cycle }).c.a.back)
      local deep = {}
      local at = deep
      for _ = 1, 50 do
        at.x = {}
        at = at.x
      end
      assert.matches('"%[Object%]"', line("m", { deep = deep }))
      local shared = { 1 }
      assert.same({ { 1 }, { 1 } }, decode("m", { s = { shared, shared } }).s)
    end)

    it("are cut where they are too long", function()
      local got = decode("m", { s = ("x"):rep(100000), t = 1 })
      assert.matches("^x+%[%d+ bytes more%]$", got.s)
      assert.equal(1, got.t)
      local list = {}
      for i = 1, 1000 do list[i] = i end
      assert.equal("[800 more]", decode("m", { l = list }).l[201])
      local wide = {}
      for i = 1, 100 do wide["k" .. i] = ("y"):rep(10000) end
      assert.is_true(#line("m", wide) < 200000)
      assert.equal("m", decode("m", wide).msg)
      decode(("z"):rep(1000000), wide)
    end)

    it("may be lists", function()
      assert.matches('"l":%[1,%[2%],{"a":3}%]',
        line("m", { l = { 1, { 2 }, { a = 3 } } }))
      assert.matches('"e":%[%]', line("m", { e = json.array {} }))
      assert.matches('"e":%[%]', line("m", { e = json.empty_array }))
      assert.matches('"e":{}', line("m", { e = {} }))
      assert.matches('"s":{', line("m", { s = { 1, nil, 3, x = 1 } }))
    end)
  end)

  describe("err", function()
    it("of perigee.error has type, message, stack, kind and code", function()
      local e = errors.new("conflict", "taken")
      e.code = "X"
      local got = decode("m", { err = e }).err
      assert.equal("perigee.Error", got.type)
      assert.equal("taken", got.message)
      assert.equal("conflict", got.kind)
      assert.equal("X", got.code)
      assert.matches("^taken\nstack traceback:", got.stack)
    end)

    it("of a wrapped error tells what caused it", function()
      local e = errors.wrap(errors.new("timeout", "slow"), "saving")
      local got = decode("m", { err = e }).err
      assert.equal("saving: slow", got.message)
      assert.matches("\ncaused by: slow$", got.stack)
      assert.is_nil(got.cause)
    end)

    it("of a string or a table is an error too", function()
      assert.equal("oops", decode("m", { err = "oops" }).err.message)
      local got = decode("m", { err = "oops\nstack traceback:\n\tx" }).err
      assert.equal("oops", got.message)
      assert.equal("oops\nstack traceback:\n\tx", got.stack)
      got = decode("m", { err = { message = "t", more = 1 } }).err
      assert.equal("t", got.message)
      assert.equal(1, got.more)
      assert.equal("[function]", decode("m", { err = print }).err.message)
    end)
  end)

  describe("redaction", function()
    local function redacted(paths, fields)
      return json.decode(core.new(10, paths).format(30, nil, "m", fields))
    end

    it("censors dotted paths", function()
      local got = redacted({ "password", "req.headers.authorization" }, {
        password = "p", user = { password = "kept" },
        req = { headers = { authorization = "a", host = "h" } },
      })
      assert.equal("[Redacted]", got.password)
      assert.equal("kept", got.user.password)
      assert.equal("[Redacted]", got.req.headers.authorization)
      assert.equal("h", got.req.headers.host)
    end)

    it("takes * for any one name or index", function()
      local got = redacted({ "*.secret", "cards[*].number", 'a["b-c"]' }, {
        x = { secret = 1 }, secret = "kept", y = { z = { secret = "deep" } },
        cards = { { number = "4", kind = "k" }, { number = "5" } },
        a = { ["b-c"] = { 1 } },
      })
      assert.equal("[Redacted]", got.x.secret)
      assert.equal("kept", got.secret)
      assert.equal("deep", got.y.z.secret)
      assert.same({ { number = "[Redacted]", kind = "k" },
        { number = "[Redacted]" } }, got.cards)
      assert.equal("[Redacted]", got.a["b-c"])
    end)

    it("holds for a child's fields", function()
      local module = core.new(10, { "token" })
      local bindings = module.encode(nil, { token = "t", a = 1 })
      assert.matches('"token":"%[Redacted%]"', bindings)
    end)

    it("refuses what is no path", function()
      assert.error_matches(function() core.new(10, { "" }) end, "log.redact")
      for _, path in ipairs { "a..b", "a.", ".a", "a[0", "a[]", "a[0]b", 'a["b]',
        'a["b"', "a.[0]", "[" } do
        assert.error_matches(function() core.new(10, { path }) end,
          "log.redact")
      end
    end)

    it("takes names with any characters", function()
      local got = redacted({ '["a]b"].c', "x['d.e'][0]" }, {
        ["a]b"] = { c = 1, d = 2 }, x = { ["d.e"] = { "s", "t" } },
      })
      assert.same({ c = "[Redacted]", d = 2 }, got["a]b"])
      assert.same({ "[Redacted]", "t" }, got.x["d.e"])
    end)
  end)

  describe("levels", function()
    it("that are off are not written", function()
      local log, lines = logger(40)
      log.trace("t") log.debug("d") log.info("i")
      assert.equal(0, #lines)
      log.warn("w") log.error("e") log.fatal("f")
      assert.equal(3, #lines)
      assert.matches('^{"level":60', lines[3])
      assert.is_false(log.enabled "info")
      assert.is_true(log.enabled "warn")
    end)
  end)

  describe("levels set while it runs", function()
    it("hold for functions that are kept, and for children", function()
      local log, lines, _, levels = logger(40)
      local info, child = log.info, log.child { a = 1 }
      local few = log.limited { lines = 100 }
      info "off"
      child.info "off"
      few.info "off"
      assert.equal(0, #lines)
      levels.set("", 30)
      info "on"
      child.info "on"
      few.info "on"
      assert.equal(3, #lines)
      assert.is_true(log.enabled "info")
      levels.set("", 100)
      log.fatal "off"
      assert.equal(3, #lines)
    end)

    it("hold for a part and what is below it", function()
      local log, lines, _, levels = logger(40)
      local part, below, other = log.get "a", log.get "a.b", log.get "ab"
      levels.set("a", 20)
      part.debug "1"
      below.debug "2"
      other.debug "no"
      assert.equal(2, #lines)
      levels.set("a.b", 50)
      below.warn "no"
      part.debug "3"
      log.get("a.b.c").warn "no"
      assert.equal(3, #lines)
      levels.set("", 10)
      other.trace "4"
      below.warn "no"
      assert.equal(4, #lines)
    end)
  end)

  describe("child", function()
    it("adds its fields to each line", function()
      local log, lines = logger()
      local child = log.child { a = 1 }.child { b = { 2 } }
      child.info("hi", { c = 3 })
      assert.matches(',"a":1,"b":%[2%],"c":3,"msg":"hi"}\n$', lines[1])
    end)

    it("keeps nothing of its parent's later lines", function()
      local log, lines = logger()
      log.child { a = 1 }
      log.info("plain")
      assert.is_nil(lines[1]:find('"a":1', 1, true))
    end)
  end)

  describe("arguments", function()
    it("may come as pino takes them", function()
      local log, lines = logger()
      log.info({ a = 1 }, "msg")
      assert.matches('"a":1,"msg":"msg"}', lines[1])
      log.error(errors.new("conflict", "taken"))
      assert.matches('"err":{.*"msg":"taken"}', lines[2])
      log.error(errors.new("conflict", "taken"), "while saving")
      assert.matches('"msg":"while saving"}', lines[3])
    end)

    it("that are no table are shown", function()
      local log, lines = logger()
      log.info("m", "odd")
      assert.matches('"fields":"odd","msg":"m"}', lines[1])
    end)
  end)
end)
