--- URI references: splitting and resolving, RFC 3986, section 5.

local M = {}

---@class perigee.schema.Uri
---@field scheme string?
---@field authority string?
---@field path string
---@field query string?
---@field fragment string?

---@param text string
---@return perigee.schema.Uri
function M.split(text)
  local uri = {}
  local rest = text
  local at = rest:find("#", 1, true)
  if at then
    uri.fragment = rest:sub(at + 1)
    rest = rest:sub(1, at - 1)
  end
  at = rest:find("?", 1, true)
  if at then
    uri.query = rest:sub(at + 1)
    rest = rest:sub(1, at - 1)
  end
  local scheme, behind = rest:match("^(%a[%w+.-]*):(.*)$")
  if scheme then
    uri.scheme, rest = scheme:lower(), behind
  end
  local authority, path = rest:match("^//([^/]*)(.*)$")
  if authority then
    uri.authority, rest = authority, path
  end
  uri.path = rest
  return uri
end

---@param uri perigee.schema.Uri
---@return string
function M.join(uri)
  return (uri.scheme and uri.scheme .. ":" or "")
    .. (uri.authority and "//" .. uri.authority or "")
    .. uri.path
    .. (uri.query and "?" .. uri.query or "")
    .. (uri.fragment and "#" .. uri.fragment or "")
end

local function remove_dots(path)
  local out = {}
  local absolute = path:sub(1, 1) == "/"
  local last
  for segment in (path .. "/"):gmatch("([^/]*)/") do
    last = segment
    if segment == ".." then
      out[#out] = nil
    elseif segment ~= "." and segment ~= "" then
      out[#out + 1] = segment
    end
  end
  local text = (absolute and "/" or "") .. table.concat(out, "/")
  local folder = last == "" or last == "." or last == ".."
  if folder and text:sub(-1) ~= "/" and text ~= "" then
    text = text .. "/"
  end
  return text
end

local function merged_path(base, reference)
  if reference.path:sub(1, 1) == "/" then
    return remove_dots(reference.path)
  end
  if base.authority and base.path == "" then
    return remove_dots("/" .. reference.path)
  end
  return remove_dots((base.path:match("^.*/") or "") .. reference.path)
end

--- The reference seen from base; the fragment is the reference's.
---@param base string
---@param reference string
---@return string
function M.resolve(base, reference)
  local r = M.split(reference)
  if r.scheme then
    return reference
  end
  local b = M.split(base)
  r.scheme = b.scheme
  if r.authority then
    return M.join(r)
  end
  r.authority = b.authority
  if r.path == "" then
    r.path = b.path
    r.query = r.query or b.query
  else
    r.path = merged_path(b, r)
  end
  return M.join(r)
end

--- `%41` becomes `A`.
---@param text string
---@return string
function M.unescape(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

return M
