--- The shape of `app` in config/*.lua. Wrong values stop the start.

local duration = {
  anyOf = {
    { type = "string", pattern = "^[0-9]+(ms|s|m|h)$" },
    { type = "integer", minimum = 1 },
  },
}

local function count(maximum)
  return { type = "integer", minimum = 1, maximum = maximum }
end

local function section(properties)
  local required = {}
  for name in pairs(properties) do
    required[#required + 1] = name
  end
  table.sort(required)
  return {
    type = "object",
    properties = properties,
    required = required,
    additionalProperties = false,
  }
end

local app = section {
  pages = section {
    limit = count(1000),
    limit_max = count(1000),
  },
  intake = section {
    body_max = {
      anyOf = {
        { type = "string", pattern = "^[0-9]+(b|kb|mb)?$" },
        { type = "integer", minimum = 1 },
      },
    },
    tolerance_s = count(86400),
    key_max = count(1024),
    transforms_wait = duration,
    headers = {
      type = "array",
      items = { type = "string", pattern = "^[a-z0-9-]+$" },
      maxItems = 50,
    },
  },
  transforms = section {
    timeout = duration,
    payload_max = count(64 * 1024 * 1024),
  },
  delivery = section {
    attempts = count(100),
    backoff = duration,
    retry_after_max = duration,
    timeout = duration,
    concurrency = count(10000),
    targets = { type = "string" },
    deny_private = { type = "boolean" },
    breaker = {
      type = "object",
      properties = {
        failures = count(1000000),
        window = duration,
        open = duration,
        probes = count(1000),
      },
      additionalProperties = false,
    },
    excerpt = count(65536),
  },
  retention = section {
    events_h = count(10 * 365 * 24),
    keys_h = count(10 * 365 * 24),
    interval = duration,
    batch = count(10000),
  },
}

app.properties.token = { type = "string", minLength = 16 }

return app
