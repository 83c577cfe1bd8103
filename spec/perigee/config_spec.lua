local output = require "perigee.config.output"
local schema = require "perigee.config.schema"
local types = require "perigee.config.types"

local given = dofile "spec/perigee/config_files.lua"
local load, effective, app_of, faults, default_lua
  = given.load, given.effective, given.app_of, given.faults, given.default_lua

describe("the layers of configuration", function()
  local files = {
    ["config/default.lua"] = "return { http = { port = 1001 } }",
    ["config/staging.lua"] = "return {\n  http = { port = 1002 } }",
    [".env"] = "PORT=1003",
    [".env.staging"] = "# a comment\nPORT=1004",
  }

  it("begin with the built-in defaults", function()
    local value, source = effective({}, "http.port")
    assert.equal("3000", value)
    assert.equal("built-in default", source)
  end)

  it("end with the flags, each winning over those before it", function()
    local cases = {
      { files = { ["config/default.lua"] = files["config/default.lua"] },
        value = "1001", source = "config/default.lua:1" },
      { files = { ["config/default.lua"] = files["config/default.lua"],
          ["config/staging.lua"] = files["config/staging.lua"] },
        value = "1002", source = "config/staging.lua:2" },
      { files = files, value = "1004", source = ".env.staging:2: PORT" },
      { files = files, environ = { PORT = "1005" }, value = "1005",
        source = "environment PORT" },
      { files = files, environ = { PORT = "1005", PERIGEE_HTTP__PORT = "1006" },
        value = "1006", source = "environment PERIGEE_HTTP__PORT" },
      { files = files, environ = { PORT = "1005" },
        overrides = { "--port:http.port=1007" }, value = "1007",
        source = "flag --port" },
      { files = files, overrides = { "http.port=1008" }, value = "1008",
        source = "flag --set http.port" },
    }
    for _, case in ipairs(cases) do
      case.env = "staging"
      local value, source = effective(case, "http.port")
      assert.equal(case.value, value)
      assert.equal(case.source, source)
    end
  end)

  it("read no .env file in production", function()
    local value = effective({ env = "production", files = files }, "http.port")
    assert.equal("1001", value)
  end)

  it("merge tables and replace lists", function()
    local result = load {
      env = "test",
      files = {
        ["config/default.lua"] = [[return { app = {
          a = { x = 1, y = 2 }, list = { 1, 2, 3 } } }]],
        ["config/test.lua"] = "return { app = { a = { y = 3 }, list = { 9 } } }",
      },
    }
    assert.same({ a = { x = 1, y = 3 }, list = { 9 } }, app_of(result))
  end)

  it("let an empty list stay a list", function()
    local result = load { files = default_lua "return { log = { redact = {} } }" }
    assert.truthy(result.config:find('"redact":[]', 1, true))
  end)
end)

describe("faults", function()
  it("are listed of values that a higher layer covers, too", function()
    assert.same({
      'config/default.lua:1: http.port: must be an integer from 0 to 65535, '
        .. 'not "abc"',
      "environment PORT: http.port: must be an integer from 0 to 65535, "
        .. 'not "x"',
    }, faults {
      files = default_lua 'return { http = { port = "abc" } }',
      environ = { PORT = "x" },
      overrides = { "http.port=8080" },
    })
  end)

  it("are all listed, with where each came from", function()
    local list = faults {
      env = "staging",
      files = {
        ["config/default.lua"] = "return {\n  htp = {},\n  http = {\n"
          .. "    port = 'x',\n    prot = 1,\n  },\n}",
        [".env"] = "A=1\nPERIGEE_LOG__LEVEL=loud\nnonsense here",
      },
      environ = { PERIGEE_HTTP__BACKLO = "1" },
      overrides = { "cluster.workers=0" },
    }
    assert.same({
      ".env:3: neither NAME=value nor a comment",
      'config/default.lua:2: htp: unknown key; did you mean "http"?',
      "flag --set cluster.workers: cluster.workers: must be an integer from 1 "
        .. 'to 256, or one of "auto", not "0"',
      "environment PERIGEE_HTTP__BACKLO: http.backlo: unknown key; did you "
        .. 'mean "http.backlog"?',
      'config/default.lua:5: http.prot: unknown key; did you mean "http.port"?',
      "config/default.lua:4: http.port: must be an integer from 0 to 65535, "
        .. 'not "x"',
      '.env:2: PERIGEE_LOG__LEVEL: log.level: must be one of "trace", "debug",'
        .. ' "info", "warn", "error", "fatal", "silent", not "loud"',
    }, list)
  end)

  it("name the line of a file that does not compile or run", function()
    local list = faults { files = default_lua "return {\n" }
    assert.equal(1, #list)
    assert.truthy(list[1]:find("^config/default.lua:2: "))
    list = faults { files = default_lua "\nlocal x = nil\nreturn x.y" }
    assert.equal(1, #list)
    assert.truthy(list[1]:find("^config/default.lua:3: attempt to index"))
    assert.same({ "config/default.lua: must return a table, not nil" },
      faults { files = default_lua "" })
  end)

  it("name what is required", function()
    assert.same({
      "config/default.lua:2: http.tls.key: is required: a string",
    }, faults { files = default_lua
      "return { http = {\n  tls = { cert = 'x' } } }" })
    assert.same({ "config: queue.driver: needs redis.main.url" },
      { (faults { files = {}, environ = { PERIGEE_QUEUE__DRIVER = "redis" } }
        [1]:gsub("^environment [^:]*", "config")) })
  end)

  it("name a driver of queues that there is not", function()
    for _, driver in ipairs { "kafka", "rabbitmq", "sqlite" } do
      local list = faults { files = {},
        environ = { PERIGEE_QUEUE__DRIVER = driver } }
      assert.equal(1, #list)
      assert.matches("queue.driver: .*embedded", list[1])
    end
  end)

  it("tell what is wrong with the URL of a Redis", function()
    local function fault(url)
      return (faults { files = {}, environ = { REDIS_URL = url } }[1]
        :match "redis%.main%.url: (.*)$")
    end
    assert.equal("the path is not the number of a database", fault "redis://h/x")
    assert.equal("the master's name is missing: .../NAME",
      fault "redis+sentinel://h:26379")
    assert.truthy(fault("http://h"):find("must be a URL", 1, true))
    assert.truthy(fault "redis://h:99999")
  end)

  it("tell of a flag that names no setting", function()
    for _, flag in ipairs { ".=1", "a..b=1", "a.=1", "http", "=1", "a b=1" } do
      local list = faults { overrides = { flag } }
      assert.equal(1, #list, flag)
      assert.truthy(list[1]:find("^flag %-%-set .*must be KEY=VALUE"))
    end
  end)

  it("tell a number in quotes what it should be", function()
    assert.same({ "config/default.lua:1: http.port: must be an integer from 0 "
      .. 'to 65535, not "80"; without the quotes it is one' },
      faults { files = default_lua "return { http = { port = '80' } }" })
  end)

  it("do not show a secret", function()
    local list = faults { files = default_lua
      "return { redis = { main = { url = { 'hunter2' } } } }" }
    assert.equal(1, #list)
    assert.is_nil(list[1]:find("hunter2", 1, true))
  end)

  it("tell of a file whose name is a slip", function()
    assert.same({ "config/prodution.lua: is never read; did you mean "
      .. "config/production.lua?" },
      faults { files = { ["config/prodution.lua"] = "return {}",
        ["config/helpers.lua"] = "return {}" } })
  end)

  it("keep configuration files from what needs a running host", function()
    local list = faults { files = default_lua
      "return { app = require 'perigee.sqlite' }" }
    assert.same({ "config/default.lua:1: a configuration file cannot use "
      .. "perigee.sqlite" }, list)
    assert.same({}, faults { files = default_lua
      "return { app = require('perigee.json').decode '{}' }" })
  end)

  it("refuse text that is not UTF-8", function()
    assert.equal(1, #faults { files = default_lua
      "return { app = { a = { 'x\\255' } } }" })
  end)

  it("refuse what cannot be data", function()
    assert.same({
      "config/default.lua:1: app.f: must be plain data, not a function",
      "config/default.lua:2: app.n: is not a finite number",
    }, faults { files = default_lua
      "return { app = { f = print,\n n = 0/0 } }" })
    assert.equal(1, #faults { files = default_lua
      "local t = {} t.t = t return { app = { t = t } }" })
    assert.same({ "config/default.lua:1: app.t: has a key that is no text: 404",
      "config/default.lua:1: app.u: mixes a list and names" }, faults {
        files = default_lua
          "return { app = { t = { [404] = 1 }, u = { 1, a = 2 } } }" })
  end)
end)

describe("types", function()
  local function check(t, value)
    local wrong
    local result = types.validate(t, value, "k", function(_, message)
      wrong = message
    end)
    return result, wrong
  end

  it("read durations as milliseconds", function()
    local t = types.duration {}
    for text, ms in pairs { ["500ms"] = 500, ["30s"] = 30000, ["5m"] = 300000,
      ["2h"] = 7200000, ["1d"] = 86400000, ["1.5s"] = 1500, ["10"] = 10 } do
      assert.equal(ms, (check(t, text)))
    end
    assert.equal(20, (check(t, 20)))
    for _, bad in ipairs { "s", "5 minutes", "-1s", -1, "1e3", "", 0 / 0,
      math.huge, true, "30d" } do
      assert.is_nil((check(t, bad)))
    end
  end)

  it("read sizes as bytes", function()
    local t = types.size {}
    for text, bytes in pairs { ["64kb"] = 65536, ["16MB"] = 16777216,
      ["1g"] = 1073741824, ["3b"] = 3, ["2KiB"] = 2048, ["7"] = 7 } do
      assert.equal(bytes, (check(t, text)))
    end
    assert.is_nil((check(t, "1tb")))
    assert.is_nil((check(t, "kb")))
  end)

  it("hold bounds, one below and one above", function()
    local t = types.integer { min = 1, max = 3 }
    assert.is_nil((check(t, 0)))
    assert.equal(1, (check(t, 1)))
    assert.equal(3, (check(t, 3)))
    assert.is_nil((check(t, 4)))
    assert.is_nil((check(t, 1.5)))
  end)

  it("know what bounds of buckets and endpoints of collectors are", function()
    local function told(text)
      return faults({ files = default_lua("return { " .. text .. " }") })[1]
    end
    assert.is_nil(told "metrics = { buckets = { 0.1, 1 } }")
    assert.truthy(told("metrics = { buckets = { 2, 1 } }"):find "must rise")
    assert.truthy(told("metrics = { buckets = { 1, 1 } }"):find "must rise")
    assert.truthy(told("metrics = { buckets = { 'a', 1 } }"):find "number")
    assert.truthy(told("metrics = { buckets = {} }"):find "1 to 64")
    for _, section in ipairs { "trace = %s", "log = { otlp = %s }",
      "metrics = { otlp = %s }" } do
      assert.is_nil(told(section:format "{ endpoint = 'HTTPS://c/x' }"))
      assert.truthy(told(section:format "{ endpoint = 'ftp://c' }")
        :find "must be an http or https URL")
    end
  end)

  it("know addresses and networks", function()
    local t = schema.root.fields.http.fields.trust_proxies
    for _, good in ipairs { "127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8",
      "::ffff:1.2.3.4" } do
      assert.is_nil(select(2, check(t, { good })))
    end
    for _, bad in ipairs { "localhost", "1.2.3", "1.2.3.256", "10.0.0.0/33",
      "::1/129", "10.0.0.0/", "" } do
      assert.truthy(select(2, check(t, { bad })))
    end
  end)
end)

describe("masking", function()
  local function shown(text, environ)
    local result = load { files = default_lua(text), environ = environ }
    assert.same({}, result.faults)
    return result.sources
  end

  it("hides secrets by the name of their key", function()
    local sources = shown [[return { app = { api_key = "hunter1",
      stripe = { webhookSecret = "hunter2", name = "plain" },
      tokens = { "hunter3" }, tokens_max = 5 } }]]
    assert.is_nil(sources:find("hunter", 1, true))
    assert.truthy(sources:find("plain", 1, true))
  end)

  it("hides passwords in URLs, and leaves the rest readable", function()
    local sources = shown("return {}", { REDIS_URL = "redis://u:hunter@h/1" })
    assert.is_nil(sources:find("hunter", 1, true))
    assert.truthy(sources:find("redis://u:" .. output.MASK .. "@h/1", 1, true))
  end)
end)

describe("docs/configuration.md", function()
  local file = io.open "docs/configuration.md"
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end

  local function each_key(t, path, fn)
    if t.kind == "section" then
      for key, field in pairs(t.fields) do
        each_key(field, types.join(path, key), fn)
      end
    elseif t.kind == "map" and t.of.kind == "section" then
      each_key(t.of, path .. ".NAME", fn)
    else
      fn(path, t)
    end
  end

  it("has every setting with its default", function()
    each_key(schema.root, "", function(path, t)
      if path:find "^app" or path:find "%.limits%." then
        return
      end
      local short = path:match "([^.]*)$"
      local row = text:match("\n| `" .. path:gsub("%.", "%%."):gsub("%-", "%%-")
        .. "` |[^\n]*") or text:match("\n[^\n]*`" .. short .. "` %([^\n]*")
        or text:match("\n[^\n]*[{ `]" .. short .. "[,} `=][^\n]*")
      assert.truthy(row, path .. " is not documented")
      local default = t.default
      if default ~= nil and type(default) ~= "table" then
        local shown = type(default) == "string" and '"' .. default .. '"'
          or tostring(default)
        assert.truthy(row:find(shown, 1, true),
          path .. ": its default " .. shown .. " is not documented")
      end
    end)
  end)
end)
