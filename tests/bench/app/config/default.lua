--- The application that `./bootstrap bench` measures.

return {
  http = { static = false, keepalive_timeout = "1h" },
  log = { level = "warn" },
  redis = {
    main = { url = "redis://127.0.0.1:" .. env("REDIS_PORT", "6379") },
  },
}
