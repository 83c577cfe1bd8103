local json = require "perigee.json"

local given = dofile "spec/perigee/config_files.lua"
local load, effective, app_of, faults, default_lua
  = given.load, given.effective, given.app_of, given.faults, given.default_lua

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
