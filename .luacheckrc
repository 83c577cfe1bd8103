std = "luajit"
cache = false
codes = true
max_line_length = 80
max_string_line_length = 170
max_comment_line_length = 160 -- annotations cannot be wrapped
self = false
unused_secondaries = false

files["config"] = { read_globals = { "env" } }
files["**/config"] = { read_globals = { "env" } }
files["**/*_spec.lua"] = { std = "+busted", max_line_length = 100 }
files["spec/perigee/queue_contract.lua"] = {
  std = "+busted", max_line_length = 100,
}
files["tests/bench/report.lua"] = {
  globals = { "wrk", "request", "done", "init" },
}
files["tests/bench/nginx"] = { globals = { "ngx" } }

exclude_files = { "build", "tests/node_modules", "var" }
