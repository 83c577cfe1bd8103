-- The relay's tables. Ids are UUIDs of version 7: they sort by time, so the
-- primary key is also the order of every list and of retention.

CREATE TABLE sources (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('github', 'stripe', 'generic', 'none')),
  secret TEXT,
  tolerance_s INTEGER,
  signature_header TEXT,
  signature_encoding TEXT CHECK (signature_encoding IN ('hex', 'base64')),
  signature_prefix TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE subscriptions (
  id TEXT PRIMARY KEY,
  source TEXT NOT NULL REFERENCES sources (name),
  target_url TEXT NOT NULL,
  events TEXT NOT NULL, -- JSON list of filters
  transform TEXT,
  enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX subscriptions_by_source ON subscriptions (source, id);

-- source is no reference: events outlive the source they came through.
CREATE TABLE events (
  id TEXT PRIMARY KEY,
  source TEXT NOT NULL,
  type TEXT NOT NULL,
  provider_id TEXT, -- what the provider calls this delivery or event
  content_type TEXT,
  headers TEXT NOT NULL, -- JSON object
  body BLOB NOT NULL, -- byte for byte as it came
  size INTEGER NOT NULL,
  deliveries INTEGER NOT NULL, -- how many were recorded with it
  received_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX events_by_source ON events (source, id);
CREATE INDEX events_by_type ON events (type, id);

-- What has been taken in already: a repeat is answered with the first's event.
CREATE TABLE intake_keys (
  source TEXT NOT NULL,
  key TEXT NOT NULL,
  event_id TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX intake_keys_by_event ON intake_keys (event_id);
CREATE INDEX intake_keys_by_age ON intake_keys (created_at_ms);

-- status: "new" (transform not run yet), "pending" (to be delivered),
-- "skipped" (the transform wants none), "failed" (the transform failed),
-- "cancelled" (its subscription was removed).
CREATE TABLE deliveries (
  id TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  subscription_id TEXT NOT NULL,
  source TEXT NOT NULL,
  event_type TEXT NOT NULL,
  target_url TEXT NOT NULL,
  transform TEXT,
  status TEXT NOT NULL,
  payload TEXT, -- JSON; NULL: the event's body goes as it came
  error TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_by_event ON deliveries (event_id, id);
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, id);
CREATE INDEX deliveries_by_source ON deliveries (source, id);
CREATE INDEX deliveries_by_status ON deliveries (status, id);
