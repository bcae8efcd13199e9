-- The whole state of one sandbox. Contents of files lie beside the database, in <database>.files/.
PRAGMA user_version = 1;

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Every plan that was ever in force; a batch keeps the plan it was created under.
CREATE TABLE plan (id INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT;

-- How often the rule number `position` of a list of a plan has been looked at, and has struck.
CREATE TABLE rule (
    plan_id INTEGER NOT NULL REFERENCES plan,
    list TEXT NOT NULL CHECK (list IN ('faults', 'lines', 'batches')),
    position INTEGER NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0,
    fired INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (plan_id, list, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE call (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    operation TEXT NOT NULL,
    key TEXT,
    status INTEGER,
    fault TEXT
) STRICT;
CREATE INDEX call_by_operation ON call (operation);

-- How often each body was asked directly.
CREATE TABLE asked (body TEXT PRIMARY KEY, times INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- A deleted file keeps its row, so that its number is a place in listings; its content is gone.
CREATE TABLE file (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    purpose TEXT NOT NULL,
    filename TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    path TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    listed_at REAL NOT NULL,
    visible_at REAL NOT NULL,
    deleted_at REAL
) STRICT;

CREATE TABLE batch (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    plan_id INTEGER NOT NULL REFERENCES plan,
    endpoint TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    metadata TEXT,
    output_seconds INTEGER,
    fault TEXT,
    status TEXT NOT NULL DEFAULT 'validating' CHECK (status IN (
        'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    listed_at REAL NOT NULL,
    visible_at REAL NOT NULL,
    in_progress_at REAL,
    finalizing_at REAL,
    completed_at REAL,
    failed_at REAL,
    expired_at REAL,
    cancelling_at REAL,
    cancelled_at REAL,
    next_at REAL,                              -- when it moves next; null: never by itself
    -- what the workshop found out
    checked INTEGER NOT NULL DEFAULT 0,
    model TEXT,
    errors TEXT,
    total INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    wanted INTEGER NOT NULL DEFAULT 0,         -- its answers shall be made
    struck INTEGER NOT NULL DEFAULT 0,         -- line faults have been chosen
    stop_at INTEGER NOT NULL DEFAULT 0,        -- so many answers are needed
    answered INTEGER NOT NULL DEFAULT 0,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    error_bytes INTEGER NOT NULL DEFAULT 0,
    -- what has become final
    charged INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    usage TEXT,
    output_file_id TEXT,
    error_file_id TEXT
) STRICT;
CREATE INDEX batch_by_next ON batch (next_at) WHERE next_at IS NOT NULL;

-- The lines of a valid input file, until the batch has ended.
CREATE TABLE request (
    batch INTEGER NOT NULL REFERENCES batch,
    line INTEGER NOT NULL,                     -- its number from 0
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    fault INTEGER,
    PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;

-- Their answers in the order in which they finish, until the batch has ended. The `_end` columns are lengths of the
-- result files after this answer.
CREATE TABLE result (
    batch INTEGER NOT NULL REFERENCES batch,
    position INTEGER NOT NULL,
    line INTEGER NOT NULL,
    output_end INTEGER NOT NULL,
    error_end INTEGER NOT NULL,
    failed_so_far INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cost_pico INTEGER NOT NULL,
    PRIMARY KEY (batch, position)
) STRICT, WITHOUT ROWID;

-- Money: one row for each response that is charged. Never changed, never deleted.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    road TEXT NOT NULL CHECK (road IN ('batch', 'direct', 'flex')),
    batch_id TEXT,
    custom_id TEXT,
    model TEXT NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cost_pico INTEGER NOT NULL
) STRICT;
CREATE INDEX ledger_by_batch ON ledger (batch_id);
