local trace = require "perigee.trace"

local clock = os.clock

local function work(span)
  return span
end

trace.span("outer", nil, function()
  assert(trace.current().sampled == false)
  local best = math.huge
  for _ = 1, 5 do
    local begun = clock()
    for _ = 1, 1e6 do
      trace.span("inner", nil, work)
    end
    best = math.min(best, clock() - begun)
  end
  print(("%-28s %7.1f ns  %7.2f M/s"):format("span, not sampled",
    best / 1e6 * 1e9, 1e6 / best / 1e6))
end)
