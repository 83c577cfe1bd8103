--- What a test or a spec file has made, undone when it ends, last first.

local M = {}

local scopes = {} -- the file's, then the test's

function M.enter()
  scopes[#scopes + 1] = {}
end

--- Undoes what was added since enter(); gives what went wrong, or nil.
---@return string? faults
function M.leave()
  local undos = table.remove(scopes)
  local faults = {}
  for i = #undos, 1, -1 do
    local ok, err = pcall(undos[i])
    if not ok then
      faults[#faults + 1] = tostring(err)
    end
  end
  return faults[1] and table.concat(faults, "\n") or nil
end

--- Has undo called at the end of the test, or of the file when no test runs.
---@param undo fun()
function M.add(undo)
  local scope = scopes[#scopes]
  if not scope then
    error("perigee.test works inside of `perigee test` only", 3)
  end
  scope[#scope + 1] = undo
end

--- As add, for what all tests of a file share.
---@param undo fun()
function M.add_to_file(undo)
  if not scopes[1] then
    error("perigee.test works inside of `perigee test` only", 3)
  end
  table.insert(scopes[1], undo)
end

return M
