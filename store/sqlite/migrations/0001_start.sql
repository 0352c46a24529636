-- Times are unix milliseconds, 0 = none.

CREATE TABLE requests (
  number      INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE CHECK (id <> ''),
  version     INTEGER NOT NULL CHECK (version > 0),
  app         TEXT NOT NULL,
  environment TEXT NOT NULL,
  status      TEXT NOT NULL,
  revision    TEXT NOT NULL,
  branch      TEXT NOT NULL,
  workflow_id TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  released_at INTEGER NOT NULL,
  body        TEXT NOT NULL, -- JSON of approvals.Request, without its metadata
  metadata    TEXT,          -- as CI sent it; NULL = none
  seen        TEXT NOT NULL  -- JSON of approvals.Seen
) STRICT;

-- A workflow is asked for once, unless the request before it came to nothing.
CREATE UNIQUE INDEX requests_once ON requests (app, environment, workflow_id)
  WHERE status NOT IN ('expired', 'canceled', 'superseded');

-- Within equal keys an index is ordered by number, so that the newest of any
-- app, place, status or branch are found without sorting. See lead in requests.go.
CREATE INDEX requests_by_app ON requests (app);
CREATE INDEX requests_by_app_environment ON requests (app, environment);
CREATE INDEX requests_by_app_status ON requests (app, status);
CREATE INDEX requests_by_app_branch ON requests (app, branch);
CREATE INDEX requests_by_place ON requests (app, environment, status);
CREATE INDEX requests_by_environment ON requests (environment);
CREATE INDEX requests_by_status ON requests (status);
CREATE INDEX requests_by_branch ON requests (branch);
CREATE INDEX requests_by_workflow ON requests (workflow_id);
CREATE INDEX requests_by_revision ON requests (revision);
CREATE INDEX requests_by_time ON requests (created_at);
CREATE INDEX requests_by_release ON requests (app, environment, released_at) WHERE released_at > 0;

-- The cached states of people and tokens.
CREATE TABLE kept (
  kind  TEXT NOT NULL,
  id    TEXT NOT NULL,
  place INTEGER NOT NULL, -- counts within a kind in the order in which they came
  state BLOB NOT NULL,
  PRIMARY KEY (kind, id)
) STRICT;
CREATE UNIQUE INDEX kept_by_place ON kept (kind, place);

-- Keys of the ring that sealed something, with a value that only the same key gives.
CREATE TABLE seal_keys (
  id          TEXT NOT NULL PRIMARY KEY,
  check_value BLOB NOT NULL CHECK (length(check_value) = 32)
) STRICT;

CREATE TABLE secrets (
  name    TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL CHECK (version > 0), -- bound into the seal
  key_id  TEXT NOT NULL REFERENCES seal_keys,
  sealed  BLOB NOT NULL
) STRICT;
CREATE INDEX secrets_by_key ON secrets (key_id);

-- Work that is due.
CREATE TABLE due (
  id            INTEGER PRIMARY KEY, -- what was asked for first goes first, if nothing else tells
  kind          TEXT NOT NULL,
  subject       TEXT NOT NULL,
  lane          TEXT NOT NULL,
  rank          INTEGER NOT NULL,
  due           INTEGER NOT NULL,
  note          TEXT NOT NULL DEFAULT '',
  attempt       INTEGER NOT NULL DEFAULT 0,
  claim         TEXT NOT NULL DEFAULT '',    -- names the claim; '' = none
  node          TEXT NOT NULL DEFAULT '',    -- the process that claimed it
  claimed_until INTEGER NOT NULL DEFAULT 0,
  again         INTEGER NOT NULL DEFAULT 0,  -- when it is due once more, if it was asked for while claimed
  again_rank    INTEGER NOT NULL DEFAULT 0,
  UNIQUE (kind, subject)
) STRICT;
CREATE INDEX due_by_rank ON due (lane, rank, due, id, claimed_until);
CREATE INDEX due_by_time ON due (lane, due, claimed_until);

CREATE TABLE audit (
  seq  INTEGER PRIMARY KEY CHECK (seq >= 0),
  line TEXT NOT NULL -- the bytes that were hashed and are exported
) STRICT;

CREATE TABLE audit_hashes (
  position INTEGER PRIMARY KEY CHECK (position >= 0),
  hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TABLE audit_index (
  subject TEXT NOT NULL CHECK (subject <> ''),
  seq     INTEGER NOT NULL REFERENCES audit,
  PRIMARY KEY (subject, seq)
) STRICT, WITHOUT ROWID;

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

-- What the write probe writes.
CREATE TABLE probe (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  at INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
