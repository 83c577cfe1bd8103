--- The settings of the host: names, types, defaults. docs/configuration.md
--- tells what each one means; a spec compares the two.

local log_check = require "perigee.core.log_check"
local redis_check = require "perigee.core.redis_check"
local t = require "perigee.config.types"

local M = {}

local PORT = { min = 0, max = 65535 }

local function port(default)
  return t.integer { default = default, min = PORT.min, max = PORT.max }
end

local function one_or_more(text)
  return function(value)
    return #value == 0 and text or nil
  end
end

local host_name = one_or_more "must not be empty"

local function is_ipv4(text)
  local parts = { text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
  for _, part in ipairs(parts) do
    if tonumber(part) > 255 or #part > 3 then return false end
  end
  return #parts == 4
end

local function is_ipv6(text)
  return text:find "^[%x:.]+$" ~= nil and text:find(":", 1, true) ~= nil
    and not text:find(":::", 1, true)
end

local function not_a_network(value)
  local address, bits = value:match "^([^/]+)/?(%d*)$"
  local width = address and (is_ipv4(address) and 32
    or is_ipv6(address) and 128)
  if not width or value:sub(-1) == "/" or (tonumber(bits) or 0) > width then
    return ('must be an address or a network ("10.0.0.0/8"), not "%s"')
      :format(value)
  end
  return nil
end

-- C's settings hold no line breaks: PEM itself would be lost on the way, and
-- with it that TLS is wanted.
local function not_a_path(value)
  if value == "" or value:find "[%c]" or value:find("-----", 1, true) then
    return "must be the path of a PEM file"
  end
  return nil
end

local function not_a_host(value)
  local name = value:gsub("^%*%.", "")
  if not name:find "^[%w_-][%w_.-]*$" then
    return ('must be a host name, "example.org" or "*.example.org", not "%s"')
      :format(value)
  end
  return nil
end

local http = t.section {
  host = t.string { default = "127.0.0.1", check = host_name },
  port = port(3000),
  backlog = t.integer { default = 511, min = 1, max = 65535 },
  tls = t.union {
    default = false,
    options = {
      t.off(),
      t.section {
        cert = t.string { required = true, check = not_a_path },
        key = t.string { required = true, check = not_a_path },
        sni = t.list {
          default = t.array {},
          of = t.section {
            names = t.list { default = t.array {},
              of = t.string { check = not_a_host } },
            cert = t.string { required = true, check = not_a_path },
            key = t.string { required = true, check = not_a_path },
          },
        },
        ca = t.string { check = not_a_path },
        verify_client = t.union {
          default = false,
          options = {
            t.boolean(),
            t.enum { values = { "request", "require" } },
          },
        },
        min_version = t.enum { default = "1.2", values = { "1.2", "1.3" } },
        ciphers = t.string(),
        tickets = t.boolean { default = true },
      },
    },
  },
  keepalive_timeout = t.duration { default = "75s" },
  header_timeout = t.duration { default = "15s", min = 1 },
  body_timeout = t.duration { default = "30s", min = 1 },
  body_rate_min = t.size { default = 256 },
  request_timeout = t.duration { default = "30s" },
  header_max = t.size { default = "32kb", min = 1024, max = 1048576 },
  header_count_max = t.integer { default = 100, min = 8, max = 1000 },
  url_max = t.size { default = "8kb", min = 256, max = 1048576 },
  body_max = t.size { default = "1mb" },
  connections_max = t.integer { default = 10000, min = 1, max = 1000000 },
  trust_proxies = t.list {
    default = t.array {},
    of = t.string { check = not_a_network },
  },
  compression = t.union {
    default = true,
    options = {
      t.boolean(),
      t.section {
        min_bytes = t.size { default = "1kb" },
        level = t.integer { default = 5, min = 1, max = 9 },
        encodings = t.list {
          default = t.array { "br", "gzip" },
          of = t.enum { values = { "br", "gzip" } },
        },
      },
    },
  },
  static = t.boolean { default = true },
  health = t.boolean { default = true },
}

local cluster = t.section {
  workers = t.union {
    default = "auto",
    options = {
      t.integer { min = 1, max = 256 },
      t.enum { values = { "auto" } },
    },
  },
  roles = t.map { default = {}, of = t.integer { min = 0, max = 256 } },
  watchdog = t.duration { default = "30s" },
  restart_backoff = t.duration { default = "100ms", min = 1 },
  max_requests = t.integer { default = 0, min = 0 },
}

local admin = t.section {
  host = t.string { default = "127.0.0.1", check = host_name },
  port = t.union {
    default = 9464,
    options = { port(), t.off() },
  },
  socket = t.string { default = "var/perigee.sock", check = host_name },
  dashboard = t.union {
    default = true,
    options = {
      t.boolean(),
      t.section {
        write = t.boolean(), -- true in development, else false
        remote = t.boolean { default = false },
        hosts = t.list { default = t.array {},
          of = t.string { check = not_a_host } },
      },
    },
  },
}

local reload = t.section {
  watch = t.boolean { default = false },
  drain = t.duration { default = "30s" },
  selfcheck_timeout = t.duration { default = "10s", min = 1 },
}

local shutdown = t.section {
  drain_delay = t.duration { default = 0 },
  timeout = t.duration { default = "25s" },
}

-- How one kind of what is recorded goes to a collector, and a section's own.
local function exported(signal, own)
  local all = {
    endpoint = t.string {
      default = "http://localhost:4318/v1/" .. signal,
      check = function(value)
        return not value:find "^[hH][tT][tT][pP][sS]?://[^/?#]"
          and "must be an http or https URL" or nil
      end,
    },
    headers = t.map {
      default = {},
      any_key = true,
      of = t.string { secret = true },
    },
    certificate = t.string(),
    client_certificate = t.string(),
    client_key = t.string { secret = true },
    timeout = t.duration { default = "10s", min = 1 },
    protocol = t.enum {
      default = "http/protobuf",
      values = { "http/protobuf", "http/json" },
    },
    compression = t.enum { default = "none", values = { "none", "gzip" } },
    batch_delay = t.duration { default = "5s", min = 1 },
    batch_max = t.integer { default = 512, min = 1, max = 10000 },
    queue_max = t.integer { default = 2048, min = 1, max = 100000 },
  }
  for name, kind in pairs(own) do
    all[name] = kind or nil
  end
  return t.section(all)
end

local FACILITIES = { "kern", "user", "mail", "daemon", "auth", "syslog", "lpr",
  "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
  "local0", "local1", "local2", "local3", "local4", "local5", "local6",
  "local7" }

-- A stream, a path, or one of the schemes of a socket.
local function not_a_destination(value)
  local scheme, rest = value:match "^(%l[%l%d-]*):(.*)$"
  if value == "" or value:find "[%c]" then
    return "must not be empty"
  end
  if not scheme or scheme == "syslog" and rest == "" then
    return nil
  end
  if scheme == "syslog" and rest:find "^//[^/]" then
    local host, number = rest:match "^//%[?([^%]/]-)%]?:?(%d*)$"
    if not host or host == "" or (tonumber(number) or 1) > 65535 then
      return "must be syslog://HOST:PORT"
    end
    return nil
  end
  if scheme ~= "syslog" and scheme ~= "unix" and scheme ~= "unix-dgram" then
    return ('must be stdout, stderr, a file, syslog[:PATH], syslog://HOST:PORT,'
      .. ' unix:PATH or unix-dgram:PATH, not "%s"'):format(value)
  end
  local path = rest:gsub("^//", "")
  return (path == "" or #path > 107) and "must name a socket's path" or nil
end

local log = t.section {
  level = t.enum {
    default = "info",
    values = { "trace", "debug", "info", "warn", "error", "fatal", "silent" },
  },
  levels = t.map {
    default = {},
    any_key = true,
    of = t.enum {
      values = { "trace", "debug", "info", "warn", "error", "fatal",
        "silent" },
    },
  },
  format = t.enum { default = "json", values = { "json", "pretty" } },
  destination = t.string { default = "stdout", check = not_a_destination },
  redact = t.list {
    default = t.array {},
    check = function(paths)
      return #paths > 64 and "at most 64 paths" or nil
    end,
    of = t.string { check = log_check.redact_fault },
  },
  requests = t.boolean { default = true },
  access = t.section {
    format = t.string { default = "json", check = log_check.access_fault },
    destination = t.string { check = not_a_destination },
  },
  otlp = exported("logs", {
    enabled = t.boolean { default = false },
    limits = t.section {
      attributes = t.integer { default = 128, min = 0, max = 1024 },
      attribute_length = t.integer { default = 4096, min = 0, max = 32768 },
    },
  }),
  syslog = t.section {
    facility = t.enum { default = "daemon", values = FACILITIES },
    app_name = t.string { default = "perigee" },
  },
  stall = t.duration { default = "50ms", max = 3600000 },
  rotate = t.section {
    size = t.size { default = 0 },
    age = t.duration { default = 0 },
    keep = t.integer { default = 7, min = 1, max = 1000 },
  },
}

local metrics = t.section {
  enabled = t.boolean { default = true },
  exponential = t.boolean { default = false },
  exemplars = t.boolean { default = true },
  compat = t.enum { default = "none", values = { "none", "prom-client" } },
  series_max = t.integer { default = 2000, min = 1, max = 1000000 },
  buckets = t.list {
    default = t.array { 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
      1, 2.5, 5, 7.5, 10 },
    of = t.number { min = 0 },
    check = function(bounds)
      for i = 2, #bounds do
        local above, below = bounds[i], bounds[i - 1] -- nil: was a fault
        if above and below and above <= below then
          return "must rise"
        end
      end
      return (#bounds == 0 or #bounds > 64) and "must be 1 to 64 numbers"
        or nil
    end,
  },
  otlp = exported("metrics", {
    batch_delay = false, -- all of it leaves at once
    batch_max = false,
    queue_max = false,
    enabled = t.boolean { default = false },
    interval = t.duration { default = "60s", min = 100 },
    temporality = t.enum {
      default = "cumulative",
      values = { "cumulative", "delta", "lowmemory" },
    },
  }),
  statsd = t.section {
    host = t.string(),
    port = port(8125),
    socket = t.string(),
    format = t.enum {
      default = "statsd",
      values = { "statsd", "dogstatsd" },
    },
    prefix = t.string { default = "" },
    interval = t.duration { default = "10s", min = 100 },
  },
}

local trace = exported("traces", {
  enabled = t.boolean { default = false },
  service_name = t.string { default = "unknown_service:perigee" },
  resource = t.map { default = {}, any_key = true, of = t.string() },
  exporter = t.enum { default = "otlp", values = { "otlp", "none" } },
  keep_slow = t.duration { default = 0 },
  keep_failed = t.boolean { default = false },
  sampler = t.enum {
    default = "parentbased_always_on",
    values = { "always_on", "always_off", "traceidratio",
      "parentbased_always_on", "parentbased_always_off",
      "parentbased_traceidratio" },
  },
  ratio = t.number { default = 1, min = 0, max = 1 },
  limits = t.section {
    attributes = t.integer { default = 128, min = 0, max = 1024 },
    attribute_length = t.integer { default = 4096, min = 0, max = 32768 },
    events = t.integer { default = 128, min = 0, max = 1024 },
    event_attributes = t.integer { default = 128, min = 0, max = 1024 },
    links = t.integer { default = 128, min = 0, max = 1024 },
  },
  propagators = t.list {
    default = t.array { "tracecontext", "baggage" },
    of = t.enum { values = { "tracecontext", "baggage", "b3", "b3multi",
      "none" } },
  },
})

local limits = t.section {
  cpu_per_request = t.duration { default = 0 },
  memory_per_vm = t.size { default = 0 },
  offload_threads = t.integer { default = 4, min = 1, max = 64 },
  offload_queue = t.integer { default = 1000, min = 1 },
  offload_memory = t.size { default = "64mb", min = 2 * 1024 * 1024 },
}

local client = t.section {
  connections = t.integer { default = 64, min = 1, max = 65535 },
  waiting = t.integer { default = 10000, min = 0 },
  idle_timeout = t.duration { default = "4s" },
  dns_ttl = t.duration { default = "5s" },
  proxy = t.string { secret = true },
  no_proxy = t.string(),
  send_deadline = t.boolean { default = true },
}

local cache = t.section {
  size = t.size { default = "16mb", min = 65536 },
  entries = t.integer { default = 10000, min = 1 },
  levels = t.list {
    default = t.array { "worker", "shared" },
    of = t.enum { values = { "worker", "shared", "redis" } },
  },
  redis = t.string { default = "main" },
  prefix = t.string { default = "cache" },
}

local function url_check(...)
  local schemes = { ... }
  return function(value)
    local scheme = value:match "^([%a][%w+.-]*):"
    for _, known in ipairs(schemes) do
      if scheme == known then return nil end
    end
    return "must be a URL that begins with "
      .. table.concat(schemes, ": or ") .. ":"
  end
end

local redis_scheme = url_check("redis", "rediss", "unix", "redis+unix",
  "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")

local redis = t.map {
  default = {},
  of = t.section {
    url = t.string {
      required = true,
      secret = true,
      check = function(value)
        return redis_scheme(value) or redis_check.url_fault(value)
      end,
    },
    pool = t.integer { default = 4, min = 1, max = 1000 },
    connect_timeout = t.duration { default = "2s", min = 1 },
    timeout = t.duration { default = "5s", min = 1 },
    connections_max = t.integer { default = 1000, min = 1 },
    queue_max = t.integer { default = 10000, min = 1 },
    reply_max = t.size { default = "64mb", min = 1024 },
    tls = t.section {
      ca = t.string { check = not_a_path },
      cert = t.string { check = not_a_path },
      key = t.string { check = not_a_path },
      verify = t.boolean { default = true },
      server_name = t.string(),
    },
    read_from = t.enum { default = "master",
      values = { "master", "replica" } },
    prefix = t.string { default = "" },
    required = t.boolean { default = false },
  },
}

local sqlite = t.map {
  default = { main = { path = "var/perigee.sqlite" } },
  of = t.section {
    path = t.string { required = true, check = host_name },
    migrations = t.union {
      options = {
        t.string(),
        t.off(),
      },
    },
    readers = t.integer { default = 2, min = 0, max = 16 },
    busy_timeout = t.duration { default = "5s" },
    wait_timeout = t.duration { default = "10s", min = 1 },
    queue_max = t.integer { default = 10000, min = 1, max = 1000000 },
    rows_max = t.integer { default = 100000, min = 1 },
    result_max = t.size { default = "64mb", min = 1024 },
    synchronous = t.enum { default = "full",
      values = { "off", "normal", "full", "extra" } },
    required = t.boolean { default = false },
  },
}

local function database(...)
  return t.map {
    default = {},
    of = t.section {
      url = t.string { required = true, secret = true,
        check = url_check(...) },
      pool = t.integer { default = 10, min = 1, max = 1000 },
      timeout = t.duration { default = "30s", min = 1 },
    },
  }
end

local function queue_limit(more)
  local fields = {
    concurrency = t.integer { min = 1 },
    rate = t.section {
      max = t.integer { required = true, min = 1 },
      duration = t.duration { required = true, min = 1 },
    },
  }
  for name, field in pairs(more or {}) do
    fields[name] = field
  end
  return t.section(fields)
end

local queue = t.section {
  driver = t.enum {
    default = "embedded",
    values = { "embedded", "redis" },
  },
  path = t.string { default = "var/queue.sqlite" },
  synchronous = t.enum { default = "full",
    values = { "off", "normal", "full", "extra" } },
  redis = t.string { default = "main" },
  prefix = t.string { default = "bull" },
  lock = t.duration { default = "10s", min = 1000 },
  stalled_interval = t.duration { default = "5s", min = 100 },
  stalled_max = t.integer { default = 1, min = 0 },
  idle_timeout = t.duration { default = "5s", min = 10 },
  worker_name = t.string(),
  metrics = t.boolean { default = true },
  concurrency = t.integer { min = 1 },
  limits = t.map { default = {}, of = queue_limit {
    group = queue_limit(), -- the same, for each group
  } },
}

local kafka = t.map {
  default = {},
  of = t.section {
    brokers = t.list { required = true, of = t.string() },
    client_id = t.string { default = "perigee" },
  },
}

--- Everything a configuration may hold.
M.root = t.section {
  http = http,
  cluster = cluster,
  admin = admin,
  reload = reload,
  shutdown = shutdown,
  log = log,
  metrics = metrics,
  trace = trace,
  limits = limits,
  client = client,
  cache = cache,
  redis = redis,
  sqlite = sqlite,
  postgres = database("postgres", "postgresql"),
  rabbitmq = database("amqp", "amqps"),
  kafka = kafka,
  queue = queue,
  app = t.open { default = {} },
}

M.environments = { "development", "staging", "production", "test" }

--- What each environment changes of the defaults.
M.presets = {
  development = {
    log = { level = "debug", format = "pretty" },
    reload = { watch = true },
  },
  staging = {
    trace = { enabled = true, sampler = "always_on" },
  },
  production = {},
  test = {
    log = { level = "warn", destination = "stderr" },
    sqlite = { main = { path = "var/test.sqlite" } },
    queue = { path = "var/test-queue.sqlite" },
  },
}

--- What `perigee dev` brings, whatever the environment.
M.dev = {
  cluster = { workers = 1 },
  reload = { watch = true },
}

return M
