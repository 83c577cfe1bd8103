--- For specs: a database of their own, small pages, no waiting.

return {
  sqlite = {
    main = { path = "var/test.sqlite" },
  },

  app = {
    transforms = { timeout = "200ms" },
  },
}
