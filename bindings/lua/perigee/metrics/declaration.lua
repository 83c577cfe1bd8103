--- Metrics: what may be declared. What is wrong is raised without a place:
--- perigee.metrics knows whose it is.

local config = require "perigee.config"
local core = require "perigee.core.metrics"

local M = {}

local MERGE = { sum = 0, min = 1, max = 2, last = 3 } -- as peri_cells_merge
local DEFAULT_BUCKETS = {
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
}
local RESERVED = {
  "^perigee_", "^process_", "^http_server_", "^http_client_",
  "^db_client_", "^messaging_",
}
local COMPAT_RESERVED = { "^nodejs_", "^http_request_duration_seconds" }

local huge = math.huge

local function default_exponential()
  local settings = config.metrics
  return settings and settings.exponential or false
end

local OPTIONS = {
  counter = { name = true, help = true, labels = true },
  gauge = { name = true, help = true, labels = true, merge = true },
  histogram = { name = true, help = true, labels = true, buckets = true,
    exponential = true },
}

local function check_name(name)
  if type(name) ~= "string" or not name:find "^[%a_:][%w_:]*$" then
    error(("%q is no name of a metric: letters, digits, _ and :")
      :format(tostring(name)), 0)
  elseif #name > core.name_max then
    error(("the name %s is over %d bytes"):format(name, core.name_max), 0)
  end
end

local function check_reserved(name)
  for _, pattern in ipairs(RESERVED) do
    if name:find(pattern) then
      error(("the name %s is the host's own"):format(name), 0)
    end
  end
  local compat = (config.metrics or {}).compat == "prom-client"
  for _, pattern in ipairs(compat and COMPAT_RESERVED or {}) do
    if name:find(pattern) then
      error(("the name %s is the host's own, by metrics.compat"):format(name),
        0)
    end
  end
end

local function is_list(value)
  local count = 0
  if type(value) ~= "table" then
    return false
  end
  for _ in pairs(value) do
    count = count + 1
  end
  return count == #value
end

local function check_labels(kind, labels)
  local seen = {}
  if not is_list(labels) or #labels > core.labels_max then
    error(("labels: a list of up to %d names expected")
      :format(core.labels_max), 0)
  end
  for _, label in ipairs(labels) do
    if type(label) ~= "string" or not label:find "^[%a_][%w_]*$"
      or label:find "^__" or #label > core.name_max then
      error(("%q is no name of a label"):format(tostring(label)), 0)
    elseif seen[label] or (kind == "histogram" and label == "le") then
      error(("the label %s is %s"):format(label,
        seen[label] and "there twice" or "the histogram's own"), 0)
    end
    seen[label] = true
  end
end

local function check_buckets(buckets)
  if type(buckets) ~= "table" or #buckets == 0
    or #buckets > core.bounds_max then
    error(("buckets: a list of 1 to %d numbers expected")
      :format(core.bounds_max), 0)
  end
  for i, bound in ipairs(buckets) do
    if type(bound) ~= "number" or bound ~= bound or bound == huge
      or bound == -huge or (i > 1 and bound <= buckets[i - 1]) then
      error("buckets: finite numbers that rise expected", 0)
    end
  end
end

--- The upper bounds of a histogram; of others none.
---@param kind string
---@param options table
---@return number[]
function M.buckets(kind, options)
  return kind == "histogram" and (options.buckets or DEFAULT_BUCKETS) or {}
end

--- How several workers' values become one, as core.declare takes it.
---@param options table
---@return integer
function M.merge(options)
  return MERGE[options.merge or "sum"]
end

--- How many exponential buckets a histogram has besides the others.
---@param kind string
---@param options table
---@return integer
function M.exponential(kind, options)
  local wanted = options.exponential
  if kind ~= "histogram" or wanted == false
    or wanted == nil and not default_exponential() then
    return 0
  end
  return type(wanted) == "table" and wanted.max_buckets or core.exponential
end

local function check_exponential(wanted)
  local max = type(wanted) == "table" and wanted.max_buckets
  if type(wanted) == "table" then
    for key in pairs(wanted) do
      if key ~= "max_buckets" then
        error(("exponential has no option %q"):format(tostring(key)), 0)
      end
    end
  elseif wanted ~= nil and type(wanted) ~= "boolean" then
    error("exponential: true, false or { max_buckets = n } expected", 0)
  end
  if max and (type(max) ~= "number" or max % 1 ~= 0
    or max < core.exponential_min or max > core.exponential_max) then
    error(("exponential: max_buckets is an integer from %d to %d")
      :format(core.exponential_min, core.exponential_max), 0)
  end
end

---@param kind string # "counter", "gauge", "histogram"
---@param options table
---@param own boolean? # names that applications cannot take
function M.check(kind, options, own)
  if type(options) ~= "table" then
    error("a table expected: " .. kind .. "{ name = ... }", 0)
  end
  for key in pairs(options) do
    if not OPTIONS[kind][key] then
      error(("a %s has no option %q"):format(kind, tostring(key)), 0)
    end
  end
  check_name(options.name)
  if not own then
    check_reserved(options.name)
  end
  if options.help ~= nil and (type(options.help) ~= "string"
    or #options.help > core.help_max or options.help:find "%z") then
    error(("help: a text of up to %d bytes expected")
      :format(core.help_max), 0)
  end
  check_labels(kind, options.labels or {})
  if kind == "histogram" then
    check_buckets(options.buckets or DEFAULT_BUCKETS)
    check_exponential(options.exponential)
  elseif options.merge ~= nil and not MERGE[options.merge] then
    error('merge: "sum", "min", "max" or "last" expected', 0)
  end
end

--- What two declarations of a name must have in common.
---@param kind string
---@param options table
---@return string
function M.form(kind, options)
  return table.concat({
    kind, options.help or "", options.merge or "sum",
    table.concat(options.labels or {}, ","),
    table.concat(M.buckets(kind, options), ","),
    M.exponential(kind, options),
  }, "\n")
end

return M
