--- What a setting's text must be. Each gives what is wrong with it, or nil; for
--- `check` of perigee.config.types.

local M = {}

--- A text that may not be empty.
---@param value string
---@return string? why
function M.empty(value)
  return #value == 0 and "must not be empty" or nil
end

local function is_ipv4(text)
  local parts = { text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
  for _, part in ipairs(parts) do
    if tonumber(part) > 255 or #part > 3 then return false end
  end
  return #parts == 4
end

local function is_ipv6(text)
  return text:find "^[%x:.]+$" ~= nil and text:find(":", 1, true) ~= nil
    and not text:find(":::", 1, true)
end

--- An address, or a block of them.
---@param value string
---@return string? why
function M.not_a_network(value)
  local address, bits = value:match "^([^/]+)/?(%d*)$"
  local width = address and (is_ipv4(address) and 32
    or is_ipv6(address) and 128)
  if not width or value:sub(-1) == "/" or (tonumber(bits) or 0) > width then
    return ('must be an address or a network ("10.0.0.0/8"), not "%s"')
      :format(value)
  end
  return nil
end

--- C's settings hold no line breaks: PEM itself would be lost on the way, and
--- with it that TLS is wanted.
---@param value string
---@return string? why
function M.not_a_path(value)
  if value == "" or value:find "[%c]" or value:find("-----", 1, true) then
    return "must be the path of a PEM file"
  end
  return nil
end

--- A host name, or all below a domain.
---@param value string
---@return string? why
function M.not_a_host(value)
  local name = value:gsub("^%*%.", "")
  if not name:find "^[%w_-][%w_.-]*$" then
    return ('must be a host name, "example.org" or "*.example.org", not "%s"')
      :format(value)
  end
  return nil
end

--- A stream, a path, or one of the schemes of a socket.
---@param value string
---@return string? why
function M.not_a_destination(value)
  local scheme, rest = value:match "^(%l[%l%d-]*):(.*)$"
  if value == "" or value:find "[%c]" then
    return "must not be empty"
  end
  if not scheme or scheme == "syslog" and rest == "" then
    return nil
  end
  if scheme == "syslog" and rest:find "^//[^/]" then
    local host, number = rest:match "^//%[?([^%]/]-)%]?:?(%d*)$"
    if not host or host == "" or (tonumber(number) or 1) > 65535 then
      return "must be syslog://HOST:PORT"
    end
    return nil
  end
  if scheme ~= "syslog" and scheme ~= "unix" and scheme ~= "unix-dgram" then
    return ('must be stdout, stderr, a file, syslog[:PATH], syslog://HOST:PORT,'
      .. ' unix:PATH or unix-dgram:PATH, not "%s"'):format(value)
  end
  local path = rest:gsub("^//", "")
  return (path == "" or #path > 107) and "must name a socket's path" or nil
end

--- For a URL of one of the schemes.
---@param ... string
---@return fun(value: string): string? check
function M.url(...)
  local schemes = { ... }
  return function(value)
    local scheme = value:match "^([%a][%w+.-]*):"
    for _, known in ipairs(schemes) do
      if scheme == known then return nil end
    end
    return "must be a URL that begins with "
      .. table.concat(schemes, ": or ") .. ":"
  end
end

return M
