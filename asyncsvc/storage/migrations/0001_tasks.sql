-- Bodies and results live beside the tasks, so that a change of state never rewrites them
-- and a list never reads them.
CREATE TABLE tasks (
    n             INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    state         TEXT NOT NULL,
    type          TEXT NOT NULL,
    lane          TEXT NOT NULL,
    priority      INTEGER NOT NULL,
    wanted_model  TEXT,
    session_id    TEXT,
    owner         TEXT,
    run_at        INTEGER,
    timeout_s     REAL,
    max_retries   INTEGER,
    retry_unsafe  INTEGER NOT NULL,
    cache         INTEGER,
    cache_key     TEXT,
    user_metadata TEXT,
    preview       TEXT NOT NULL,
    decision      TEXT,
    need          INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    tokens        INTEGER NOT NULL,
    schedule_id   TEXT,
    callback_url  TEXT,
    attempts      INTEGER NOT NULL,
    forgiven      INTEGER NOT NULL,
    starts        INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    queued_at     INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER,
    next_run_at   INTEGER,
    name          TEXT,
    model         TEXT,
    route         TEXT,
    usage         TEXT,
    latency       REAL,
    cached        INTEGER NOT NULL,
    error         TEXT,
    finish_reason TEXT,
    result_preview TEXT
) STRICT;

CREATE INDEX tasks_unfinished ON tasks (n)
    WHERE state IN ('scheduled', 'pending', 'running', 'paused');
CREATE INDEX tasks_by_state ON tasks (state, n);
CREATE INDEX tasks_by_session ON tasks (session_id, n) WHERE session_id IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX tasks_by_name ON tasks (name, state);

CREATE TABLE bodies (
    task_n INTEGER PRIMARY KEY REFERENCES tasks (n) ON DELETE CASCADE,
    body   BLOB NOT NULL
) STRICT;

CREATE TABLE results (
    task_n INTEGER PRIMARY KEY REFERENCES tasks (n) ON DELETE CASCADE,
    result TEXT NOT NULL
) STRICT;

-- AUTOINCREMENT: an id is never used twice, not even after the newest events were deleted.
CREATE TABLE events (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    task_n INTEGER NOT NULL, -- no reference: of a purged task they go later, a few at a time
    seq    INTEGER NOT NULL,
    type   TEXT NOT NULL,
    ts     INTEGER NOT NULL,
    data   TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_of_task ON events (task_n, seq);

-- When each call upstream began, written before it: the rate windows survive a restart by it.
CREATE TABLE calls (
    gate   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    tokens INTEGER NOT NULL
) STRICT;

CREATE INDEX calls_by_time ON calls (at);

-- What the service remembers beside its tasks, by kind: answers, limits that it has learned.
CREATE TABLE kept (
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    at    INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

CREATE INDEX kept_by_age ON kept (kind, at);

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    task_n      INTEGER NOT NULL REFERENCES tasks (n) ON DELETE CASCADE,
    answer      TEXT NOT NULL
) STRICT;

CREATE INDEX idempotency_by_task ON idempotency (task_n);

-- Finished tasks of which somebody wants to be told: written with the end itself. `seq` is that
-- of the closing event, so that an end and the one after a /retry are told apart.
CREATE TABLE callbacks (
    task_n      INTEGER PRIMARY KEY REFERENCES tasks (n) ON DELETE CASCADE,
    seq         INTEGER NOT NULL,
    host        TEXT NOT NULL,
    state       TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    last_status INTEGER,
    last_error  TEXT,
    next_at     INTEGER
) STRICT;

CREATE INDEX callbacks_due ON callbacks (next_at, task_n, host) WHERE state = 'pending';

-- Tasks that are gone and of which events are left. Their numbers must not be given again.
CREATE TABLE purged (
    task_n INTEGER PRIMARY KEY
) STRICT;

-- What /v1/responses was asked, beside the task that does it.
CREATE TABLE responses (
    task_n  INTEGER PRIMARY KEY REFERENCES tasks (n) ON DELETE CASCADE,
    request BLOB NOT NULL
) STRICT;

-- Files: `state` is open (being uploaded), growing (an output), ready, or gone (being deleted).
CREATE TABLE files (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    filename   TEXT NOT NULL,
    purpose    TEXT NOT NULL,
    state      TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE INDEX files_by_expiry ON files (expires_at) WHERE expires_at IS NOT NULL;

-- A file in pieces; `at` is the offset of the piece's first byte.
CREATE TABLE pieces (
    file_n INTEGER NOT NULL REFERENCES files (n),
    at     INTEGER NOT NULL,
    data   BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX pieces_of_file ON pieces (file_n, at);

-- Lines of a file that become tasks. `job` is how far it is and what it is to become, as JSON.
CREATE TABLE batches (
    n     INTEGER PRIMARY KEY AUTOINCREMENT,
    id    TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    job   TEXT NOT NULL
) STRICT;

CREATE INDEX batches_by_state ON batches (state, n);

-- Lines that are tasks, and of which the answer is not in an output file yet. `form` is how the
-- answer is wanted, where there is a choice.
CREATE TABLE batch_lines (
    batch_n   INTEGER NOT NULL REFERENCES batches (n) ON DELETE CASCADE,
    line      INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    task_id   TEXT NOT NULL,
    form      TEXT,
    PRIMARY KEY (batch_n, line)
) STRICT;
