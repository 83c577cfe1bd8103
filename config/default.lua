--- What every environment shares; config/ENV.lua, .env, the process's
--- environment and flags change it (docs/configuration.md).

return {
  http = {
    host = "127.0.0.1",
    port = 3000,
    body_max = "64kb", -- of the management API; /in/:source has its own
  },

  sqlite = {
    main = { path = "var/relay.sqlite" },
  },

  queue = {
    -- Deliveries at once to one target, of all workers: a slow one holds up
    -- itself alone.
    limits = { deliveries = { group = { concurrency = 8 } } },
  },

  app = {
    -- Asked for as "Authorization: Bearer ..." by everything but /in/:source
    -- and the page's files. Unset: open, which is for 127.0.0.1 only.
    token = env("RELAY_TOKEN"),

    pages = {
      limit = 50,
      limit_max = 200,
    },

    intake = {
      body_max = "25mb", -- GitHub's own limit
      tolerance_s = 300, -- age of a Stripe signature; sources may set theirs
      key_max = 255, -- characters of an Idempotency-Key
      -- How long a sender waits for transforms; its event is stored by then.
      transforms_wait = "5s",
      -- Kept with the event. What proves who sent it never is.
      headers = {
        "content-type",
        "user-agent",
        "x-github-event",
        "x-github-delivery",
        "x-github-hook-id",
        "x-github-hook-installation-target-type",
        "x-github-hook-installation-target-id",
        "x-event-type",
      },
    },

    transforms = {
      timeout = "2s", -- of one transform of one event
      payload_max = 1024 * 1024, -- bytes of what it returns, as JSON
    },

    delivery = {
      -- Pauses double: 5 s, 10 s, ... With 15 attempts the last one comes after
      -- 22 hours; then it is a dead letter.
      attempts = 15,
      backoff = "5s",
      retry_after_max = "1h", -- more than that a target's Retry-After is not given
      timeout = "30s", -- of one attempt
      concurrency = 32, -- in each worker
      -- Hosts that may be sent to: "example.com, *.example.org, 127.0.0.1".
      targets = env("RELAY_TARGETS", "*"),
      -- Refuses targets with addresses that are not public. Switch it on where
      -- strangers make subscriptions.
      deny_private = false,
      -- Of each target; while it is open, attempts fail at once.
      breaker = { failures = 10, window = "1m", open = "30s" },
      excerpt = 1000, -- bytes of the target's answer that the log keeps
    },

    -- What is older is removed, events with their deliveries.
    retention = {
      events_h = 30 * 24,
      keys_h = 7 * 24, -- providers repeat for about three days
      interval = "10m",
      batch = 500, -- rows a transaction, so that writers never wait long
    },
  },
}
