--- Documents for the official suite's cases that refer to others: the least
--- that each case needs, by URI below BASE.

local json = require "perigee.json"

local BASE = "http://localhost:1234/draft2020-12/"

local TEXTS = {
  ["integer.json"] = '{"type":"integer"}',
  ["subSchemas.json"] = [[{"$defs":{"integer":{"type":"integer"},
    "refToInteger":{"$ref":"#/$defs/integer"}}}]],
  ["locationIndependentIdentifier.json"] = [[{"$defs":{
    "refToInteger":{"$ref":"#foo"},
    "A":{"$anchor":"foo","type":"integer"}}}]],
  ["baseUriChange/folderInteger.json"] = '{"type":"integer"}',
  ["baseUriChangeFolder/folderInteger.json"] = '{"type":"integer"}',
  ["baseUriChangeFolderInSubschema/folderInteger.json"] =
    '{"type":"integer"}',
  ["name-defs.json"] = [[{"type":"string","$defs":{"orNull":{
    "anyOf":[{"type":"null"},{"$ref":"#"}]}}}]],
  ["ref-and-defs.json"] = [[{"$ref":"#/$defs/inner",
    "$id":"http://localhost:1234/draft2020-12/ref-and-defs.json",
    "$defs":{"inner":{"properties":{"bar":{"type":"string"}}}}}]],
  ["nested/foo-ref-string.json"] =
    '{"type":"object","properties":{"foo":{"$ref":"string.json"}}}',
  ["nested/string.json"] = '{"type":"string"}',
  ["different-id-ref-string.json"] = [[{"$ref":"#/$defs/bar",
    "$id":"http://localhost:1234/real-id-ref-string.json",
    "$defs":{"bar":{"type":"string"}}}]],
  ["urn-ref-string.json"] = [[{"$ref":"#/$defs/bar",
    "$id":"urn:uuid:feebdaed-ffff-0000-ffff-0000deadbeef",
    "$defs":{"bar":{"type":"string"}}}]],
  ["nested-absolute-ref-to-string.json"] = [[{
    "$ref":"http://localhost:1234/the-nested-id.json","$defs":{"bar":{
    "$id":"http://localhost:1234/the-nested-id.json","type":"string"}}}]],
  ["detached-ref.json"] = [[{"$defs":{"foo":{"$ref":"#detached"},
    "detached":{"$anchor":"detached","type":"integer"}}}]],
  ["detached-dynamicref.json"] = [[{"$defs":{
    "foo":{"$dynamicRef":"#detached"},
    "detached":{"$dynamicAnchor":"detached","type":"integer"}}}]],
  ["tree.json"] = [[{"$dynamicAnchor":"node","type":"object",
    "$id":"http://localhost:1234/draft2020-12/tree.json",
    "properties":{"data":true,"children":{"type":"array",
    "items":{"$dynamicRef":"#node"}}}}]],
  ["extendible-dynamic-ref.json"] = [[{"type":"object",
    "$id":"http://localhost:1234/draft2020-12/extendible-dynamic-ref.json",
    "properties":{"elements":{"type":"array",
    "items":{"$dynamicRef":"#elements"}}},"required":["elements"],
    "additionalProperties":false,
    "$defs":{"elements":{"$dynamicAnchor":"elements"}}}]],
}

local documents = {}
for name, text in pairs(TEXTS) do
  documents[BASE .. name] = assert(json.decode(text))
end
return documents
