--- The settings of databases, brokers and queues: see perigee.config.schema.

local check = require "perigee.config.check"
local redis_check = require "perigee.core.redis_check"
local t = require "perigee.config.types"

local M = {}

local redis_scheme = check.url("redis", "rediss", "unix", "redis+unix",
  "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")

M.redis = t.map {
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
      ca = t.string { check = check.not_a_path },
      cert = t.string { check = check.not_a_path },
      key = t.string { check = check.not_a_path },
      verify = t.boolean { default = true },
      server_name = t.string(),
    },
    read_from = t.enum { default = "master",
      values = { "master", "replica" } },
    prefix = t.string { default = "" },
    required = t.boolean { default = false },
  },
}

M.sqlite = t.map {
  default = { main = { path = "var/perigee.sqlite" } },
  of = t.section {
    path = t.string { required = true, check = check.empty },
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
        check = check.url(...) },
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

M.queue = t.section {
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

M.kafka = t.map {
  default = {},
  of = t.section {
    brokers = t.list { required = true, of = t.string() },
    client_id = t.string { default = "perigee" },
  },
}

M.postgres = database("postgres", "postgresql")
M.rabbitmq = database("amqp", "amqps")

return M
