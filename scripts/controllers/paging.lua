--- Answers of lists: { items, next } and a Link header to the next page.

local json = require "perigee.json"

local M = {}

local function escape(text)
  return (tostring(text):gsub("[^%w._~-]", function(char)
    return ("%%%02X"):format(char:byte())
  end))
end

local function next_url(req, cursor)
  local names = {}
  for name in pairs(req.query) do
    if name ~= "after" then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  local parts = {}
  for i, name in ipairs(names) do
    parts[i] = name .. "=" .. escape(req.query[name])
  end
  parts[#parts + 1] = "after=" .. escape(cursor)
  return req.path .. "?" .. table.concat(parts, "&")
end

--- The page that a request asks for.
---@return Page
function M.of(req)
  return { limit = req.query.limit, after = req.query.after }
end

--- Answers with one page, each item as `view` shows it.
---@param req table
---@param list List
---@param view fun(item: table): table
function M.answer(req, list, view)
  local items = {}
  for i, item in ipairs(list.items) do
    items[i] = view(item)
  end
  local headers = {}
  if list.next then
    headers.link = ("<%s>; rel=\"next\""):format(next_url(req, list.next))
  end
  return 200, {
    items = json.array(items),
    next = list.next or json.null,
  }, headers
end

return M
