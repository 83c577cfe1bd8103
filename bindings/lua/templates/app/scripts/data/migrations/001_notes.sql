CREATE TABLE notes (
  id TEXT PRIMARY KEY, -- a UUID of version 7: sorts by time
  text TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
