--- Faults of an application, for people and for machines.

local json = require "perigee.json"

local M = {}

-- "scripts/a.lua:3: what" -> file, line, what; "config/a.lua: what" -> file and
-- what; "flag --port: what" -> all of it.
local function parse(text)
  local first, more = text:match "^([^\n]*)\n?(.*)$"
  local file, line, message = first:match "^([^:]+%.%w+):(%d+): (.*)$"
  if not file then
    file, line, message = first:match "^(%.env[%w.]*):(%d+): (.*)$"
  end
  if not file then
    file, message = first:match "^([^:%s]+%.lua): (.*)$"
  end
  local fault = { message = message or first }
  if file then
    fault.file, fault.line = file, tonumber(line)
  end
  if more ~= "" then
    fault.detail = more
  end
  return fault
end

--- Tells of all faults. Returns the exit code: 78, or 0 when there are none.
---@param list string[]
---@param as_json boolean
---@return integer exit_code
function M.report(list, as_json)
  if as_json then
    local parsed = {}
    for i, text in ipairs(list) do
      parsed[i] = parse(text)
    end
    io.stdout:write(json.encode { ok = #list == 0,
      faults = json.array(parsed) }, "\n")
  elseif #list > 0 then
    io.stderr:write(table.concat(list, "\n"), "\n", ("perigee: %d %s\n"):format(
      #list, #list == 1 and "fault" or "faults"))
  end
  return #list == 0 and 0 or 78
end

--- Lines as bindings/stage.h gives them; one that begins with a blank goes on
--- with the line before it.
---@param text string
---@return string[]
function M.split(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    if line:find "^%s" and #list > 0 then
      list[#list] = list[#list] .. "\n" .. line
    else
      list[#list + 1] = line
    end
  end
  return list
end

--- For C, when the configuration or a script's syntax is wrong already.
return setmetatable(M, {
  __call = function(_, args)
    return M.report(M.split(args.text), args.json)
  end,
})
