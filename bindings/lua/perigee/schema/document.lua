--- A schema's document: its resources, anchors and references.
---
--- Every subschema is a node {schema, resource, pointer}; a resource is what
--- `$id` begins. All faults of the document are collected before it is refused.

local json = require "perigee.json"
local formats = require "perigee.schema.formats"
local keywords = require "perigee.schema.keywords"
local metaschema = require "perigee.schema.metaschema"
local suggest = require "perigee.config.suggest"
local uri = require "perigee.schema.uri"

local DIALECT = "https://json-schema.org/draft/2020-12/schema"

local Document = {}
Document.__index = Document

local M = {}

local function escape(key)
  return (tostring(key):gsub("~", "~0"):gsub("/", "~1"))
end

function Document:fault(pointer, text, ...)
  local detail = select("#", ...) > 0 and text:format(...) or text
  self.faults[#self.faults + 1] = (pointer == "" and "/" or pointer)
    .. ": " .. detail
end

local function without_fragment(text)
  return (text:gsub("#.*$", ""))
end

function Document:add_resource(address, schema, pointer, asserts)
  local resource = {
    uri = address, root = schema, pointer = pointer,
    anchors = {}, dynamic = {}, nodes = {}, asserts = asserts,
  }
  if self.resources[address] and self.resources[address].root ~= schema then
    self:fault(pointer, "%q names two schemas", address)
  end
  self.resources[address] = resource
  self.ordered[#self.ordered + 1] = resource
  resource.number = #self.ordered
  return resource
end

-- Whether formats are asserted: as the options say, else where no dialect is
-- declared (the dialect's own rule is that they are annotations).
function Document:check_dialect(schema, pointer, asserts)
  local dialect = schema["$schema"]
  if dialect == nil then
    return asserts
  end
  if type(dialect) == "string" and dialect:gsub("#$", "") ~= DIALECT then
    self:fault(pointer .. "/$schema", "%q is not JSON Schema 2020-12", dialect)
  end
  return self.options.formats == true
end

function Document:enter(schema, resource, pointer)
  local id = schema["$id"]
  if type(id) ~= "string" then
    return resource
  end
  if id:find("#.") then
    self:fault(pointer .. "/$id", "must not have a fragment")
  end
  local address = without_fragment(uri.resolve(resource.uri, id))
  if resource.root == schema then
    self.resources[resource.uri] = nil
    resource.uri = address
    self.resources[address] = resource
    return resource
  end
  local known = self.resources[address]
  if known and known.root == schema then
    return known
  end
  return self:add_resource(address, schema, pointer, resource.asserts)
end

function Document:check_format(node, value)
  if type(value) ~= "string" then
    self:fault(node.pointer .. "/format", "must be a string")
  elseif node.resource.asserts and not formats.checks[value] then
    self:fault(node.pointer .. "/format", "has no format %q", value)
  end
end

function Document:unknown(node, key)
  local known = {}
  for name in pairs(keywords.shapes) do
    known[#known + 1] = name
  end
  local near = type(key) == "string" and suggest.nearest(key, known)
  self:fault(node.pointer, "unknown keyword %q%s", tostring(key),
    near and (" (did you mean %q?)"):format(near) or "")
end

function Document:scan_each(node, key, value, is_list)
  local at = node.pointer .. "/" .. escape(key)
  if type(value) ~= "table" or is_list and not keywords.is_list(value) then
    self:fault(at, is_list and "must be a list of schemas"
      or "must be schemas by name")
    return
  end
  for name, schema in pairs(value) do
    local last = is_list and name - 1 or name
    self:scan(schema, node.resource, at .. "/" .. escape(last))
  end
end

function Document:scan_keyword(node, key, value)
  local shape = keywords.shapes[key]
  if not shape then
    self:unknown(node, key)
  elseif shape == "schema" then
    self:scan(value, node.resource, node.pointer .. "/" .. escape(key))
  elseif shape == "schemas" then
    self:scan_each(node, key, value, true)
  elseif shape == "format" then
    self:check_format(node, value)
  else
    local fault = keywords.checks[shape] and keywords.checks[shape](value)
    if fault then
      self:fault(node.pointer .. "/" .. escape(key), fault)
    elseif shape == "map" or shape == "patterns" then
      self:scan_each(node, key, value, false)
    end
  end
end

local function add_anchors(document, node)
  local schema, resource = node.schema, node.resource
  for _, name in ipairs { "$anchor", "$dynamicAnchor" } do
    local anchor = schema[name]
    if type(anchor) == "string" then
      if not anchor:find("^[%a_][%w._-]*$") then
        document:fault(node.pointer .. "/" .. name, "is no name")
      end
      resource.anchors[anchor] = node
      if name == "$dynamicAnchor" then
        resource.dynamic[anchor] = node
      end
    end
  end
end

--- Looks through a schema and all below it; gives its node (true and false are
--- their own).
function Document:scan(schema, resource, pointer)
  if type(schema) == "boolean" then
    return schema
  end
  if type(schema) ~= "table" or schema[1] ~= nil or json.is_array(schema) then
    self:fault(pointer, "must be a schema: an object, true or false")
    return true
  end
  if resource.nodes[schema] then
    return resource.nodes[schema]
  end
  local asserts = resource.asserts
  resource = self:enter(schema, resource, pointer)
  if resource.nodes[schema] then
    return resource.nodes[schema]
  end
  resource.asserts = self:check_dialect(schema, pointer, asserts)
  local node = { schema = schema, resource = resource, pointer = pointer }
  resource.nodes[schema] = node
  add_anchors(self, node)
  for key, value in pairs(schema) do
    self:scan_keyword(node, key, value)
  end
  return node
end

function Document:load(address)
  local text = metaschema[address]
  local schema = text and json.decode(text)
  for name, other in pairs(self.options.documents or {}) do
    if without_fragment(name) == address then
      schema = other
    end
  end
  if schema == nil then
    return nil
  end
  local resource = self:add_resource(address, schema, address, not text)
  self:scan(schema, resource, address)
  self.resources[address] = self.resources[address] or resource
  return resource
end

-- The node that a JSON pointer leads to, from a resource's root; `$id`s on the
-- way change the resource.
function Document:walk(resource, pointer)
  local value, at = resource.root, resource.pointer
  for token in pointer:gmatch("/([^/]*)") do
    token = token:gsub("~1", "/"):gsub("~0", "~")
    if type(value) ~= "table" then
      return nil
    end
    if type(value["$id"]) == "string" and value ~= resource.root then
      resource = self:enter(value, resource, at)
    end
    if value[1] ~= nil and token:find("^%d+$") then
      value = value[tonumber(token) + 1]
    else
      value = value[token]
    end
    at = at .. "/" .. escape(token)
  end
  if value == nil then
    return nil
  end
  return self:scan(value, resource, at) -- or what it gave before
end

--- The node that a `$ref` or `$dynamicRef` of node leads to; and, for a dynamic
--- one that stays so, the anchor's name.
function Document:resolve(node, reference)
  local target = uri.resolve(node.resource.uri, reference)
  local address = without_fragment(target)
  local fragment = uri.unescape(target:match("#(.*)$") or "")
  local resource = self.resources[address] or self:load(address)
  local found
  if resource and (fragment == "" or fragment:sub(1, 1) == "/") then
    found = self:walk(resource, fragment)
  elseif resource then
    found = resource.anchors[fragment]
  end
  if found == nil then
    self:fault(node.pointer, "%q leads nowhere", reference)
    return true
  end
  return found, resource.dynamic[fragment] and fragment or nil
end

function M.new(definition, options)
  local self = setmetatable({
    resources = {}, ordered = {}, faults = {}, options = options,
  }, Document)
  local root = self:add_resource("", definition, "",
    options.formats ~= false)
  self.root = self:scan(definition, root, "")
  return self
end

return M
