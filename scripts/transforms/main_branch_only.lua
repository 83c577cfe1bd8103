--- Lets pushes to the default branch through and nothing else.

return function(event)
  local body = event.body
  if event.type ~= "push" or type(body) ~= "table" then
    return nil
  end
  local branch = body.repository and body.repository.default_branch or "main"
  if body.ref ~= "refs/heads/" .. branch then
    return nil
  end
  return body
end
