--- What the measured routes answer.

local M = {}

function M.plaintext()
  return "Hello, World!"
end

function M.json()
  return { message = "Hello, World!" }
end

function M.user(req)
  local id = req.params.id
  return { id = id, name = "user " .. id }
end

function M.echo(req)
  return { hello = req.body_json.name }
end

function M.other()
  return { other = true }
end

return M
