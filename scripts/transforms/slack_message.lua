--- A message for a chat's incoming webhook: one line on what happened.

-- Anything may be missing or null in what others send.
local function text_at(value, ...)
  for _, name in ipairs { ... } do
    value = type(value) == "table" and value[name] or nil
  end
  return type(value) == "string" and value or nil
end

local function subject(body)
  return text_at(body, "pull_request", "title")
    or text_at(body, "issue", "title")
    or text_at(body, "release", "name")
end

return function(event)
  local body = event.body
  local parts = { event.type }
  local where = text_at(body, "repository", "full_name")
  if where then
    parts[#parts + 1] = "in " .. where
  end
  local who = text_at(body, "sender", "login")
  if who then
    parts[#parts + 1] = "by " .. who
  end
  local what = subject(body)
  local text = table.concat(parts, " ")
  return { text = what and text .. ": " .. what or text }
end
