--- perigee repl: lines of Lua, with the application loaded and its loop running
--- while a line is awaited.

local console = require "perigee.cli.console"
local core = require "perigee.core.cli"
local line = require "perigee.core.line"

local function is_incomplete(why)
  return why ~= nil and why:find("'<eof>'", 1, true) ~= nil
end

-- Text that compiles, read line by line; nil at the end of the input.
local function read_chunk(prompt)
  local text = line.read(prompt and "> " or nil)
  if not text then
    return nil
  end
  while true do
    local chunk, why = console.compile(text, "=repl")
    if chunk or not is_incomplete(why) then
      return text, chunk, why
    end
    local more = line.read(prompt and ">> " or nil)
    if not more then
      return text, nil, why
    end
    text = text .. "\n" .. more
  end
end

local function print_values(ok, ...)
  if not ok then
    io.stderr:write(tostring((...)), "\n")
    return false
  end
  local texts = {}
  for i = 1, select("#", ...) do
    texts[i] = console.show((select(i, ...)))
  end
  if #texts > 0 then
    io.stdout:write(table.concat(texts, "\t"), "\n")
    io.stdout:flush()
  end
  return true
end

---@return integer exit_code  # 1 when input that is no terminal had an error
return function()
  local prompt = core.isatty(0)
  local failed = false
  local ok, faults = console.load()
  if not ok then
    io.stderr:write(faults, "\n")
    return 78
  end
  while true do
    local text, chunk, why = read_chunk(prompt)
    if not text then
      break
    end
    if text:find "^%s*$" or text:find "^%s*%-%-[^\n]*$" then
      chunk = function() end
    end
    if not chunk then
      io.stderr:write(why, "\n")
      failed = true
    elseif not print_values(console.run(chunk)) then
      failed = true
    end
  end
  if prompt then
    io.stdout:write "\n"
    return 0
  end
  return failed and 1 or 0
end
