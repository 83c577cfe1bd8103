local json = require "perigee.json"
local dotenv = require "perigee.config.dotenv"
local lines = require "perigee.config.lines"
local loader = require "perigee.config.loader"
local output = require "perigee.config.output"
local schema = require "perigee.config.schema"
local suggest = require "perigee.config.suggest"
local types = require "perigee.config.types"

-- The loader on files that are nowhere but here.
local function load(options)
  return loader.load {
    dir = options.dir or "/nowhere",
    env = options.env,
    dev = options.dev or false,
    terminal = options.terminal or false,
    overrides = options.overrides or {},
    environ = options.environ or {},
    files = options.files or {},
  }
end

-- The effective value of a key, as C reads it, and where it came from.
local function effective(options, key)
  local result = load(options)
  assert.same({}, result.faults)
  local value = ("\n" .. result.settings):match("\n" .. key:gsub("%.", "%%.")
    .. "\t([^\n]*)")
  for _, entry in ipairs(json.decode(result.sources)) do
    if entry.key == key then
      return value, entry.source
    end
  end
  return value
end

local function app_of(result)
  assert.same({}, result.faults)
  return json.decode(result.config).app
end

local function faults(options)
  return load(options).faults
end

local function default_lua(text)
  return { ["config/default.lua"] = text }
end

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

describe("the environment's name", function()
  local function name(options)
    return load(options).env
  end

  it("is PERIGEE_ENV, else APP_ENV, else NODE_ENV", function()
    local all = { PERIGEE_ENV = "staging", APP_ENV = "test",
      NODE_ENV = "development" }
    assert.equal("staging", name { environ = all })
    all.PERIGEE_ENV = ""
    assert.equal("test", name { environ = all })
    all.APP_ENV = nil
    assert.equal("development", name { environ = all })
  end)

  it("is production unless somebody is at a terminal", function()
    assert.equal("production", name {})
    assert.equal("development", name { terminal = true })
    assert.equal("development", name { dev = true })
  end)

  it("is what the flag says above all", function()
    assert.equal("test", name { env = "test",
      environ = { PERIGEE_ENV = "staging" } })
  end)

  it("must be one of four", function()
    assert.same({ 'environment PERIGEE_ENV: must be one of "development", '
      .. '"staging", "production", "test", not "prod"; did you mean '
      .. '"production"?' }, faults { environ = { PERIGEE_ENV = "prod" } })
  end)

  it("changes the defaults", function()
    assert.equal("debug", (effective({ env = "development" }, "log.level")))
    assert.equal("pretty", (effective({ env = "development" }, "log.format")))
    assert.equal("true", (effective({ env = "development" }, "reload.watch")))
    assert.equal("info", (effective({ env = "production" }, "log.level")))
    assert.equal("json", (effective({ env = "production" }, "log.format")))
    assert.equal("false", (effective({ env = "production" }, "reload.watch")))
    assert.equal("auto", (effective({ env = "development" },
      "cluster.workers")))
    assert.equal("1", (effective({ env = "development", dev = true },
      "cluster.workers")))
    assert.equal("3", (effective({ dev = true,
      overrides = { "--workers:cluster.workers=3" } }, "cluster.workers")))
  end)
end)

describe("variables", function()
  it("are coerced by the schema", function()
    local environ = {
      PERIGEE_HTTP__STATIC = "no",
      PERIGEE_HTTP__BODY_MAX = "2mb",
      PERIGEE_SHUTDOWN__TIMEOUT = "1500ms",
      PERIGEE_LOG__REDACT = "a.b, c.*.d",
      PERIGEE_HTTP__TRUST_PROXIES = "10.0.0.0/8,::1",
      PERIGEE_CLUSTER__WORKERS = "2",
    }
    assert.equal("false", (effective({ environ = environ }, "http.static")))
    assert.equal("2097152", (effective({ environ = environ },
      "http.body_max")))
    assert.equal("1500", (effective({ environ = environ },
      "shutdown.timeout")))
    assert.equal('["a.b","c.*.d"]', (effective({ environ = environ },
      "log.redact")))
    assert.equal('["10.0.0.0/8","::1"]', (effective({ environ = environ },
      "http.trust_proxies")))
    assert.equal("2", (effective({ environ = environ }, "cluster.workers")))
  end)

  it("have the names that other programs use", function()
    local environ = {
      PORT = "81", HOST = "0.0.0.0", LOG_LEVEL = "WARN",
      REDIS_URL = "redis://h", AMQP_URL = "amqp://h",
      KAFKA_BROKERS = "a:9092,b:9092", WEB_CONCURRENCY = "3",
      STATSD_HOST = "s", STATSD_PORT = "99",
    }
    local expected = {
      ["http.port"] = "81", ["http.host"] = "0.0.0.0",
      ["log.level"] = "warn", ["redis.main.url"] = "redis://h",
      ["rabbitmq.main.url"] = "amqp://h",
      ["kafka.main.brokers"] = '["a:9092","b:9092"]',
      ["cluster.workers"] = "3", ["metrics.statsd.host"] = "s",
      ["metrics.statsd.port"] = "99",
    }
    for key, value in pairs(expected) do
      assert.equal(value, (effective({ environ = environ }, key)))
    end
  end)

  it("choose the database by the URL's scheme", function()
    local cases = {
      ["sqlite:data/x.db"] = { "sqlite.main.path", "data/x.db" },
      ["sqlite:///srv/x.db"] = { "sqlite.main.path", "/srv/x.db" },
      ["file:./dev.db?mode=rwc"] = { "sqlite.main.path", "./dev.db" },
      ["postgres://u:p@h/db"] = { "postgres.main.url", "postgres://u:p@h/db" },
    }
    for url, expected in pairs(cases) do
      assert.equal(expected[2], (effective({ environ = { DATABASE_URL = url } },
        expected[1])))
    end
    assert.equal(1, #faults { environ = { DATABASE_URL = "mysql://h" } })
  end)

  it("of OpenTelemetry configure traces", function()
    local environ = {
      OTEL_SERVICE_NAME = "shop", OTEL_TRACES_SAMPLER = "traceidratio",
      OTEL_TRACES_SAMPLER_ARG = "0.25",
      OTEL_RESOURCE_ATTRIBUTES = "a=1,b%20c=x%2Cy,service.name=other",
      OTEL_EXPORTER_OTLP_ENDPOINT = "http://c:4318/",
      OTEL_EXPORTER_OTLP_TIMEOUT = "nonsense", OTEL_PROPAGATORS = "",
    }
    local function of(key)
      return (effective({ environ = environ }, key))
    end
    assert.equal("shop", of "trace.service_name")
    assert.equal("traceidratio", of "trace.sampler")
    assert.equal("0.25", of "trace.ratio")
    assert.equal("x,y", of "trace.resource.b c")
    assert.equal("http://c:4318/v1/traces", of "trace.endpoint")
    assert.equal("true", of "trace.enabled")
    assert.equal("10000", of "trace.timeout")
    environ.OTEL_SDK_DISABLED = "true"
    assert.equal("false", of "trace.enabled")
  end)

  it("of OpenTelemetry say where Prometheus finds the metrics", function()
    local environ = { OTEL_EXPORTER_PROMETHEUS_HOST = "0.0.0.0",
      OTEL_EXPORTER_PROMETHEUS_PORT = "65535" }
    local function of(key)
      return (effective({ environ = environ }, key))
    end
    assert.equal("0.0.0.0", of "admin.host")
    assert.equal("65535", of "admin.port")
    environ.PERIGEE_ADMIN__PORT = "9000"
    assert.equal("9000", of "admin.port")
    environ.PERIGEE_ADMIN__PORT = nil
    environ.OTEL_EXPORTER_PROMETHEUS_PORT = "65536"
    assert.equal("9464", of "admin.port")
  end)

  it("of OpenTelemetry that make no sense are noted, and passed over", function()
    local environ = {
      OTEL_TRACES_SAMPLER = "jaeger_remote", OTEL_TRACES_SAMPLER_ARG = "2",
      OTEL_EXPORTER_OTLP_PROTOCOL = "grpc", OTEL_BSP_MAX_QUEUE_SIZE = "-5",
      OTEL_BSP_SCHEDULE_DELAY = "1.5", OTEL_PROPAGATORS = "b3,jaeger,baggage",
      OTEL_RESOURCE_ATTRIBUTES = "a=1,nonsense",
      OTEL_EXPORTER_OTLP_ENDPOINT = "collector:4318",
      OTEL_EXPORTER_OTLP_HEADERS = "a=x%0ay", OTEL_SDK_DISABLED = "1",
      OTEL_EXPORTER_PROMETHEUS_PORT = "65536",
    }
    local result = load { environ = environ }
    local notes = {}
    for name in result.settings:gmatch "\nnote%.%d+\tenvironment ([%u_]+): " do
      notes[name] = true
    end
    notes.OTEL_RESOURCE_ATTRIBUTES = result.settings:find(
      "note.001\tenvironment OTEL_RESOURCE_ATTRIBUTES: is no list", 1, true)
      ~= nil or nil
    for name in pairs(environ) do
      assert.is_true(notes[name], name)
    end
    local function of(key)
      return (effective({ environ = environ }, key))
    end
    assert.equal("parentbased_always_on", of "trace.sampler")
    assert.equal("1", of "trace.ratio")
    assert.equal("http/protobuf", of "trace.protocol")
    assert.equal("2048", of "trace.queue_max")
    assert.equal("5000", of "trace.batch_delay")
    assert.equal('["b3","baggage"]', of "trace.propagators")
    assert.equal("false", of "trace.enabled")
  end)

  it("of OpenTelemetry set limits, the narrower name first", function()
    local environ = {
      OTEL_ATTRIBUTE_COUNT_LIMIT = "7", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT = "9",
      OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT = "100", OTEL_SPAN_LINK_COUNT_LIMIT = "0",
      OTEL_SPAN_EVENT_COUNT_LIMIT = "1000000",
      OTEL_EXPORTER_OTLP_HEADERS = "a=1,authorization=Basic dTpw==",
      OTEL_EXPORTER_OTLP_TRACES_HEADERS = "a=2",
      OTEL_RESOURCE_ATTRIBUTES = "team=red",
      OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT = "5",
    }
    local files = default_lua
      "return { trace = { resource = { zone = 'z', team = 'blue' } } }"
    local function of(key)
      return (effective({ environ = environ, files = files }, key))
    end
    assert.equal("9", of "trace.limits.attributes")
    assert.equal("7", of "trace.limits.event_attributes")
    assert.equal("100", of "trace.limits.attribute_length")
    assert.equal("5", of "log.otlp.limits.attributes")
    assert.equal("100", of "log.otlp.limits.attribute_length")
    assert.equal("0", of "trace.limits.links")
    assert.equal("1024", of "trace.limits.events")
    assert.equal("red", of "trace.resource.team")
    assert.equal("z", of "trace.resource.zone")
    local config = assert(load { environ = environ, files = files }.config)
    local headers = json.decode(config).trace.headers
    assert.same({ a = "2", authorization = "Basic dTpw==" }, headers)
  end)

  it("of OpenTelemetry are read in any case", function()
    local environ = {
      OTEL_TRACES_SAMPLER = "Always_Off", OTEL_PROPAGATORS = "B3,Baggage",
      OTEL_EXPORTER_OTLP_PROTOCOL = "HTTP/JSON",
      OTEL_EXPORTER_OTLP_COMPRESSION = "GZIP", OTEL_TRACES_EXPORTER = "OTLP",
      OTEL_METRICS_EXEMPLAR_FILTER = "ALWAYS_OFF",
    }
    local function of(key)
      return (effective({ environ = environ }, key))
    end
    assert.equal("always_off", of "trace.sampler")
    assert.equal('["b3","baggage"]', of "trace.propagators")
    assert.equal("http/json", of "trace.protocol")
    assert.equal("gzip", of "trace.compression")
    assert.equal("true", of "trace.enabled")
    assert.equal("false", of "metrics.exemplars")
  end)

  it("that are empty count as unset", function()
    assert.equal("3000", (effective({ environ = { PORT = "",
      PERIGEE_HTTP__PORT = "" } }, "http.port")))
  end)

  it("of container platforms are not taken for settings", function()
    assert.same({}, faults { environ = { PERIGEE_PORT = "tcp://10.0.0.1:80",
      PERIGEE_SERVICE_HOST = "10.0.0.1", PERIGEE_PORT_3000_TCP = "x" } })
  end)

  it("give open settings the type they look like, unless it was text", function()
    local result = load {
      files = default_lua "return { app = { code = '007', n = 1 } }",
      environ = { PERIGEE_APP__CODE = "42", PERIGEE_APP__N = "2",
        PERIGEE_APP__ON = "true", PERIGEE_APP__ID = "0012",
        PERIGEE_APP__BIG = "12345678901234567890" },
    }
    assert.same({ big = "12345678901234567890", code = "42", id = "0012",
      n = 2, on = true }, app_of(result))
  end)

  it("find settings whatever their case", function()
    local result = load {
      files = default_lua "return { app = { pageSize = 10 } }",
      environ = { PERIGEE_APP__PAGESIZE = "20" },
    }
    assert.same({ pageSize = 20 }, app_of(result))
  end)
end)

describe("NAME_FILE", function()
  local path

  before_each(function()
    path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write("redis://:s3cret@h\n")
    file:close()
  end)

  after_each(function()
    os.remove(path)
  end)

  it("reads the value from a file, without its last line break", function()
    for _, name in ipairs { "REDIS_URL", "PERIGEE_REDIS__MAIN__URL" } do
      local value, source = effective({ environ = { [name .. "_FILE"] = path } },
        "redis.main.url")
      assert.equal("redis://:s3cret@h", value)
      assert.equal("environment " .. name .. "_FILE", source)
    end
  end)

  it("works for env() in configuration files, and is masked there", function()
    local result = load {
      files = default_lua "return { app = { a = env('STRIPE') } }",
      environ = { STRIPE_FILE = path },
    }
    assert.truthy(result.config:find("s3cret", 1, true))
    assert.is_nil(result.sources:find("s3cret", 1, true))
  end)

  it("says which file cannot be read", function()
    local list = faults { environ = { REDIS_URL_FILE = "gone" } }
    assert.equal(1, #list)
    assert.truthy(list[1]:find("^environment REDIS_URL_FILE: "))
    assert.truthy(list[1]:find("/nowhere/gone", 1, true))
  end)

  it("is an ordinary setting where there is one of that name", function()
    local value = effective({
      files = default_lua "return { app = { log_file = 'a' } }",
      environ = { PERIGEE_APP__LOG_FILE = "b.log" },
    }, "http.port")
    assert.equal("3000", value)
  end)
end)

describe("env() in configuration files", function()
  local function app(text, environ, more)
    local files = default_lua("return { app = { v = " .. text .. " } }")
    for name, content in pairs(more or {}) do
      files[name] = content
    end
    local result = load { env = "development", files = files,
      environ = environ or {} }
    return app_of(result).v
  end

  it("takes the type of its default", function()
    assert.equal(5, app "env('N', 5)")
    assert.equal(7, app("env('N', 5)", { N = "7" }))
    assert.equal(false, app("env('N', true)", { N = "off" }))
    assert.equal("7", app("env('N')", { N = "7" }))
    assert.is_nil(app "env('N')")
  end)

  it("prefers the process over .env.ENV over .env", function()
    local more = { [".env"] = "N=1", [".env.development"] = "N=2" }
    assert.equal("3", app("env('N')", { N = "3" }, more))
    assert.equal("2", app("env('N')", {}, more))
    more[".env.development"] = nil
    assert.equal("1", app("env('N')", {}, more))
  end)

  it("complains of what is not of the default's type", function()
    assert.same({ "environment N: must be a number: config asks for one" },
      faults { environ = { N = "x" },
        files = default_lua "return { app = { v = env('N', 5) } }" })
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
