--- The settings of the host: names, types, defaults. docs/configuration.md
--- tells what each one means; a spec compares the two.

local check = require "perigee.config.check"
local signals = require "perigee.config.schema_signals"
local stores = require "perigee.config.schema_stores"
local t = require "perigee.config.types"

local M = {}

local PORT = { min = 0, max = 65535 }

local function port(default)
  return t.integer { default = default, min = PORT.min, max = PORT.max }
end

local http = t.section {
  host = t.string { default = "127.0.0.1", check = check.empty },
  port = port(3000),
  backlog = t.integer { default = 511, min = 1, max = 65535 },
  tls = t.union {
    default = false,
    options = {
      t.off(),
      t.section {
        cert = t.string { required = true, check = check.not_a_path },
        key = t.string { required = true, check = check.not_a_path },
        sni = t.list {
          default = t.array {},
          of = t.section {
            names = t.list { default = t.array {},
              of = t.string { check = check.not_a_host } },
            cert = t.string { required = true, check = check.not_a_path },
            key = t.string { required = true, check = check.not_a_path },
          },
        },
        ca = t.string { check = check.not_a_path },
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
    of = t.string { check = check.not_a_network },
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
  host = t.string { default = "127.0.0.1", check = check.empty },
  port = t.union {
    default = 9464,
    options = { port(), t.off() },
  },
  socket = t.string { default = "var/perigee.sock", check = check.empty },
  dashboard = t.union {
    default = true,
    options = {
      t.boolean(),
      t.section {
        write = t.boolean(), -- true in development, else false
        remote = t.boolean { default = false },
        hosts = t.list { default = t.array {},
          of = t.string { check = check.not_a_host } },
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

--- Everything a configuration may hold.
M.root = t.section {
  http = http,
  cluster = cluster,
  admin = admin,
  reload = reload,
  shutdown = shutdown,
  log = signals.log,
  metrics = signals.metrics,
  trace = signals.trace,
  limits = limits,
  client = client,
  cache = cache,
  redis = stores.redis,
  sqlite = stores.sqlite,
  postgres = stores.postgres,
  rabbitmq = stores.rabbitmq,
  kafka = stores.kafka,
  queue = stores.queue,
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
