-- perigee.json beside cjson, perigee.schema, perigee.crypto: nanoseconds a call.
--     build/release/perigee exec 'dofile "tests/bench/micro/codec.lua"'

local cjson = require "cjson"
local crypto = require "perigee.crypto"
local json = require "perigee.json"
local schema = require "perigee.schema"

local clock = os.clock

local function ns(fn, argument)
  local best = math.huge
  local count = 50
  repeat -- long enough for the clock
    count = count * 2
    local begun = clock()
    for _ = 1, count do fn(argument) end
  until clock() - begun > 0.02
  for _ = 1, 7 do
    local begun = clock()
    for _ = 1, count do fn(argument) end
    best = math.min(best, (clock() - begun) / count * 1e9)
  end
  return best
end

local function url(i)
  return "https://api.example.com/repos/owner/name/things/" .. i
end

local function webhook()
  local value = { action = "opened", number = 7, fork = false }
  for _, name in ipairs { "repository", "sender", "issue", "base" } do
    local part = { id = 186853002, node_id = "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=",
      title = 'It says "done"\nand is not', labels = { "bug", "urgent" },
      private = false, milestone = json.null,
      created_at = "2019-05-15T15:19:25Z" }
    for i = 1, 30 do
      part["thing_" .. i .. "_url"] = url(i)
    end
    value[name] = part
  end
  return json.encode(value)
end

local texts = {
  { "small", '{"name":"lua"}' },
  { "user", '{"id":42,"name":"user-42","email":"u@example.com",'
    .. '"tags":["a","b"],"score":1.25,"ok":true}' },
  { "webhook", webhook() },
  { "1000 integers", "[" .. ("12345,"):rep(999) .. "1]" },
  { "1000 decimals", "[" .. ("0.1234567,"):rep(999) .. "1.5]" },
  { "long text", json.encode(("hello world "):rep(200)) },
}
print(("%-16s %8s %9s %9s %9s %9s"):format("json", "bytes", "decode", "cjson",
  "encode", "cjson"))
for _, case in ipairs(texts) do
  local text = case[2]
  local value, other = json.decode(text), cjson.decode(text)
  print(("%-16s %8d %9.0f %9.0f %9.0f %9.0f"):format(case[1], #text,
    ns(json.decode, text), ns(cjson.decode, text),
    ns(json.encode, value), ns(cjson.encode, other)))
end

local validate = schema.compile {
  type = "object", required = { "name" }, additionalProperties = false,
  properties = {
    name = { type = "string", minLength = 1, maxLength = 50 },
    age = { type = "integer", minimum = 0 },
    tags = { type = "array", items = { type = "string" } },
    slug = { type = "string", pattern = "^[a-z0-9-]+$" },
  },
}
local sink
local values = {
  { "name", { name = "lua" } },
  { "four members", { name = "lua", age = 5, tags = { "a", "b" } } },
  { "with a pattern", { name = "lua", slug = "some-slug-12" } },
  { "a fault", { name = 1 } },
}
for i, case in ipairs(values) do
  local list = {}
  for n = 1, 64 do -- several, so that nothing is hoisted out of the loop
    list[n] = json.decode(json.encode(case[2]))
  end
  print(("schema, %-18s %9.0f"):format(case[1], ns(function()
    for n = 1, 64 do sink = validate(list[n]) end
  end) / 64))
  assert(i == #values or sink)
end

local data = ("x"):rep(1000)
for _, case in ipairs {
  { "sha256_hex, 1 KB", function() crypto.sha256_hex(data) end },
  { "hmac sha256, 1 KB", function() crypto.hmac("sha256", "key", data) end },
  { "uuid.v4", function() crypto.uuid.v4() end },
  { "uuid.v7", function() crypto.uuid.v7() end },
  { "base64, 1 KB", function() crypto.base64.encode(data) end },
} do
  print(("crypto, %-18s %9.0f"):format(case[1], ns(case[2])))
end
