--- What every environment shares. Higher: config/ENV.lua, .env, the process's
--- environment, flags. `perigee config` shows what came of it.

return {
  http = {
    host = "127.0.0.1",
    port = 3000,
  },

  app = {
    name = "{{name}}",
    notes = {
      page_size = env("NOTES_PAGE_SIZE", 20),
    },
  },
}
