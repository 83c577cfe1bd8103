--- Headers for every answer: nothing here is to be framed, sniffed or kept.
--- Answers of the API hold other people's payloads.

local HEADERS = {
  { "x-content-type-options", "nosniff" },
  { "x-frame-options", "DENY" },
  { "referrer-policy", "no-referrer" },
  { "cache-control", "no-store" },
}

local function add(status, body, headers)
  if type(status) ~= "number" then
    return status, body, headers
  end
  headers = headers or {}
  for _, pair in ipairs(HEADERS) do
    headers[pair[1]] = headers[pair[1]] or pair[2]
  end
  return status, body, headers
end

return function(req, next_)
  return add(next_(req))
end
