--- What the dashboard asks a worker, because it takes a driver to know it:
--- queues, their jobs, and what can be done to them. The master has looked
--- after who may ask and who may change.

local config = require "perigee.config"
local json = require "perigee.json"
local view = require "perigee.queue.view"

local M = {}

local PAGE = 25
local TEXT_MAX = 16 * 1024 -- of a job's data and the like, as it is shown
local LINE_MAX = 300 -- of a failure, in a list of jobs
local LOGS_MAX = 100
local RETRY_MAX = 1000 -- jobs, at one push of a button

local STATUS = {
  invalid = 400, not_found = 404, conflict = 409, limited = 429,
  unavailable = 503, timeout = 504,
}

-- ---- what is shown of data -------------------------------------------------

local SECRET = { "password", "passwd", "passphrase", "secret", "token",
  "authorization", "cookie", "apikey", "privatekey", "accesskey", "signature",
  "credential" }

local function is_secret(key)
  local plain = tostring(key):lower():gsub("[%s_%-]", "")
  for _, word in ipairs(SECRET) do
    if plain:find(word, 1, true) then
      return true
    end
  end
  return false
end

-- Members whose name says that they are secret are not shown.
local function masked(value)
  if type(value) ~= "table" then
    return value
  end
  local copy = setmetatable({}, getmetatable(value))
  for key, each in pairs(value) do
    copy[key] = type(key) == "string" and is_secret(key) and "[masked]"
      or masked(each)
  end
  return copy
end

-- As a text: it is JSON for people.
local function shown(value)
  if value == nil then
    return nil
  end
  local text, err = json.encode(masked(value))
  return view.text(text or ("(" .. tostring(err) .. ")"), TEXT_MAX)
end

-- ---- questions -------------------------------------------------------------

-- A host that has never had a queue is not to get one by being looked at.
local function are_used()
  local settings = config.queue or {}
  if package.loaded["perigee.queue"]
    or (settings.driver or "embedded") ~= "embedded" then
    return true
  end
  local path = settings.path or "var/queue.sqlite"
  local file = io.open(path, "rb")
  if file then
    file:close()
  end
  return file ~= nil
end

local function list(queue)
  local names, err = queue.names()
  if not names then
    return nil, err
  end
  table.sort(names)
  local queues = json.array {}
  for i, name in ipairs(names) do
    queues[i], err = view.summary(queue.get(name))
    if not queues[i] then
      return nil, err
    end
  end
  return { queues = queues }
end

local function brief(job)
  return {
    id = job.id, name = job.name, state = job.state, attempts = job.attempts,
    timestamp = job.timestamp, processed_on = job.processed_on,
    finished_on = job.finished_on, delay = job.delay,
    failure = job.failure
      and view.text(job.failure:match "^[^\n]*", LINE_MAX),
  }
end

local function is_state(state)
  for _, each in ipairs(view.STATES) do
    if each == state then
      return true
    end
  end
  return false
end

local function jobs(q, query)
  local state = query.state or "waiting"
  local from = tonumber(query.from or 0)
  if not is_state(state) or not from or from < 0 or from % 1 ~= 0
    or from > 1e9 then
    return 400, { detail = "state or from is none" }
  end
  local told, err = view.summary(q)
  if not told then
    return nil, err
  end
  local found
  found, err = q:jobs(state, from, from + PAGE)
  if not found then
    return nil, err
  end
  told.state, told.from, told.jobs = state, from, json.array {}
  told.more = #found > PAGE
  for i = 1, math.min(#found, PAGE) do
    told.jobs[i] = brief(found[i])
  end
  return told
end

local function whole(q, id)
  local job, err = q:job(id)
  if not job then
    if err then
      return nil, err
    end
    return 404, { detail = "there is no such job" }
  end
  local told = brief(job)
  told.priority, told.worker = job.priority, job.worker
  told.data, told.result = shown(job.data), shown(job.result)
  told.progress = shown(job.progress)
  told.opts = next(job.opts) and shown(job.opts) or nil
  told.failure = view.text(job.failure, TEXT_MAX)
  told.logs = view.texts(job.logs, TEXT_MAX, LOGS_MAX)
  told.stacktrace = view.texts(job.stacktrace, TEXT_MAX)
  return told
end

-- ---- changes ---------------------------------------------------------------

local function retry_failed(q)
  local failed, err = q:jobs("failed", 0, RETRY_MAX - 1)
  if not failed then
    return nil, err
  end
  local done = 0
  for _, job in ipairs(failed) do
    local ok
    ok, err = job:retry()
    if ok then
      done = done + 1
    elseif err.kind ~= "conflict" and err.kind ~= "not_found" then
      return nil, err
    end
  end
  return { retried = done }
end

local function tell(ok, err)
  if not ok then
    return nil, err
  end
  return { done = true }
end

local to_queue = {
  pause = function(q) return tell(q:pause()) end,
  resume = function(q) return tell(q:resume()) end,
  retry = retry_failed,
}

local to_job = {
  retry = function(q, id) return tell(q.driver:retry(q.name, id)) end,
  promote = function(q, id) return tell(q.driver:promote(q.name, id)) end,
  remove = function(q, id) return tell(q.driver:remove(q.name, id)) end,
}

-- ---- the way of a question -------------------------------------------------

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- "GET /name/id?state=failed" -> method, {parts}, {query}
local function parse(question)
  local method, path, query = question:match "^(%u+) ([^?]*)%??(.*)$"
  local parts, values = {}, {}
  for part in (path or ""):gmatch "[^/]+" do
    parts[#parts + 1] = unescape(part)
  end
  for key, value in (query or ""):gmatch "([^&=]+)=([^&]*)" do
    values[key] = unescape(value)
  end
  return method, parts, values
end

-- A table, or a status and a table; or nil and an error.
local function obey(question)
  local method, parts, query = parse(question)
  if not are_used() then
    return { queues = json.array {} }
  end
  local queue = require "perigee.queue"
  if #parts == 0 then
    return list(queue)
  end
  local valid, q = pcall(queue.get, parts[1])
  if not valid then
    return 404, { detail = "that is no queue's name" }
  end
  if method == "GET" and #parts == 1 then
    return jobs(q, query)
  elseif method == "GET" and #parts == 2 then
    return whole(q, parts[2])
  elseif method == "POST" and #parts == 2 and to_queue[parts[2]] then
    return to_queue[parts[2]](q)
  elseif method == "POST" and #parts == 3 and to_job[parts[3]] then
    return to_job[parts[3]](q, parts[2])
  end
  return 404, { detail = "there is nothing of that name" }
end

--- Answers a question: a method, a blank, and what follows /dashboard/queues
--- in the request's target.
---@param question string
---@return integer status
---@return string text # JSON
function M.answer(question)
  local first, second = obey(question)
  if type(first) == "number" then
    return first, assert(json.encode(second))
  elseif first then
    return 200, assert(json.encode(first))
  end
  return STATUS[second.kind] or 500,
    assert(json.encode {
      detail = json.text(tostring(second.message or second)),
    })
end

return M
