--- perigee config: the effective values, each with where it came from.

local json = require "perigee.json"

-- Text of one line stands without quotes; all else is as in JSON.
local function show(value)
  if type(value) == "string" and value ~= "" and not value:find "%c" then
    return value
  end
  return (json.encode(value))
end

local function print_table(list)
  local width, value_width = 0, 0
  for _, entry in ipairs(list) do
    entry.text = show(entry.value)
    width = math.max(width, #entry.key)
    value_width = math.max(value_width, math.min(#entry.text, 40))
  end
  local format = ("%%-%ds  %%-%ds  %%s\n"):format(width, value_width)
  for _, entry in ipairs(list) do
    io.stdout:write(format:format(entry.key, entry.text, entry.source))
  end
end

---@param args {json: boolean, text: string}
---@return integer exit_code
return function(args)
  if args.json then
    io.stdout:write(args.text, "\n")
  else
    print_table(assert(json.decode(args.text)))
  end
  return 0
end
