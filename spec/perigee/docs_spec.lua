-- The Lua in README.md and docs/: every block compiles, and what it names of
-- the library is there.

local OTHER_NAMES = { errors = "error" } -- a module's usual variable, else its name

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function pages()
  local list = { "README.md" }
  local files = assert(io.popen "ls docs/*.md")
  for path in files:lines() do list[#list + 1] = path end
  files:close()
  return list
end

-- { place = "docs/http.md:70", text = ... } for each block of Lua in a page.
local function blocks(path)
  local list, lines, number = {}, nil, 0
  for line in (read(path) .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if lines and line:find "^%s*```" then
      list[#list + 1] = { place = lines.place, text = table.concat(lines, "\n") }
      lines = nil
    elseif lines then
      lines[#lines + 1] = line
    elseif line:find "^%s*```lua" then
      lines = { place = path .. ":" .. number + 1 }
    end
  end
  assert.is_nil(lines, path .. ": a block without an end")
  return list
end

-- A block may also be an expression, such as a table of settings.
local function compiles(text)
  local chunk, why = loadstring(text)
  return chunk or loadstring("return " .. text), why
end

local function without_comments(text)
  return (text:gsub("%-%-[^\n]*", ""))
end

-- The variables of a block that hold modules of the library.
local function modules_of(code)
  local found = {}
  for variable, name in code:gmatch
    "local%s+([%a_][%w_]*)%s*=%s*require%s*%(?%s*[\"'](perigee%.[%w_.]+)[\"']%)?%s" do
    found[variable] = name
  end
  return found
end

-- Every module.name of a block, for variables that it does not make itself.
local function named(code)
  local list = {}
  local modules = modules_of(code .. "\n")
  for name, field in code:gmatch
    "require%s*%(?%s*[\"'](perigee%.[%w_.]+)[\"']%s*%)?%.([%a_][%w_]*)" do
    list[#list + 1] = { name, field }
  end
  local bare = code:gsub("\\.", ""):gsub('"[^"\n]*"', '""')
    :gsub("'[^'\n]*'", "''")
  for variable, field in bare:gmatch "%f[%w_.:]([%a_][%w_]*)%.([%a_][%w_]*)" do
    local own = bare:find("local " .. variable .. "%f[^%w_]")
      or bare:find("[%(,] ?" .. variable .. "[,%)]")
    local name = modules[variable]
      or not own and "perigee." .. (OTHER_NAMES[variable] or variable)
    list[#list + 1] = { name, field }
  end
  return list
end

-- Every `module.name(...)` in a page's running text.
local function mentioned(path)
  local list = {}
  local text = read(path):gsub("\n%s*```.-\n%s*```", "")
  for variable, field in text:gmatch
    "`([%a_][%w_]*)%.([%a_][%w_]*)%s?[%({\"']" do
    list[#list + 1] = { "perigee." .. (OTHER_NAMES[variable] or variable), field }
  end
  return list
end

local function load(name)
  local ok, module = pcall(require, name or "")
  return ok and type(module) == "table" and module or nil
end

describe("the documentation", function()
  local count = 0

  local function check(place, names)
    for _, one in ipairs(names) do
      local module = load(one[1])
      if module and one[1] ~= "perigee.config" then
        count = count + 1
        assert(module[one[2]] ~= nil, ("%s: %s has no %s"):format(place, one[1],
          one[2]))
      end
    end
  end

  for _, path in ipairs(pages()) do
    it(path .. " has Lua that compiles, and names what there is", function()
      for _, block in ipairs(blocks(path)) do
        local chunk, why = compiles(block.text)
        assert(chunk, block.place .. ": " .. tostring(why))
        check(block.place, named(without_comments(block.text)))
      end
      check(path, mentioned(path))
    end)
  end

  it("was looked at", function()
    assert.is_true(count > 100, count .. " names")
  end)
end)
