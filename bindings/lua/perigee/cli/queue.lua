--- perigee queue: looking at queues and operating them, on any driver.

local json = require "perigee.json"
local options = require "perigee.queue.options"
local print_rows = require "perigee.cli.rows"
local view = require "perigee.queue.view"

local USAGE = [[
usage: perigee queue COMMAND [--json] [flags], in the application's folder

  ls                             queues, and how many jobs are in each state
  show QUEUE                     its counts and its jobs
       [--state S] [--from N] [--to N]
  show QUEUE ID                  one job, with its log
  add QUEUE NAME [JSON]          adds a job
       [--delay 5m] [--priority N] [--attempts N] [--backoff 1s]
       [--job-id ID] [--group G] [--timeout 30s] [--lifo]
  retry QUEUE ID ... | --failed  runs failed (or completed) jobs again
  promote QUEUE ID ...           runs delayed jobs now
  remove QUEUE ID ...            removes jobs
  pause QUEUE, resume QUEUE
  drain QUEUE [--delayed]        removes what waits
  clean QUEUE [--grace 1h] [--limit N] [--state completed]
                                 removes what has ended longer ago
]]

local STATES = view.STATES

-- What a flag takes: nothing, a text, or a whole number from so much on.
local FLAGS = {
  json = false, delayed = false, failed = false, lifo = false,
  state = "text", delay = "text", backoff = "text", ["job-id"] = "text",
  group = "text", timeout = "text", grace = "text", data = "text",
  from = 0, to = -1, priority = 0, attempts = 1, limit = 0,
}

-- Of each command: how many words at least and at most, and its flags.
local FORMS = {
  ls = { 0, 0 },
  show = { 1, 2, "state", "from", "to" },
  add = { 2, 3, "delay", "priority", "attempts", "backoff", "job-id", "group",
    "timeout", "lifo", "data" },
  retry = { 1, math.huge, "failed" },
  promote = { 1, math.huge }, remove = { 1, math.huge },
  pause = { 1, 1 }, resume = { 1, 1 },
  drain = { 1, 1, "delayed" },
  clean = { 1, 1, "grace", "limit", "state" },
}

-- A wrong value: one line. Wrong words: how it is called, too.
local function wrong(text, ...)
  io.stderr:write("perigee: ", text:format(...), "\n")
  return nil, 2
end

local function usage(text, ...)
  wrong(text, ...)
  io.stderr:write(USAGE)
  return nil, 2
end

-- nil, 2 for what is no value of that flag.
local function value_of(name, text)
  local low = FLAGS[name]
  if not text then
    return usage("queue: --%s needs a value", name)
  elseif low == "text" then
    return text
  end
  local number = text:find "^%-?%d+$" and tonumber(text)
  if not number or number < low or number >= 2 ^ 53 then
    return wrong("queue: --%s must be a whole number from %d, not %q", name,
      low, text)
  end
  return number
end

-- {words}, {flags}; or nil and the exit code.
local function parse(...)
  local words, flags = {}, {}
  local args, at = { ... }, 1
  local only_words = false
  while args[at] do
    local word = args[at]
    local name, equals, text = word:match "^%-%-([%w-]+)(=?)(.*)$"
    if only_words or not name and word ~= "--" then
      words[#words + 1] = word
    elseif not name then
      only_words = true
    elseif FLAGS[name] == nil then
      return usage("queue: unknown flag --%s", name)
    elseif not FLAGS[name] then
      if equals ~= "" then
        return wrong("queue: --%s takes no value", name)
      end
      flags[name] = true
    else
      if equals == "" then
        at = at + 1
        text = args[at]
      end
      local value, code = value_of(name, text)
      if value == nil then
        return nil, code
      end
      flags[name] = value
    end
    at = at + 1
  end
  return words, flags
end

-- true, or nil and the exit code.
local function check_form(name, words, flags)
  local form = FORMS[name]
  if #words < form[1] then
    return usage("queue %s: a queue%s expected", name,
      name == "add" and " and a job's name are" or " is")
  elseif #words > form[2] then
    return usage("queue %s: one word too many: %q", name, words[form[2] + 1])
  end
  local known = { json = true }
  for i = 3, #form do
    known[form[i]] = true
  end
  for flag in pairs(flags) do
    if not known[flag] then
      return usage("queue %s takes no --%s", name, flag)
    end
  end
  return true
end

local function fail(err)
  io.stderr:write("perigee: ", tostring(err), "\n")
  return type(err) == "table" and err.kind == "unavailable" and 69 or 1
end

local function print_json(value)
  io.stdout:write(assert(json.encode(value)), "\n")
  return 0
end

local function when(ms)
  return ms and os.date("%Y-%m-%d %H:%M:%S", math.floor(ms / 1000)) or nil
end

-- What of a job is told.
local function plain(job)
  return {
    id = job.id, queue = job.queue, name = job.name, state = job.state,
    data = job.data, opts = next(job.opts) and job.opts or nil,
    progress = job.progress, logs = view.texts(job.logs),
    result = job.result, failure = view.text(job.failure),
    stacktrace = job.stacktrace and view.texts(job.stacktrace),
    attempts = job.attempts, timestamp = job.timestamp,
    processed_on = job.processed_on, finished_on = job.finished_on,
    priority = job.priority, delay = job.delay, worker = job.worker,
  }
end

local commands = {}

function commands.ls(queue, _, flags)
  local names, err = queue.names()
  if not names then
    return fail(err)
  end
  local list = json.array {}
  local rows = { { "queue", unpack(STATES) } }
  for i, name in ipairs(names) do
    local told
    told, err = view.summary(queue.get(name))
    if not told then
      return fail(err)
    end
    local row = { name .. (told.paused and " (paused)" or "") }
    for k, state in ipairs(STATES) do
      row[k + 1] = told.counts[state]
    end
    rows[i + 1] = row
    list[i] = told
  end
  if flags.json then
    return print_json(list)
  end
  print_rows(rows)
  return 0
end

local function show_job(q, id, flags)
  local job, err = q:job(id)
  if not job then
    return fail(err or ("no job %s in queue %s"):format(id, q.name))
  end
  local told = plain(job)
  if flags.json then
    return print_json(told)
  end
  local rows = {}
  for _, key in ipairs { "id", "name", "state", "attempts", "priority",
    "worker", "failure" } do
    if told[key] ~= nil then
      rows[#rows + 1] = { key, told[key] }
    end
  end
  for _, key in ipairs { "timestamp", "processed_on", "finished_on" } do
    rows[#rows + 1] = told[key] and { key, when(told[key]) }
  end
  for _, key in ipairs { "data", "opts", "progress", "result" } do
    if told[key] ~= nil then
      rows[#rows + 1] = { key, assert(json.encode(told[key])) }
    end
  end
  for _, line in ipairs(job.logs) do
    rows[#rows + 1] = { "log", line }
  end
  print_rows(rows)
  for _, stack in ipairs(job.stacktrace or {}) do
    io.stdout:write(stack, "\n")
  end
  return 0
end

-- Whether these are ids of jobs; else the exit code.
local function check_ids(verb, ids)
  for _, id in ipairs(ids) do
    if not options.is_job_id(id) then
      return wrong("queue %s: %q is no job's id", verb, id)
    end
  end
  return true
end

function commands.show(queue, words, flags)
  local q = queue.get(words[1])
  if words[2] then
    local ok, code = check_ids("show", { words[2] })
    if not ok then
      return code
    end
    return show_job(q, words[2], flags)
  end
  local told, why = view.summary(q)
  if not told then
    return fail(why)
  end
  local all = json.array {}
  local rows = { { "id", "name", "state", "attempts", "since", "failure" } }
  for _, state in ipairs(flags.state and { flags.state } or STATES) do
    local list, err = q:jobs(state, flags.from or 0,
      flags.to or (flags.from or 0) + 19)
    if not list then
      return fail(err)
    end
    for _, job in ipairs(list) do
      all[#all + 1] = plain(job)
      rows[#rows + 1] = { job.id, job.name, job.state, job.attempts,
        when(job.finished_on or job.processed_on or job.timestamp),
        (job.failure or ""):match "^[^\n]*" }
    end
  end
  if flags.json then
    told.jobs = all
    return print_json(told)
  end
  local line = {}
  for i, state in ipairs(STATES) do
    line[i] = state .. " " .. told.counts[state]
  end
  io.stdout:write(q.name, told.paused and " (paused)" or "", ": ",
    table.concat(line, ", "), "\n")
  if #all > 0 then
    print_rows(rows)
  end
  return 0
end

function commands.add(queue, words, flags)
  local q = queue.get(words[1])
  local text = words[3] or flags.data
  local data, why = nil, nil
  if text then
    data, why = json.decode(text)
  end
  if why then
    return select(2, wrong("the data: %s", tostring(why)))
  end
  local job, err = q:add(words[2], data, {
    delay = flags.delay, priority = flags.priority,
    attempts = flags.attempts, backoff = flags.backoff,
    job_id = flags["job-id"], group = flags.group, timeout = flags.timeout,
    lifo = flags.lifo,
  })
  if not job then
    return fail(err)
  end
  if flags.json then
    return print_json { id = job.id, queue = q.name, name = job.name,
      duplicate = job.duplicate }
  end
  io.stdout:write(job.id, "\n")
  return 0
end

local function each(q, ids, verb)
  local code, done = 0, 0
  for _, id in ipairs(ids) do
    local ok, err = q.driver[verb](q.driver, q.name, id)
    if ok then
      done = done + 1
    else
      code = fail(err)
    end
  end
  return code, done
end

local function told(flags, fields, text)
  if flags.json then
    return print_json(fields)
  end
  io.stdout:write(text, "\n")
  return 0
end

local function on_each(verb, past)
  return function(queue, words, flags)
    local q = queue.get(words[1])
    local ids = { unpack(words, 2) }
    local fine, why = check_ids(verb, ids)
    if not fine then
      return why
    elseif flags.failed and #ids > 0 then
      return select(2, usage("queue retry: either ids or --failed"))
    elseif flags.failed then
      local list, err = q:jobs("failed", 0, -1)
      if not list then
        return fail(err)
      end
      for i, job in ipairs(list) do
        ids[i] = job.id
      end
    elseif #ids == 0 then
      return select(2, usage("queue %s: which jobs?", verb))
    end
    local code, done = each(q, ids, verb)
    told(flags, { [past] = done }, ("%d %s"):format(done, past))
    return code
  end
end

commands.retry = on_each("retry", "retried")
commands.promote = on_each("promote", "promoted")
commands.remove = on_each("remove", "removed")

function commands.pause(queue, words, flags)
  local ok, err = queue.get(words[1]):pause()
  return ok and told(flags, { paused = true }, words[1] .. " is paused")
    or fail(err)
end

function commands.resume(queue, words, flags)
  local ok, err = queue.get(words[1]):resume()
  return ok and told(flags, { paused = false }, words[1] .. " goes on")
    or fail(err)
end

function commands.drain(queue, words, flags)
  local removed, err = queue.get(words[1]):drain(flags.delayed == true)
  return removed and told(flags, { removed = removed }, removed .. " removed")
    or fail(err)
end

function commands.clean(queue, words, flags)
  local ids, err = queue.get(words[1]):clean(flags.grace or 0,
    flags.limit or 0, flags.state)
  return ids and told(flags, { removed = json.array(ids) },
    #ids .. " removed") or fail(err)
end

---@return integer exit_code
return function(...)
  local words, flags = parse(...)
  if not words then
    return flags
  end
  local name = table.remove(words, 1)
  if not name then
    return select(2, usage "queue: what is to be done?")
  elseif not commands[name] then
    return select(2, usage("queue: unknown command %q", name))
  end
  local fine, why = check_form(name, words, flags)
  if not fine then
    return why
  end
  local ok, code = pcall(commands[name], require "perigee.queue", words, flags)
  if not ok then
    -- What raises is a wrong call: a value that is none.
    return select(2, wrong("%s", (tostring(code):gsub("^[^:]+:%d+: ", ""))))
  end
  return code
end
