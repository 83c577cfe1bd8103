local bench = require "bench"
local trace = require "perigee.trace"

local function work(span)
  return span
end

trace.span("outer", nil, function()
  assert(trace.current().sampled == false)
  bench("span, not sampled", 1e6, function(n)
    for _ = 1, n do trace.span("inner", nil, work) end
  end)
end)
