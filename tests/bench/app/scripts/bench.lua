-- For the sources in tests/bench/micro: the best of five turns, as a line.

local clock = os.clock

---@param name string
---@param count integer        # calls a turn
---@param fn fun(count: integer)
return function(name, count, fn)
  fn(count / 10)
  local best = math.huge
  for _ = 1, 5 do
    local begun = clock()
    fn(count)
    best = math.min(best, clock() - begun)
  end
  print(("%-28s %7.1f ns  %7.2f M/s"):format(name, best / count * 1e9,
    count / best / 1e6))
end
