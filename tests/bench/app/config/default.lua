--- The application that `./bootstrap bench` measures.

return {
  http = { static = false, keepalive_timeout = "1h" },
  log = { level = "warn" },
}
