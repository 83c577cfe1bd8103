--- Pages of a list in a stable order: each goes on after the last key of the
--- one before, so rows that come or go meanwhile shift nothing.

local sqlite = require "perigee.sqlite"

local db = sqlite.get "main"

local M = {}

---@class Page
---@field limit integer
---@field after string?  # key of the last item seen

---@class List<T>
---@field items table[]
---@field next string?  # what to give as `after`; nil on the last page

--- Adds "AND column op :name" for a value that was asked for.
---@param where string[]
---@param args table<string, any>
function M.filter(where, args, column, op, name, value)
  if value ~= nil then
    where[#where + 1] = column .. " " .. op .. " :" .. name
    args[name] = value
  end
end

---@class Listing
---@field select string  # "SELECT ... FROM ..."
---@field key string  # column that orders the list; unique
---@field descending boolean?
---@field where string[]?
---@field args table<string, any>?
---@field read fun(row: table): table

--- Reads one page.
---@param listing Listing
---@param page Page
---@return List? list
---@return perigee.Error? err
function M.read(listing, page)
  local where, args = listing.where or {}, listing.args or {}
  local op = listing.descending and "<" or ">"
  M.filter(where, args, listing.key, op, "after", page.after)
  args.limit = page.limit + 1 -- one more tells whether there is a next page

  local sql = listing.select
  if #where > 0 then
    sql = sql .. " WHERE " .. table.concat(where, " AND ")
  end
  sql = sql .. " ORDER BY " .. listing.key
    .. (listing.descending and " DESC" or "") .. " LIMIT :limit"

  local rows, err = db:query(sql, args)
  if not rows then
    return nil, err
  end
  local items = {}
  for i = 1, math.min(#rows, page.limit) do
    items[i] = listing.read(rows[i])
  end
  local more = #rows > page.limit
  return { items = items, next = more and rows[page.limit][listing.key] or nil }
end

return M
