--- perigee status: the running host, for people.

local json = require "perigee.json"
local print_rows = require "perigee.cli.rows"

local UNITS = { { "d", 86400 }, { "h", 3600 }, { "m", 60 } }

-- 3725 -> "1h 2m 5s"
local function duration(seconds)
  local parts = {}
  seconds = math.floor(seconds)
  for _, unit in ipairs(UNITS) do
    if seconds >= unit[2] or #parts > 0 then
      parts[#parts + 1] = math.floor(seconds / unit[2]) .. unit[1]
      seconds = seconds % unit[2]
    end
  end
  parts[#parts + 1] = seconds .. "s"
  return table.concat(parts, " ")
end

local function line(name, text)
  io.stdout:write(("%-11s %s\n"):format(name, text))
end

local function last_reload(reload)
  if type(reload) ~= "table" then
    return "none yet"
  end
  local when = os.date("%Y-%m-%d %H:%M:%S", math.floor(reload.at / 1000))
  local text = ("%s at %s in %d ms (%s)"):format(reload.result, when,
    reload.duration_ms, reload.cause)
  if type(reload.reason) == "string" then
    text = text .. "\n            " .. reload.reason:gsub("\n+$", "")
      :gsub("\n", "\n            ")
  end
  return text
end

local COLUMNS = { "slot", "pid", "state", "generation", "requests", "active",
  "connections", "restarts", "memory", "up" }

local function worker_row(worker, now_ms)
  return { worker.slot, worker.pid, worker.state, worker.generation,
    worker.requests, worker.active, worker.connections, worker.restarts,
    ("%.1f MB"):format(worker.rss / 1048576),
    duration(math.max(0, now_ms - worker.started) / 1000) }
end

local function print_pools(pools)
  local rows = { { "pool", "kind", "in use", "idle", "waiting" } }
  for _, pool in ipairs(pools) do
    rows[#rows + 1] = { pool.name, pool.kind, pool.used, pool.idle,
      pool.waiting }
  end
  if #rows > 1 then
    io.stdout:write "\n"
    print_rows(rows)
  end
end

---@param args {text: string}
---@return integer exit_code
return function(args)
  local status = assert(json.decode(args.text))
  line("host", ("%s, pid %d, perigee %s"):format(status.state, status.pid,
    status.version))
  line("directory", status.dir)
  line("environment", status.env)
  line("up", duration(status.uptime))
  for _, http in ipairs(status.http) do
    line("http", http.url)
  end
  if type(status.admin) == "table" then
    line("admin", ("http://%s:%d"):format(status.admin.address,
      status.admin.port))
  end
  line("generation", status.generation)
  line("last reload", last_reload(status.last_reload))
  for _, check in ipairs(status.health) do
    line("health", ("%s: %s"):format(check.name, check.detail))
  end
  io.stdout:write "\n"
  local rows = { COLUMNS }
  for _, worker in ipairs(status.workers) do
    rows[#rows + 1] = worker_row(worker, os.time() * 1000)
  end
  print_rows(rows)
  print_pools(status.pools)
  return 0
end
