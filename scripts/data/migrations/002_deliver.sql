-- Deliveries are sent now. status has two more: "delivered" and "dead" (given
-- up: its attempts are used up, or the target is gone for good). "pending" also
-- means: waits for its next attempt.

ALTER TABLE subscriptions ADD COLUMN secret TEXT NOT NULL DEFAULT '';
-- Hexadecimal digits are base64, too.
UPDATE subscriptions SET secret = 'whsec_' || lower(hex(randomblob(24)));

ALTER TABLE deliveries ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
-- Counts replays: a job of an earlier round is void.
ALTER TABLE deliveries ADD COLUMN round INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN response_status INTEGER;
ALTER TABLE deliveries ADD COLUMN next_attempt_at_ms INTEGER;
ALTER TABLE deliveries ADD COLUMN delivered_at_ms INTEGER;

UPDATE deliveries SET status = 'cancelled',
  error = 'recorded before the relay could deliver'
  WHERE status = 'pending';

-- The delivery log: each attempt, with the beginning of what was answered.
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY,
  delivery_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL,
  response_status INTEGER,
  response_body TEXT,
  error TEXT
) STRICT;

CREATE INDEX attempts_by_delivery ON attempts (delivery_id, number);
