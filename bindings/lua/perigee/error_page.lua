--- The page that development shows for a failure: for browsers in HTML, for
--- others as a problem document with the traceback.

local app = require "perigee.core.app"
local json = require "perigee.json"

local M = {}

local ESCAPES = {
  ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
}

local function escape(text)
  return (tostring(text):gsub('[&<>"]', ESCAPES))
end

local function from_disk(file)
  local handle = io.open(file)
  local text = handle and handle:read "*a"
  if handle then handle:close() end
  return text
end

-- The lines around file:line, from read(file).
local function source_lines(traceback, message, read)
  local file, line = (message .. "\n" .. traceback):match
    "(scripts/[%w_/%-%.]+%.lua):(%d+)"
  local text = file and read(file)
  if not text then
    return nil
  end
  local rows, number, wanted = {}, 0, tonumber(line)
  for row in (text .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    if math.abs(number - wanted) <= 4 then
      rows[#rows + 1] = ('<span class="%s">%4d  %s</span>'):format(
        number == wanted and "hit" or "row", number, escape(row))
    end
  end
  return file .. ":" .. line, table.concat(rows, "\n")
end

local PAGE = [[
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title><style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; color: #1c2430; background: #fbfbfd }
h1 { font-size: 1.25rem; color: #a3172d; white-space: pre-wrap }
h2 { font-size: .9rem; color: #5a6676; margin-top: 2rem }
pre { background: #10161f; color: #d7dee8; padding: 1rem; overflow: auto;
  border-radius: .4rem; font-size: .85rem }
.hit { background: #5c1f2b; display: inline-block; min-width: 100%% }
</style></head><body>
<h1>%s</h1>%s%s
<h2>Request</h2><pre>%s %s
id %s</pre>
</body></html>
]]

local SECTION = "\n<h2>%s</h2><pre>%s</pre>"

local function page(title, message, where, source, traceback, req)
  local place = where and SECTION:format(escape(where), source) or ""
  local stack = traceback ~= ""
    and SECTION:format("Traceback", escape(traceback)) or ""
  return PAGE:format(escape(title), escape(message), place, stack,
    escape(req.method), escape(req.target), escape(req.id))
end

--- status, body, headers for what a handler raised.
function M.answer(req, err, traceback)
  local message = tostring(err)
  local where, source = source_lines(traceback or "", message, app.file)
  if (req:header "accept" or ""):find("text/html", 1, true) then
    return 500, page("Error", message, where, source, traceback or "", req),
      { ["content-type"] = "text/html; charset=utf-8" }
  end
  return 500, {
    type = "about:blank",
    title = "Internal Server Error",
    status = 500,
    detail = json.text(message),
    instance = req.path,
    request_id = req.id,
    where = where,
    traceback = json.text(traceback or ""),
  }, { ["content-type"] = "application/problem+json" }
end

--- The page while the last reload is refused; nil when there is no fault.
function M.refused(req)
  local fault = app.fault()
  if not fault then
    return nil
  end
  local where, source = source_lines("", fault, from_disk)
  return 500, page("Not reloaded", "The change was not taken over:\n" .. fault,
    where, source, "", req),
    { ["content-type"] = "text/html; charset=utf-8" }
end

return M
