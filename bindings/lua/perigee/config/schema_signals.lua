--- The settings of logs, metrics and traces: see perigee.config.schema.

local check = require "perigee.config.check"
local log_check = require "perigee.core.log_check"
local t = require "perigee.config.types"

local M = {}

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

M.log = t.section {
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
  destination = t.string {
    default = "stdout",
    check = check.not_a_destination,
  },
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
    destination = t.string { check = check.not_a_destination },
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

M.metrics = t.section {
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
    port = t.integer { default = 8125, min = 0, max = 65535 },
    socket = t.string(),
    format = t.enum {
      default = "statsd",
      values = { "statsd", "dogstatsd" },
    },
    prefix = t.string { default = "" },
    interval = t.duration { default = "10s", min = 100 },
  },
}

M.trace = exported("traces", {
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

return M
