-- The official cases for JSON Schema 2020-12, where they are at hand.

local json = require "perigee.json"
local schema = require "perigee.schema"
local documents = dofile "spec/perigee/schema_remotes.lua"

local SUITE = "../shared/data/json-schema-2020-12"

-- Cases about what docs/schema.md says is not supported.
local LEFT_OUT = {
  ["vocabulary.json"] = "meta-schemas of one's own",
  ["format-assertion.json"] = "meta-schemas of one's own",
  ["cross-draft.json"] = "older drafts",
  ["dependencies-compatibility.json"] = "keywords of older drafts",
  ["refOfUnknownKeyword.json"] = "unknown keywords",
  ["unknownKeyword.json"] = "unknown keywords",
}

local function files()
  local list = {}
  local pipe = io.popen(("ls %s/*.json %s/optional/*.json 2>/dev/null")
    :format(SUITE, SUITE))
  for path in pipe:lines() do
    list[#list + 1] = path
  end
  pipe:close()
  return list
end

local function check_case(case, options)
  local validate = schema.compile(case.schema, options)
  for _, test in ipairs(case.tests) do
    local _, err = validate(test.data)
    local place = case.description .. ": " .. test.description
    assert(test.valid == (err == nil), place)
    if err then
      assert(#err.errors >= 1 and err.errors[1].detail ~= "is invalid",
        "no fault told: " .. place)
    end
  end
end

describe("the official suite", function()
  local found = files()
  if #found == 0 then
    pending("skipped: there is no " .. SUITE)
  end
  for _, path in ipairs(found) do
    local name = path:match "[^/]+$"
    local reason = LEFT_OUT[name]
    if reason then
      pending(name .. ": not supported: " .. reason)
    else
      it("passes " .. name, function()
        local file = assert(io.open(path, "rb"))
        local cases = assert(json.decode(file:read "*a"))
        file:close()
        for _, case in ipairs(cases) do
          check_case(case, { documents = documents })
        end
      end)
    end
  end
end)
