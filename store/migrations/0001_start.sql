-- Times are unix milliseconds, 0 = none. JSON columns are written by one
-- function each, together with the columns taken from them.

CREATE TABLE requests (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE CHECK (id <> ''),
  version     INTEGER NOT NULL CHECK (version > 0),
  app         TEXT NOT NULL,
  environment TEXT NOT NULL,
  status      TEXT NOT NULL,
  revision    TEXT NOT NULL,
  branch      TEXT NOT NULL,
  workflow_id TEXT NOT NULL,
  pipeline_id TEXT NOT NULL,
  project     TEXT NOT NULL,
  job_id      TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL,
  body        TEXT NOT NULL -- approvals.Request, whole
) STRICT;

-- A workflow is asked for once, unless the request before it came to nothing.
CREATE UNIQUE INDEX requests_once ON requests (app, environment, workflow_id)
  WHERE status NOT IN ('expired', 'canceled', 'superseded');
CREATE INDEX requests_by_status ON requests (status);
CREATE INDEX requests_by_app ON requests (app, status);
CREATE INDEX requests_by_workflow ON requests (workflow_id);
CREATE INDEX requests_by_revision ON requests (revision);

CREATE TABLE people (
  slack_id   TEXT NOT NULL PRIMARY KEY CHECK (slack_id <> ''),
  name       TEXT NOT NULL,
  vcs_login  TEXT NOT NULL,
  added_at   INTEGER NOT NULL,
  removed_at INTEGER NOT NULL,
  checked_at INTEGER NOT NULL,
  problem    TEXT NOT NULL
) STRICT;

-- Keys of the ring that sealed something, with a value that only the same key gives.
CREATE TABLE seal_keys (
  id          TEXT NOT NULL PRIMARY KEY,
  check_value BLOB NOT NULL CHECK (length(check_value) = 32)
) STRICT;

CREATE TABLE authenticators (
  slack_id    TEXT NOT NULL PRIMARY KEY REFERENCES people,
  version     INTEGER NOT NULL CHECK (version > 0), -- bound into the seal
  key_id      TEXT NOT NULL REFERENCES seal_keys,
  sealed      BLOB NOT NULL,
  enrolled_at INTEGER NOT NULL,
  enrolled_by TEXT NOT NULL,
  first_used  INTEGER NOT NULL,
  last_step   INTEGER NOT NULL,
  failures    INTEGER NOT NULL,
  wait_until  INTEGER NOT NULL,
  disabled    INTEGER NOT NULL CHECK (disabled IN (0, 1))
) STRICT;
CREATE INDEX authenticators_by_key ON authenticators (key_id);

CREATE TABLE groups (
  id         TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  handle     TEXT NOT NULL,
  members    TEXT NOT NULL, -- JSON list of Slack user ids
  checked_at INTEGER NOT NULL,
  problem    TEXT NOT NULL
) STRICT;

CREATE TABLE tokens (
  id           TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  name         TEXT NOT NULL,
  role         TEXT NOT NULL,
  apps         TEXT, -- JSON list, NULL = all
  hash         BLOB NOT NULL CHECK (length(hash) = 32),
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  revoked_at   INTEGER NOT NULL,
  last_used_at INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  kind        TEXT NOT NULL,
  lane        TEXT NOT NULL,
  chain       TEXT NOT NULL,
  dedupe      TEXT UNIQUE CHECK (dedupe <> ''),
  priority    INTEGER NOT NULL,
  request     TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  payload     TEXT NOT NULL,
  -- 0 waits for due, 1 may be claimed, 2 claimed, 3 behind an older one of its chain
  state       INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
  due         INTEGER NOT NULL,
  attempt     INTEGER NOT NULL DEFAULT 0,
  lease_until INTEGER NOT NULL DEFAULT 0,
  nudge       INTEGER NOT NULL DEFAULT 0, -- when it was asked for again while claimed
  since       INTEGER NOT NULL,
  reason      TEXT NOT NULL DEFAULT '' -- why the last delivery has to be repeated
) STRICT;
CREATE INDEX outbox_by_place ON outbox (lane, state, priority, due, id);
CREATE INDEX outbox_by_due ON outbox (lane, state, due);
CREATE INDEX outbox_by_chain ON outbox (lane, chain, id);
-- One claim of a lane at a time.
CREATE UNIQUE INDEX outbox_one_claim ON outbox (CASE state WHEN 2 THEN lane END);

-- The lanes that have rows, so that a claim need not look at the rows of the others.
CREATE TABLE lanes (
  lane   TEXT NOT NULL PRIMARY KEY,
  family TEXT NOT NULL,
  wake   INTEGER NOT NULL -- when something in it can be claimed next
) STRICT;
CREATE INDEX lanes_by_wake ON lanes (family, wake);

CREATE TABLE audit (
  seq  INTEGER PRIMARY KEY CHECK (seq >= 0),
  line TEXT NOT NULL -- the bytes that were hashed and are exported
) STRICT;

CREATE TABLE audit_hashes (
  position INTEGER PRIMARY KEY CHECK (position >= 0),
  hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TABLE audit_index (
  seq     INTEGER PRIMARY KEY REFERENCES audit,
  request TEXT NOT NULL,
  app     TEXT NOT NULL,
  type    TEXT NOT NULL
) STRICT;
CREATE INDEX audit_index_by_request ON audit_index (request);

-- A guard rail against mistakes. The evidence is the signed tree.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER audit_hashes_no_update BEFORE UPDATE ON audit_hashes
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER audit_hashes_no_delete BEFORE DELETE ON audit_hashes
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER audit_index_no_update BEFORE UPDATE ON audit_index
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER audit_index_no_delete BEFORE DELETE ON audit_index
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

CREATE TABLE vars (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE secrets (
  name    TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL CHECK (version > 0), -- bound into the seal
  key_id  TEXT NOT NULL REFERENCES seal_keys,
  sealed  BLOB NOT NULL
) STRICT;
CREATE INDEX secrets_by_key ON secrets (key_id);

-- What the write probe writes.
CREATE TABLE probe (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  at INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
