--- perigee new NAME: an application that runs and whose test passes.

local core = require "perigee.core.cli"

local ROOT = "templates/app/"
-- The tools that build the program pass over dot files.
local DOTTED = { gitignore = ".gitignore", ["luarc.json"] = ".luarc.json" }
local NAME_MAX = 64

local function fail(format, ...)
  io.stderr:write("perigee: ", format:format(...), "\n")
end

local function write(path, text)
  core.make_folders(path)
  local file, why = io.open(path, "wb")
  if not file then
    error(why, 0)
  end
  file:write(text)
  if not file:close() then
    error(path .. ": cannot be written", 0)
  end
end

local function write_all(folder, name)
  for _, source in ipairs(core.embedded(ROOT)) do
    local path = source:sub(#ROOT + 1)
    local text = core.embedded_text(source):gsub("{{name}}", name)
    write(folder .. "/" .. (DOTTED[path] or path), text)
  end
  core.make_folders(folder .. "/public/x")
  core.write_library(folder)
end

---@param args {words: string[]}
---@return integer exit_code
return function(args)
  local folder = args.words[1]
  if not folder then
    fail "new needs a name: perigee new shop"
    return 2
  end
  folder = folder:gsub("(.)/+$", "%1")
  local name = folder:match "([^/]*)$"
  if not name:find "^%a[%w_-]*$" or #name > NAME_MAX then
    fail('"%s" is no name for an application: a letter, then letters, digits, '
      .. "_ and -, at most %d", name, NAME_MAX)
    return 2
  end
  local state = core.folder_state(folder)
  if state == "occupied" then
    fail("%s is there already and is not empty", folder)
    return 1
  end
  local ok, why = pcall(write_all, folder, name)
  if not ok then
    fail("%s", tostring(why))
    return 1
  end
  io.stdout:write(("%s is there. Now:\n\n  cd %s\n  perigee dev\n\nand "
    .. "http://127.0.0.1:3000/notes answers; `perigee test` runs its specs.\n")
    :format(folder, folder))
  return 0
end
