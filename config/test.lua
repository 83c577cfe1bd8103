--- For specs: a database of their own, small pages, no waiting.

return {
  sqlite = {
    main = { path = "var/test.sqlite" },
  },

  queue = { path = "var/test-queue.sqlite", synchronous = "off" },

  app = {
    delivery = { targets = "127.0.0.1", backoff = "1s", timeout = "5s" },
    transforms = { timeout = "200ms" },
  },
}
