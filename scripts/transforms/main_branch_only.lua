--- Lets pushes to the default branch through and nothing else.

return function(event)
  local body = event.body
  if event.type ~= "push" or type(body) ~= "table" then
    return nil
  end
  local repository = body.repository
  local branch = type(repository) == "table" and repository.default_branch
  if type(branch) ~= "string" then
    branch = "main"
  end
  return body.ref == "refs/heads/" .. branch and body or nil
end
