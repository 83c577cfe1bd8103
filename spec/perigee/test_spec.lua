local core = require "perigee.core.test"
local task = require "perigee.task"
local test = require "perigee.test"
local time = require "perigee.time"

local ROUTES = [[
local task = require "perigee.task"
return function(router)
  router:get("/hello/:name", function(req)
    return { hello = req.params.name, q = req.query.q }
  end)
  router:post("/echo", function(req) return 201, assert(req:json()) end)
  router:get("/list", function() return 200, nil, { ["x-a"] = { "1", "2" } } end)
  router:get("/slow", function() task.sleep "5s" return "slept" end)
  router:get("/log", function()
    require("perigee.log").warn("from the route", { n = 1 })
    return 204
  end)
end
]]

local function folder(extra)
  local files = { ["scripts/routes/all.lua"] = ROUTES }
  for name, text in pairs(extra or {}) do
    files[name] = text
  end
  return test.folder(files)
end

describe("a test", function()
  local before = 0

  before_each(function()
    task.sleep(1)
    before = before + 1
  end)

  it("may wait, as its before_each may", function()
    local began = time.monotonic()
    task.sleep(10)
    assert.is_true(time.monotonic() - began >= 10)
    assert.equal(1, before)
  end)

  it("may set a global, and busted's insulation removes it", function()
    _G.left_behind = true
    assert.is_true(_G.left_behind)
  end)

  it("is a task: it can be waited for and has a deadline of its own", function()
    local result, err = task.with_deadline(5, function()
      task.sleep "1h"
    end)
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
  end)
end)

describe("test.app", function()
  it("answers without a socket", function()
    local app = test.app { dir = folder() }
    local res = app:request { path = "/hello/you", query = { q = "a b&c" } }
    assert.equal(200, res.status)
    assert.same({ hello = "you", q = "a b&c" }, res:json())
    assert.matches("^application/json", res.headers["content-type"])
  end)

  it("sends JSON and any method", function()
    local app = test.app { dir = folder() }
    local res = app:request { path = "/echo", json = { a = { 1, 2 } } }
    assert.equal(201, res.status)
    assert.same({ a = { 1, 2 } }, res:json())
    assert.equal(405, app:request({ method = "PUT", path = "/echo" }).status)
    assert.equal(404, app:request("/nowhere").status)
  end)

  it("gives repeated headers as a list", function()
    local app = test.app { dir = folder() }
    assert.same({ "1", "2" }, app:request("/list").headers["x-a"])
  end)

  it("takes settings", function()
    local app = test.app {
      dir = folder(), settings = { ["http.body_max"] = "10b" },
    }
    local res = app:request { path = "/echo", json = { ("x"):rep(20) } }
    assert.equal(413, res.status)
  end)

  it("raises with the fault when the application is broken", function()
    local dir = test.folder { ["scripts/routes/bad.lua"] = "return function(" }
    local ok, err = pcall(test.app, { dir = dir })
    assert.is_false(ok)
    assert.matches("scripts/routes/bad.lua:1", tostring(err), 1, true)
  end)

  it("keeps what the application logs", function()
    local app = test.app { dir = folder() }
    assert.equal(204, app:request("/log").status)
    local found
    for _, line in ipairs(app:logs()) do
      found = found or (line.msg == "from the route" and line.n)
    end
    assert.equal(1, found)
    assert.same({}, app:logs())
  end)

  it("two applications live side by side", function()
    local one = test.app { dir = folder() }
    local two = test.app { dir = test.folder {
      ["scripts/routes/all.lua"] =
        'return function(r) r:get("/", function() return "two" end) end',
    } }
    assert.equal("two", two:request("/").body)
    assert.equal(404, one:request("/").status)
    two:stop()
    assert.equal(200, one:request("/hello/x").status)
    assert.has_error(function() two:request "/" end)
  end)

  it("runs on_stop when it is stopped", function()
    local dir = folder { ["scripts/main.lua"] = [[
      return { on_stop = function()
        io.open("STOPPED", "w"):close()
      end }
    ]] }
    dir = dir:gsub("%%", "%%%%")
    local mark = dir .. "/stopped"
    local file = assert(io.open(dir .. "/scripts/main.lua"))
    local text = file:read("*a"):gsub("STOPPED", mark)
    file:close()
    file = assert(io.open(dir .. "/scripts/main.lua", "w"))
    file:write(text)
    file:close()
    test.app({ dir = dir }):stop()
    assert.truthy(io.open(mark))
  end)
end)

describe("test.clock", function()
  it("stands still until it is moved", function()
    local clock = test.clock()
    local wall, monotonic = time.now(), time.monotonic()
    core.pause(15)
    assert.equal(wall, time.now())
    assert.equal(monotonic, time.monotonic())
    clock:advance "90s"
    core.pause(2)
    assert.equal(90000, time.now() - wall)
    assert.equal(90000, time.monotonic() - monotonic)
  end)

  it("lets each wait end at its own time", function()
    local clock = test.clock()
    local began, seen = time.monotonic(), {}
    for i = 3, 1, -1 do
      task.spawn(function()
        task.sleep(i .. "h")
        task.sleep(1)
        local passed = time.monotonic() - began
        seen[#seen + 1] = { i, math.floor(passed + 0.5) }
      end)
    end
    clock:advance "2h"
    assert.same({ { 1, 3600001 } }, seen)
    clock:advance "2h"
    assert.same({ 3, 3 * 3600000 + 1 }, seen[3])
  end)

  it("reaches what is due at the end of uneven steps", function()
    for i = 1, 40 do -- each begins at another fraction of a millisecond
      task.spawn(task.sleep, 1000 + i)
      task.yield()
    end
    local clock = test.clock()
    local sleeper = task.spawn(task.sleep, 2000)
    clock:advance(2000)
    local _, err = sleeper:join()
    assert.is_nil(err)
  end)

  it("holds for deadlines", function()
    local clock = test.clock()
    local handle = task.spawn(task.with_deadline, "1m", function()
      task.sleep "1h"
    end)
    clock:advance "1m"
    local _, err = handle:join()
    assert.equal("timeout", err.kind)
  end)

  it("holds for applications in this process", function()
    local app = test.app { dir = folder() }
    local clock = test.clock()
    local answer = task.spawn(app.request, app, "/slow")
    clock:advance "5s"
    assert.equal("slept", answer:join().body)
    assert.is_true(clock.frozen)
  end)

  it("runs again in the next test", function()
    local began = time.monotonic()
    task.sleep(2)
    assert.is_true(time.monotonic() > began)
  end)

  it("is thawed by hand too", function()
    local clock = test.clock()
    clock:thaw()
    task.sleep(1)
  end)
end)

describe("what a test makes", function()
  local path

  it("is there while it runs", function()
    path = test.folder { ["a/b/c.txt"] = "text" }
    test.env("PERIGEE_SPEC_VARIABLE", "set")
    local file = assert(io.open(path .. "/a/b/c.txt"))
    assert.equal("text", file:read "*a")
    file:close()
    assert.equal("set", os.getenv "PERIGEE_SPEC_VARIABLE")
  end)

  it("has gone in the next", function()
    assert.is_nil(io.open(path .. "/a/b/c.txt"))
    assert.is_nil(os.getenv "PERIGEE_SPEC_VARIABLE")
  end)
end)

describe("test.eventually", function()
  it("gives the answer when there is one", function()
    local asked = 0
    assert.equal(3, test.eventually(function()
      asked = asked + 1
      return asked == 3 and asked
    end))
  end)

  it("raises when there is none in time", function()
    assert.has_error(function()
      test.eventually(function() return false end, 1)
    end)
  end)
end)

describe("mistakes in calls of the helpers", function()
  local function blamed(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.matches("^spec/perigee/test_spec%.lua:%d+: ", tostring(err))
    return tostring(err)
  end

  it("are told in the line that made them", function()
    local app = test.app { dir = folder() }
    assert.matches('unknown option bodi; did you mean "body"%?', blamed(function()
      app:request { path = "/hello/x", bodi = "x" }
    end))
    assert.matches("GET nowhere: the request: malformed", blamed(function()
      app:request "nowhere"
    end))
    assert.matches('unknown option enf; did you mean "env"%?', blamed(function()
      test.app { enf = "test" }
    end))
    assert.matches('unknown option worker; did you mean "workers"%?',
      blamed(function()
        test.start { worker = 2 }
      end))
  end)

  it("lists are settings, and values of a query", function()
    local dir = test.folder {
      ["config/default.lua"] = "return { app = { list = {} } }",
      ["scripts/routes/a.lua"] = [[
        return function(router)
          router:get("/", function(req)
            return { req:query_all("q"), require("perigee.config").app.list }
          end)
        end]],
    }
    local app = test.app { dir = dir, settings = { ["app.list"] = { "a", "b" } } }
    local res = app:request { path = "/", query = { q = { 1, 2 } } }
    assert.same({ { "1", "2" }, { "a", "b" } }, res:json())
  end)
end)

describe("test.start", function()
  it("serves on a port of its own and stops with 0", function()
    local app = test.start { dir = folder() }
    assert.is_true(app.port > 0)
    local res = assert(app:request { path = "/hello/wire" })
    assert.equal("wire", res:json().hello)
    assert.equal(200, assert(test.http(app.url .. "/hello/x")).status)
    assert.equal(0, (app:stop()))
    local gone, err = app:request "/hello/x"
    assert.is_nil(gone)
    assert.equal("unavailable", err.kind)
  end)

  it("gives log lines as they come", function()
    local app = test.start { dir = folder() }
    assert.equal(204, assert(app:request "/log").status)
    assert.equal(1, assert(app:line "from the route").n)
  end)

  it("raises with what it printed when it does not serve", function()
    local dir = test.folder { ["config/default.lua"] = "return { nonsense = 1 }" }
    local ok, err = pcall(test.start, { dir = dir })
    assert.is_false(ok)
    assert.matches("nonsense", tostring(err))
  end)
end)
