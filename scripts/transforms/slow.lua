local task = require "perigee.task"
return function()
  repeat task.sleep(5) until io.open "var/go"
  return { done = true }
end
