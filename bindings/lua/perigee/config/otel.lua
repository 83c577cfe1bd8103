--- OTEL_* variables as settings. As their specification says, an empty value
--- counts as unset; one that makes no sense is passed over, and noted.

local M = {}

local function percent_decode(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local function trim(text)
  return text:match "^%s*(.-)%s*$"
end

-- "a=1,b=2" of the W3C baggage format, without properties. Nil, why.
local function pairs_of(text)
  local result = {}
  for item in text:gmatch "[^,]+" do
    if item:find "%S" then
      local key, value = item:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
      if not key or (key .. value):gsub("%%%x%x", ""):find "%%" then
        return nil, "is no list of key=value"
      end
      result[percent_decode(key)] = percent_decode(value)
    end
  end
  return result
end

local function headers_of(text)
  local result, why = pairs_of(text)
  for name, value in pairs(result or {}) do
    if name:find "[^%w!#$%%&'*+.^_`|~-]"
      or value:find "[%z\1-\8\10-\31\127]" then
      return nil, "has a header that cannot be sent"
    end
  end
  return result, why
end

-- In whatever case, as their specification wants it.
local function one_of(...)
  local names = { ... }
  return function(text)
    text = trim(text):lower()
    for _, name in ipairs(names) do
      if text == name then
        return name
      end
    end
    return nil, ("must be one of %s"):format(table.concat(names, ", "))
  end
end

local function protocol(text)
  if trim(text):lower() == "grpc" then
    return nil, "grpc is not spoken here; http/protobuf is used"
  end
  return one_of("http/protobuf", "http/json")(text)
end

-- From min on; what is above max is taken for it.
local function whole(min, max)
  return function(text)
    local number = text:match "^%s*%d+%s*$" and tonumber(text)
    if not number or number < min then
      return nil, ("must be a whole number from %d on"):format(min)
    end
    return math.min(number, max)
  end
end

local milliseconds = whole(1, 2 ^ 31 - 1)

local function ratio(text)
  local number = tonumber(text)
  if number and number >= 0 and number <= 1 then
    return number
  end
  return nil, "must be a number from 0 to 1"
end

local function url(text)
  text = trim(text)
  if text:find "^[hH][tT][tT][pP][sS]?://[^/?#]" then
    return text
  end
  return nil, "must be an http or https URL"
end

local PROPAGATORS = { tracecontext = true, baggage = true, b3 = true,
  b3multi = true, none = true }

-- Those that are known; the others are noted.
local function propagators(text)
  local result, unknown = {}, {}
  for item in text:lower():gmatch "[^,%s]+" do
    local list = PROPAGATORS[item] and result or unknown
    list[#list + 1] = item
  end
  local why = unknown[1] and "knows no " .. table.concat(unknown, ", ") or nil
  return result[1] and result or nil, why
end

local SAMPLER = one_of("always_on", "always_off", "traceidratio",
  "parentbased_always_on", "parentbased_always_off",
  "parentbased_traceidratio")

local TEMPORALITY = one_of("cumulative", "delta", "lowmemory")
local AGGREGATION = one_of("explicit_bucket_histogram",
  "base2_exponential_bucket_histogram")

local EXPORTERS = { otlp = true, none = true, prometheus = true }

-- Whether a list of exporters has ours; those that nobody here is are noted.
local function has_otlp(text)
  local has, unknown = false, {}
  for name in text:lower():gmatch "[^,%s]+" do
    has = has or name == "otlp"
    if not EXPORTERS[name] then
      unknown[#unknown + 1] = name
    end
  end
  local why = unknown[1] and "knows no " .. table.concat(unknown, ", ") or nil
  if why and not has then
    return nil, why
  end
  return has, why
end

local function trace_exporter(text)
  local has, why = has_otlp(text)
  if has == nil then
    return nil, why
  end
  return has and "otlp" or "none", why
end

-- Later ones win: what is said of one signal stands behind the general.
local RULES = {
  { "OTEL_RESOURCE_ATTRIBUTES", "trace.resource", pairs_of },
  { "OTEL_SERVICE_NAME", "trace.service_name" },
  { "OTEL_BSP_EXPORT_TIMEOUT", "trace.timeout", milliseconds },
  { "OTEL_BSP_SCHEDULE_DELAY", "trace.batch_delay", milliseconds },
  { "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "trace.batch_max", whole(1, 10000) },
  { "OTEL_BSP_MAX_QUEUE_SIZE", "trace.queue_max", whole(1, 100000) },
  { "OTEL_BLRP_EXPORT_TIMEOUT", "log.otlp.timeout", milliseconds },
  { "OTEL_BLRP_SCHEDULE_DELAY", "log.otlp.batch_delay", milliseconds },
  { "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "log.otlp.batch_max",
    whole(1, 10000) },
  { "OTEL_BLRP_MAX_QUEUE_SIZE", "log.otlp.queue_max", whole(1, 100000) },
  { "OTEL_TRACES_EXPORTER", "trace.exporter", trace_exporter },
  { "OTEL_TRACES_SAMPLER", "trace.sampler", SAMPLER },
  { "OTEL_TRACES_SAMPLER_ARG", "trace.ratio", ratio },
  { "OTEL_PROPAGATORS", "trace.propagators", propagators },
  { "OTEL_ATTRIBUTE_COUNT_LIMIT", "trace.limits.attributes", whole(0, 1024) },
  { "OTEL_ATTRIBUTE_COUNT_LIMIT", "trace.limits.event_attributes",
    whole(0, 1024) },
  { "OTEL_ATTRIBUTE_COUNT_LIMIT", "log.otlp.limits.attributes",
    whole(0, 1024) },
  { "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "log.otlp.limits.attributes",
    whole(0, 1024) },
  { "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "trace.limits.attributes",
    whole(0, 1024) },
  { "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "trace.limits.event_attributes",
    whole(0, 1024) },
  { "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "trace.limits.attribute_length",
    whole(0, 32768) },
  { "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "log.otlp.limits.attribute_length",
    whole(0, 32768) },
  { "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "log.otlp.limits.attribute_length", whole(0, 32768) },
  { "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "trace.limits.attribute_length",
    whole(0, 32768) },
  { "OTEL_SPAN_EVENT_COUNT_LIMIT", "trace.limits.events", whole(0, 1024) },
  { "OTEL_SPAN_LINK_COUNT_LIMIT", "trace.limits.links", whole(0, 1024) },
  { "OTEL_METRIC_EXPORT_INTERVAL", "metrics.otlp.interval", milliseconds },
  { "OTEL_METRIC_EXPORT_TIMEOUT", "metrics.otlp.timeout", milliseconds },
  { "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "metrics.otlp.temporality", TEMPORALITY },
  { "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "metrics.exponential", function(text)
      local name, why = AGGREGATION(text)
      if name then
        return name == "base2_exponential_bucket_histogram"
      end
      return nil, why
    end },
}

-- What a scraper asks is the admin listener, which has their default, too.
RULES[#RULES + 1] = { "OTEL_EXPORTER_PROMETHEUS_HOST", "admin.host" }
RULES[#RULES + 1] = { "OTEL_EXPORTER_PROMETHEUS_PORT", "admin.port",
  function(text)
    local port, why = whole(0, math.huge)(text)
    if port and port > 65535 then
      return nil, "must be a port's number"
    end
    return port, why
  end }

-- Exemplars are those of traces, whatever else "always_on" would have.
local EXEMPLARS = one_of("trace_based", "always_on", "always_off")
RULES[#RULES + 1] = { "OTEL_METRICS_EXEMPLAR_FILTER", "metrics.exemplars",
  function(text)
    local name, why = EXEMPLARS(text)
    if name then
      return name ~= "always_off"
    end
    return nil, why
  end }

-- What the exporters of all signals have, with and without its name.
local EXPORTER = {
  { "HEADERS", "headers", headers_of },
  { "TIMEOUT", "timeout", milliseconds },
  { "PROTOCOL", "protocol", protocol },
  { "COMPRESSION", "compression", one_of("none", "gzip") },
  { "CERTIFICATE", "certificate" },
  { "CLIENT_CERTIFICATE", "client_certificate" },
  { "CLIENT_KEY", "client_key" },
}

-- own, general: the setting that is true where an endpoint is given.
local function add_exporter(signal, section, own, general)
  local function add(...)
    RULES[#RULES + 1] = { ... }
  end
  add("OTEL_EXPORTER_OTLP_ENDPOINT", section .. ".endpoint", function(text)
    local base, why = url(text)
    return base and base:gsub("/+$", "") .. "/v1/" .. signal, why
  end, general)
  add("OTEL_EXPORTER_OTLP_" .. signal:upper() .. "_ENDPOINT",
    section .. ".endpoint", url, own)
  for _, prefix in ipairs { "", signal:upper() .. "_" } do
    for _, rule in ipairs(EXPORTER) do
      add("OTEL_EXPORTER_OTLP_" .. prefix .. rule[1],
        section .. "." .. rule[2], rule[3])
    end
  end
end

add_exporter("traces", "trace", "trace.enabled", "trace.enabled")
-- Lines have a destination anyway: sent is what was asked for.
add_exporter("logs", "log.otlp", "log.otlp.enabled")
RULES[#RULES + 1] = { "OTEL_LOGS_EXPORTER", "log.otlp.enabled", has_otlp }
add_exporter("metrics", "metrics.otlp", "metrics.otlp.enabled")
RULES[#RULES + 1] = { "OTEL_METRICS_EXPORTER", "metrics.otlp.enabled",
  has_otlp }

--- Whether OTEL_SDK_DISABLED says so; other words than true and false do not.
local function is_disabled(text, note)
  local word = text and trim(text):lower() or ""
  if word ~= "" and word ~= "true" and word ~= "false" then
    note("OTEL_SDK_DISABLED", "must be true or false")
  end
  return word == "true"
end

--- Gives the settings that the variables stand for; notes what is passed over.
---@param get fun(name: string): string?
---@param set fun(path: string, value: any, name: string)
---@param note fun(name: string, why: string)
function M.apply(get, set, note)
  for _, rule in ipairs(RULES) do
    local name, path, convert, enables = unpack(rule)
    local text = get(name)
    local value, why
    if text and text:find "%S" then
      value, why = (convert or trim)(text)
    end
    if why then
      note(name, why)
    end
    if value ~= nil then
      set(path, value, name)
      if path == "trace.resource" and value["service.name"] then
        set("trace.service_name", value["service.name"], name)
      end
      if name == "OTEL_TRACES_EXPORTER" and value == "otlp" then
        enables = "trace.enabled"
      end
      if enables then
        set(enables, true, name)
      end
    end
  end
  if is_disabled(get "OTEL_SDK_DISABLED", note) then
    set("trace.enabled", false, "OTEL_SDK_DISABLED")
    set("log.otlp.enabled", false, "OTEL_SDK_DISABLED")
    set("metrics.otlp.enabled", false, "OTEL_SDK_DISABLED")
  end
end

return M
