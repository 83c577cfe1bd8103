--- The tables of the embedded driver, and its statements.
---
--- A job is one row; what it is doing is `state`, and the order in which jobs of
--- a state come is (prio, pos): for those that wait, priority and then the time
--- of their coming in microseconds; for delayed ones when they are due; for
--- those that have ended when they did (prio is 0 there). One index serves
--- all of it. `started` counts the runs and is the fencing token.
---
--- Triggers cost those that they do nothing for, so there are none on the plain
--- way: a job with `extras` (a parent, a dedup id, a log, ...) is ended by
--- statements that set `ended` (and cleared again when it is retried), and
--- before it is deleted `gone` is set: 1 when its time is over, 2 when somebody
--- removes it. The triggers are on those columns.

local M = {}

M.WAITING, M.ACTIVE, M.DELAYED, M.COMPLETED, M.FAILED = 0, 1, 2, 3, 4
M.CHILDREN = 5 -- waits for its children
M.SUSPECT = 6  -- waits, and runs alone: its worker has died twice
M.GROUPED = 7  -- waits for its group's turn

M.SCHEMA = [[
CREATE TABLE IF NOT EXISTS queue (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  hidden INTEGER NOT NULL DEFAULT 1, paused INTEGER NOT NULL DEFAULT 0,
  concurrency INTEGER, rate_max INTEGER, rate_ms INTEGER,
  window_start INTEGER NOT NULL DEFAULT 0,
  window_count INTEGER NOT NULL DEFAULT 0,
  group_concurrency INTEGER, group_rate_max INTEGER, group_rate_ms INTEGER,
  completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS job (
  seq INTEGER PRIMARY KEY,
  queue INTEGER NOT NULL, state INTEGER NOT NULL,
  prio INTEGER NOT NULL, pos INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, started INTEGER NOT NULL DEFAULT 0,
  crashed INTEGER NOT NULL DEFAULT 0, extras INTEGER NOT NULL DEFAULT 0,
  owner INTEGER, processed_on INTEGER, finished_on INTEGER,
  priority INTEGER NOT NULL DEFAULT 0, delay INTEGER NOT NULL DEFAULT 0,
  ts INTEGER NOT NULL, pending INTEGER NOT NULL DEFAULT 0,
  ended INTEGER, gone INTEGER, turn INTEGER,
  parent INTEGER, on_failure TEXT, grp TEXT, dedup TEXT, sched TEXT,
  cid TEXT, name TEXT NOT NULL, opts TEXT, data TEXT NOT NULL,
  progress TEXT, result TEXT, failure TEXT, stack TEXT);
CREATE INDEX IF NOT EXISTS job_state ON job(queue, state, prio, pos);
CREATE UNIQUE INDEX IF NOT EXISTS job_cid ON job(queue, cid)
  WHERE cid IS NOT NULL;
CREATE INDEX IF NOT EXISTS job_group ON job(queue, grp, state, prio, pos)
  WHERE grp IS NOT NULL;
CREATE INDEX IF NOT EXISTS job_parent ON job(parent) WHERE parent IS NOT NULL;
CREATE TABLE IF NOT EXISTS owner (
  id INTEGER PRIMARY KEY, pid INTEGER, name TEXT, since INTEGER);
CREATE TABLE IF NOT EXISTS log (
  n INTEGER PRIMARY KEY, job INTEGER NOT NULL, line TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS log_job ON log(job, n);
CREATE TABLE IF NOT EXISTS step (
  job INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (job, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS child (
  parent INTEGER NOT NULL, key TEXT NOT NULL, result TEXT, failure TEXT,
  PRIMARY KEY (parent, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dedup (
  queue INTEGER NOT NULL, id TEXT NOT NULL, job INTEGER NOT NULL,
  until INTEGER, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tenant (
  queue INTEGER NOT NULL, grp TEXT NOT NULL,
  served INTEGER NOT NULL DEFAULT 0,
  window_start INTEGER NOT NULL DEFAULT 0,
  window_count INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (queue, grp)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedule (
  queue INTEGER NOT NULL, id TEXT NOT NULL, spec TEXT NOT NULL,
  name TEXT NOT NULL, data TEXT NOT NULL, opts TEXT,
  next INTEGER, iterations INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS payload (
  n INTEGER PRIMARY KEY, at INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS number (
  name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
DROP TRIGGER IF EXISTS job_gone; -- left what holds a dedup id for its ttl
CREATE TRIGGER IF NOT EXISTS job_went AFTER UPDATE OF gone ON job BEGIN
    DELETE FROM log WHERE job = OLD.seq;
    DELETE FROM step WHERE job = OLD.seq;
    DELETE FROM child WHERE parent = OLD.seq;
    DELETE FROM dedup WHERE queue = OLD.queue AND id = OLD.dedup
      AND job = OLD.seq AND (until IS NULL OR NEW.gone = 2);
    UPDATE job SET pending = pending - 1 WHERE seq = OLD.parent
      AND OLD.state <> 3 AND (OLD.state <> 4 OR OLD.on_failure IS NULL);
    UPDATE job SET prio = priority,
      state = CASE WHEN grp IS NULL THEN 0 ELSE 7 END
      WHERE seq = OLD.parent AND state = 5 AND pending <= 0;
  END;
DROP TRIGGER IF EXISTS group_turn; -- a clock put back stopped its windows
CREATE TRIGGER IF NOT EXISTS group_turns AFTER UPDATE OF turn ON job BEGIN
    UPDATE tenant SET
      served = 1 + (SELECT max(served) FROM tenant WHERE queue = NEW.queue),
      window_count = CASE WHEN NEW.processed_on < window_start
        OR NEW.processed_on >= window_start
        + coalesce((SELECT group_rate_ms FROM queue WHERE id = NEW.queue), 0)
        THEN 1 ELSE window_count + 1 END,
      window_start = CASE WHEN NEW.processed_on < window_start
        OR NEW.processed_on >= window_start
        + coalesce((SELECT group_rate_ms FROM queue WHERE id = NEW.queue), 0)
        THEN NEW.processed_on ELSE window_start END
      WHERE queue = NEW.queue AND grp = NEW.grp;
  END;
CREATE TRIGGER IF NOT EXISTS job_ended AFTER UPDATE OF ended ON job
  WHEN NEW.state IN (3, 4) BEGIN
    DELETE FROM dedup WHERE queue = NEW.queue AND id = NEW.dedup
      AND job = NEW.seq AND until IS NULL;
    INSERT OR REPLACE INTO child(parent, key, result, failure)
      SELECT NEW.parent, name || ':' || coalesce(NEW.cid, NEW.seq),
        CASE NEW.state WHEN 3 THEN coalesce(NEW.result, 'null') END,
        CASE NEW.state WHEN 4 THEN coalesce(NEW.failure, '') END
      FROM queue WHERE id = NEW.queue AND NEW.parent IS NOT NULL
        AND (NEW.state = 3 OR NEW.on_failure IN ('ignore', 'continue'));
    UPDATE job SET extras = 1,
      pending = pending - (NEW.state = 3 OR NEW.on_failure IS NOT NULL)
      WHERE seq = NEW.parent;
    UPDATE job SET state = 4, prio = 0, pos = NEW.pos, ended = 1,
      finished_on = NEW.finished_on, failure = 'child '
        || (SELECT name FROM queue WHERE id = NEW.queue) || ':'
        || coalesce(NEW.cid, NEW.seq) || ' failed'
      WHERE seq = NEW.parent AND state = 5 AND NEW.state = 4
        AND NEW.on_failure = 'fail';
    UPDATE job SET prio = CASE WHEN delay > 0 THEN 0 ELSE priority END,
      pos = NEW.pos + delay * 1000,
      state = CASE WHEN delay > 0 THEN 2 WHEN grp IS NULL THEN 0 ELSE 7 END
      WHERE seq = NEW.parent AND state = 5 AND (pending <= 0
        OR (NEW.state = 4 AND NEW.on_failure = 'continue'));
  END;
CREATE TRIGGER IF NOT EXISTS job_again AFTER UPDATE OF ended ON job
  WHEN NEW.ended IS NULL AND OLD.parent IS NOT NULL
    AND (OLD.state = 3 OR OLD.state = 4 AND OLD.on_failure IS NOT NULL) BEGIN
    UPDATE job SET pending = pending + 1 WHERE seq = OLD.parent;
    DELETE FROM child WHERE parent = OLD.parent AND key =
      (SELECT name FROM queue WHERE id = OLD.queue)
        || ':' || coalesce(OLD.cid, OLD.seq);
  END;
]]

-- perigee.queue.embedded.records knows their places.
local TAKEN = "seq, cid, name, data, opts, ts, priority, attempts, "
  .. "started, crashed, extras, grp, parent, sched, prio, pos"

local START = "UPDATE job SET state = 1, started = started + 1, owner = ?1, "
  .. "processed_on = ?2 WHERE "

-- How many of the n wanted the limits of the queue allow now (?5).
local ALLOWED = [[(SELECT CASE WHEN paused THEN 0 ELSE max(0, min(?4,
  CASE WHEN concurrency IS NULL THEN ?4
    ELSE concurrency - (SELECT count(*) FROM job
      WHERE queue = ?3 AND state = 1) END,
  CASE WHEN rate_max IS NULL THEN ?4
    WHEN ?5 >= window_start + rate_ms OR ?5 < window_start THEN rate_max
    ELSE rate_max - window_count END)) END
  FROM queue WHERE id = ?3)]]

-- owner, now, queue, n, host's now. First they are read, then they are taken: for
-- RETURNING, SQLite would copy each row, old and new, with all its columns.
local NEXT = "FROM job WHERE queue = ?3 AND state = 0 ORDER BY prio, pos LIMIT "
  .. ALLOWED
M.NEXT = "SELECT " .. TAKEN:gsub("started", "started + 1") .. " " .. NEXT
M.CLAIM = START .. "seq IN (SELECT seq " .. NEXT .. ")"

M.CLAIM_SUSPECT = START .. [[seq = (SELECT seq FROM job
    WHERE queue = ?3 AND state = 6 ORDER BY prio, pos LIMIT 1)
  AND NOT EXISTS (SELECT 1 FROM job
    WHERE queue = ?3 AND state = 1 AND crashed >= 2)
  AND ]] .. ALLOWED .. " > 0 RETURNING " .. TAKEN

-- The group whose turn it is: the one served least lately of those that have
-- something and may begin it. One job at a time.
M.CLAIM_GROUP = START:gsub("WHERE $", ", turn = 1 WHERE ") .. [[seq = (SELECT (SELECT seq FROM job j
      WHERE j.queue = t.queue AND j.grp = t.grp AND j.state = 7
      ORDER BY prio, pos LIMIT 1)
    FROM tenant t JOIN queue q ON q.id = t.queue
    WHERE t.queue = ?3
      AND EXISTS (SELECT 1 FROM job j
        WHERE j.queue = t.queue AND j.grp = t.grp AND j.state = 7)
      AND (q.group_concurrency IS NULL OR (SELECT count(*) FROM job j
        WHERE j.queue = t.queue AND j.grp = t.grp AND j.state = 1)
        < q.group_concurrency)
      AND (q.group_rate_max IS NULL
        OR ?2 >= t.window_start + q.group_rate_ms OR ?2 < t.window_start
        OR t.window_count < q.group_rate_max)
    ORDER BY t.served LIMIT 1)
  AND ]] .. ALLOWED .. " > 0 RETURNING " .. TAKEN

-- What precedes it has taken changes() jobs: queue, host's now.
M.COUNT_RATE = [[UPDATE queue SET
  window_count = CASE WHEN ?2 >= window_start + rate_ms
    OR ?2 < window_start THEN changes() ELSE window_count + changes() END,
  window_start = CASE WHEN ?2 >= window_start + rate_ms
    OR ?2 < window_start THEN ?2 ELSE window_start END
  WHERE id = ?1 AND rate_max IS NOT NULL AND changes() > 0]]

-- queue, host's now in microseconds.
M.PROMOTE = [[UPDATE job SET prio = priority, delay = 0,
  state = CASE WHEN grp IS NULL THEN 0 ELSE 7 END
  WHERE queue = ? AND state = 2 AND prio = 0 AND pos <= ?]]

-- What a consumer that found nothing has to know.
M.OUTLOOK = [[SELECT paused, concurrency, rate_max, rate_ms, window_start,
  window_count, group_rate_ms, group_concurrency,
  (SELECT min(pos) FROM job WHERE queue = ?1 AND state = 2 AND prio = 0)
    AS due,
  EXISTS (SELECT 1 FROM job WHERE queue = ?1 AND state = 0) AS waiting,
  EXISTS (SELECT 1 FROM job WHERE queue = ?1 AND state = 6) AS suspects,
  EXISTS (SELECT 1 FROM job WHERE queue = ?1 AND state = 7) AS grouped
  FROM queue WHERE id = ?1]]

-- Whether nothing waits or runs any more.
M.DRAINED = [[SELECT NOT EXISTS (SELECT 1 FROM job WHERE queue = ?1
    AND state IN (0, 1, 6, 7)) AS drained]]

local MINE = " WHERE seq = ? AND state = 1 AND started = ?"
local PLAIN = MINE .. " AND extras = 0"

M.COMPLETE_REMOVE = "DELETE FROM job" .. PLAIN
local COMPLETE = "UPDATE job SET state = 3, prio = 0, pos = ?, "
  .. "finished_on = ?, result = ?, attempts = attempts + 1, owner = NULL, "
  .. "failure = NULL"
M.COMPLETE = COMPLETE .. PLAIN
M.COMPLETE_EXTRAS = COMPLETE .. ", ended = 1" .. MINE
M.FAIL = "UPDATE job SET state = 4, prio = 0, pos = ?, finished_on = ?, "
  .. "failure = ?, stack = ?, attempts = attempts + 1, owner = NULL, "
  .. "ended = 1" .. MINE
M.RETRY = "UPDATE job SET state = CASE WHEN grp IS NULL THEN 0 ELSE 7 END, "
  .. "prio = priority, pos = ?, failure = ?, stack = ?, "
  .. "attempts = attempts + 1, owner = NULL, finished_on = NULL" .. MINE
M.RETRY_LATER = "UPDATE job SET state = 2, prio = 0, pos = ?, delay = ?, "
  .. "failure = ?, stack = ?, attempts = attempts + 1, owner = NULL" .. MINE
local BACK = "UPDATE job SET owner = NULL, state = CASE "
  .. "WHEN crashed >= 2 THEN 6 WHEN grp IS NULL THEN 0 ELSE 7 END "
M.RELEASE = BACK .. MINE
M.RELEASE_ALL = BACK
  .. "WHERE queue IN (SELECT id FROM queue) AND state = 1 AND owner = ?"
-- Two statements that remove jobs: what they leave is cleared first.
local function removal(gone, where)
  return { ("UPDATE job SET gone = %d WHERE extras <> 0 AND "):format(gone)
    .. where, "DELETE FROM job WHERE " .. where }
end

--- Of what somebody removes.
function M.removal(where)
  return removal(2, where)
end

M.REMOVE_ENDED = removal(1, "seq = ?1 AND state IN (3, 4)")
M.HELD = "SELECT 1 AS held FROM job" .. MINE

M.CRASHED_COLUMNS = { "seq", "cid", "queue", "state", "failure" }

-- Of a worker that has died: how often a job may take one with it, its
-- number, now in microseconds and in milliseconds.
M.CRASHED = [[UPDATE job SET crashed = crashed + 1, owner = NULL,
  state = CASE WHEN crashed + 1 >= ?1 THEN 4 WHEN crashed + 1 >= 2 THEN 6
    WHEN grp IS NULL THEN 0 ELSE 7 END,
  prio = CASE WHEN crashed + 1 >= ?1 THEN 0 ELSE prio END, ended = 1,
  pos = CASE WHEN crashed + 1 >= ?1 THEN ?3 ELSE pos END,
  finished_on = CASE WHEN crashed + 1 >= ?1 THEN ?4 END,
  failure = CASE WHEN crashed + 1 >= ?1 THEN
    'its worker died ' || (crashed + 1) || ' times while it ran'
    ELSE failure END
  WHERE queue IN (SELECT id FROM queue) AND state = 1 AND owner = ?2
  RETURNING ]] .. table.concat(M.CRASHED_COLUMNS, ", ")

M.KEEP_COUNT = removal(1, [[seq IN (SELECT seq FROM job
  WHERE queue = ?1 AND state = ?2 ORDER BY prio DESC, pos DESC
  LIMIT -1 OFFSET ?3)]])
M.KEEP_AGE = removal(1,
  "queue = ?1 AND state = ?2 AND prio = 0 AND pos < ?3")

-- A job with its children and theirs, unless one of them runs. $WHERE: which.
local FAMILY = [[WITH RECURSIVE family(seq, state) AS (
    SELECT seq, state FROM job WHERE $WHERE
    UNION ALL SELECT job.seq, job.state
      FROM job JOIN family ON job.parent = family.seq) ]]
local NONE_RUNS = " WHERE seq IN (SELECT seq FROM family) "
  .. "AND NOT EXISTS (SELECT 1 FROM family WHERE state = 1)"
M.REMOVED_COLUMNS = { "seq", "cid", "queue" }
M.REMOVE_FAMILY = {
  FAMILY .. "UPDATE job SET gone = 2" .. NONE_RUNS,
  FAMILY .. "DELETE FROM job" .. NONE_RUNS .. " RETURNING "
    .. table.concat(M.REMOVED_COLUMNS, ", "),
}

--- The parent that a child has released, or taken with it, when it ended at a
--- place.
M.PARENT = "SELECT seq, cid, queue, state, failure, parent FROM job "
  .. "WHERE seq = ?1 AND pos IN (?2, ?2 + delay * 1000)"

-- The next so many numbers for jobs, never given again.
M.NUMBERS = "INSERT INTO number(name, value) VALUES ('job', ?1) "
  .. "ON CONFLICT(name) DO UPDATE SET value = value + ?1 RETURNING value"

M.INSERT = "INSERT INTO job(seq, queue, state, prio, pos, priority, delay, ts, "
  .. "grp, name, opts, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
M.INSERT_CID = "INSERT INTO job(seq, queue, state, prio, pos, priority, "
  .. "delay, ts, grp, name, opts, data, cid, sched) "
  .. "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
  .. "ON CONFLICT DO NOTHING"
-- Only when the statement before it has changed a row.
M.INSERT_IF = "INSERT INTO job(seq, queue, state, prio, pos, priority, "
  .. "delay, ts, grp, name, opts, data, cid, sched) "
  .. "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE changes() = 1 "
  .. "ON CONFLICT DO NOTHING"
-- Their ids end with when they were due.
M.LAST_OF_SCHEDULE = "SELECT cid, started > 0 OR state NOT IN (0, 2, 7) "
  .. "AS begun FROM job WHERE queue = ?1 AND sched = ?2 "
  .. "AND cid > 'repeat:' || ?2 || ':' AND cid < 'repeat:' || ?2 || ';' "
  .. "ORDER BY cid DESC LIMIT 1"
M.TENANT = "INSERT OR IGNORE INTO tenant(queue, grp) VALUES (?, ?)"

return M
