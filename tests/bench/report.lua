--- For wrk: one line that bench.mjs reads. Arguments: "get", "post BODY", or
--- "pipeline N" (N requests in one write).

local batch

function init(args)
  if args[1] == "post" then
    wrk.method, wrk.body = "POST", args[2]
    wrk.headers["Content-Type"] = "application/json"
  elseif args[1] == "pipeline" then
    batch = wrk.format():rep(tonumber(args[2]))
    request = function()
      return batch
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  print(("REPORT %d %d %d %d %d"):format(
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout
      + errors.status,
    latency:percentile(50), latency:percentile(99)))
end
