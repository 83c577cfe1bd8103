--- A message for a chat's incoming webhook: one line on what happened.

local function subject(body)
  local item = body.pull_request or body.issue or body.release
  return type(item) == "table" and (item.title or item.name) or nil
end

return function(event)
  local body = type(event.body) == "table" and event.body or {}
  local who = type(body.sender) == "table" and body.sender.login
  local where = type(body.repository) == "table" and body.repository.full_name
  local parts = { event.type }
  if where then
    parts[#parts + 1] = "in " .. where
  end
  if who then
    parts[#parts + 1] = "by " .. who
  end
  local what = subject(body)
  local text = table.concat(parts, " ")
  return { text = what and text .. ": " .. what or text }
end
