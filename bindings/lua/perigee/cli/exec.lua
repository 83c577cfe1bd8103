--- perigee exec 'LUA': evaluates it with the application loaded and prints the
--- values, separated by tabs.

local console = require "perigee.cli.console"

local function fail(text, code)
  io.stderr:write(text, "\n")
  return code
end

local function print_values(ok, ...)
  if not ok then
    return fail(tostring((...)), 1)
  end
  local count = select("#", ...)
  local texts = {}
  for i = 1, count do
    texts[i] = console.show((select(i, ...)))
  end
  if count > 0 then
    io.stdout:write(table.concat(texts, "\t"), "\n")
  end
  return 0
end

---@param text string
---@return integer exit_code
return function(text)
  local chunk, why = console.compile(text, "=exec")
  if not chunk then
    return fail(why, 1)
  end
  local ok, faults = console.load()
  if not ok then
    return fail(faults, 78)
  end
  return print_values(console.run(chunk))
end
