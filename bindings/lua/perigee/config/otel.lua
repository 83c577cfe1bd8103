--- OTEL_* variables as settings of `trace`, `log.otlp` and `metrics`. As their specification says, an
--- empty value counts as unset and a senseless one is passed over.

local M = {}

local function percent_decode(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- "a=1,b=2" of the W3C baggage format, without properties.
local function pairs_of(text)
  local result = {}
  for item in text:gmatch "[^,]+" do
    local key, value = item:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
    if key then
      result[percent_decode(key)] = percent_decode(value)
    end
  end
  return result
end

local SAMPLERS = { always_on = true, always_off = true, traceidratio = true,
  parentbased_always_on = true, parentbased_always_off = true,
  parentbased_traceidratio = true }
local PROPAGATORS = { tracecontext = true, baggage = true, b3 = true,
  b3multi = true, none = true }

local PROTOCOLS = { ["http/protobuf"] = true, ["http/json"] = true }
local COMPRESSIONS = { none = true, gzip = true }

local function truth(value)
  return value:lower() == "true"
end

local function known(set, form)
  return function(value)
    value = form and form(value) or value
    return set[value] and value or nil
  end
end

local function milliseconds(value)
  local number = tonumber(value)
  return number and number >= 1 and number < 2 ^ 31 and number or nil
end

local function count(value)
  local number = tonumber(value)
  return number and number >= 1 and number % 1 == 0 and number or nil
end

local function ratio(value)
  local number = tonumber(value)
  return number and number >= 0 and number <= 1 and number or nil
end

local function list(value)
  local result = {}
  for item in value:gmatch "[^,%s]+" do
    if PROPAGATORS[item] then
      result[#result + 1] = item
    end
  end
  return #result > 0 and result or nil
end

local function url(value)
  return value:find "^https?://" and value or nil
end

local TEMPORALITIES = { cumulative = true, delta = true, lowmemory = true }
local AGGREGATIONS = {
  explicit_bucket_histogram = false,
  base2_exponential_bucket_histogram = true,
}

-- Whether a list of exporters has ours.
local function has_otlp(value)
  return ("," .. value:gsub("%s", "") .. ","):find(",otlp,", 1, true) ~= nil
end

-- Later ones win: what is said of one signal stands behind the general.
local RULES = {
  { "OTEL_RESOURCE_ATTRIBUTES", "trace.resource", pairs_of },
  { "OTEL_SERVICE_NAME", "trace.service_name" },
  { "OTEL_BSP_EXPORT_TIMEOUT", "trace.timeout", milliseconds },
  { "OTEL_BSP_SCHEDULE_DELAY", "trace.batch_delay", milliseconds },
  { "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "trace.batch_max", count },
  { "OTEL_BSP_MAX_QUEUE_SIZE", "trace.queue_max", count },
  { "OTEL_BLRP_EXPORT_TIMEOUT", "log.otlp.timeout", milliseconds },
  { "OTEL_BLRP_SCHEDULE_DELAY", "log.otlp.batch_delay", milliseconds },
  { "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "log.otlp.batch_max", count },
  { "OTEL_BLRP_MAX_QUEUE_SIZE", "log.otlp.queue_max", count },
  { "OTEL_TRACES_EXPORTER", "trace.exporter",
    known { otlp = true, none = true } },
  { "OTEL_TRACES_SAMPLER", "trace.sampler", known(SAMPLERS) },
  { "OTEL_TRACES_SAMPLER_ARG", "trace.ratio", ratio },
  { "OTEL_PROPAGATORS", "trace.propagators", list },
  { "OTEL_METRIC_EXPORT_INTERVAL", "metrics.otlp.interval", milliseconds },
  { "OTEL_METRIC_EXPORT_TIMEOUT", "metrics.otlp.timeout", milliseconds },
  { "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "metrics.otlp.temporality", known(TEMPORALITIES, string.lower) },
  { "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "metrics.exponential", function(value)
      return AGGREGATIONS[value:lower()]
    end },
}

-- What the exporters of all signals have, with and without its name.
local EXPORTER = {
  { "HEADERS", "headers", pairs_of },
  { "TIMEOUT", "timeout", milliseconds },
  { "PROTOCOL", "protocol", known(PROTOCOLS) },
  { "COMPRESSION", "compression", known(COMPRESSIONS) },
  { "CERTIFICATE", "certificate" },
  { "CLIENT_CERTIFICATE", "client_certificate" },
  { "CLIENT_KEY", "client_key" },
}

-- own, general: the setting that is true where an endpoint is given.
local function add_exporter(signal, section, own, general)
  local function add(...)
    RULES[#RULES + 1] = { ... }
  end
  add("OTEL_EXPORTER_OTLP_ENDPOINT", section .. ".endpoint", function(value)
    return url(value) and value:gsub("/+$", "") .. "/v1/" .. signal
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
RULES[#RULES + 1] = { "OTEL_LOGS_EXPORTER", "log.otlp.enabled",
  function(value)
    if value == "otlp" or value == "none" then
      return value == "otlp"
    end
    return nil
  end }
add_exporter("metrics", "metrics.otlp", "metrics.otlp.enabled")
RULES[#RULES + 1] = { "OTEL_METRICS_EXPORTER", "metrics.otlp.enabled",
  has_otlp }

M.names = { "OTEL_SDK_DISABLED" }
for _, rule in ipairs(RULES) do
  M.names[#M.names + 1] = rule[1]
end

--- Gives the settings that the variables stand for.
---@param get fun(name: string): string?
---@param set fun(path: string, value: any, name: string)
function M.apply(get, set)
  for _, rule in ipairs(RULES) do
    local name, path, convert, enables = unpack(rule)
    local text = get(name)
    local value
    if text and text ~= "" then
      value = (convert or tostring)(text)
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
  local disabled = get "OTEL_SDK_DISABLED"
  if disabled and truth(disabled) then
    set("trace.enabled", false, "OTEL_SDK_DISABLED")
    set("log.otlp.enabled", false, "OTEL_SDK_DISABLED")
    set("metrics.otlp.enabled", false, "OTEL_SDK_DISABLED")
  end
end

return M
