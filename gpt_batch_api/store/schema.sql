-- The store of one task: one SQLite file, the only truth about it.
--
-- What must stay true stands here as constraints and triggers, so that no code can break it:
--   * a request is known by (sample, purpose, number) and is in exactly one state (`legal_move` lists all moves);
--   * the counts of a sample and of each state (`tally`) move in the same transaction as the request;
--   * money moves only by lines of `ledger`; `account` is their sum, and no reservation becomes negative;
--   * each try of a request has one response, each batch at most one open push.
-- Money is whole picodollars, time is seconds since 1970, sizes are bytes.

CREATE TABLE task (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    uuid             TEXT    NOT NULL,
    kind             TEXT    NOT NULL,               -- the task's class
    created_at       REAL    NOT NULL,
    metadata         TEXT    NOT NULL CHECK (json_valid(metadata)),
    metadata_version INTEGER NOT NULL DEFAULT 1,     -- raised by reinit_meta
    server           TEXT CHECK (server IS NULL OR json_valid(server)),  -- where its remote things are
    era              INTEGER NOT NULL DEFAULT 1,     -- raised by wipe_task: older ledger lines are an archive
    epoch            INTEGER NOT NULL DEFAULT 1,     -- raised by every wipe: part of each custom_id
    next_batch       INTEGER NOT NULL DEFAULT 1,
    generation       INTEGER NOT NULL DEFAULT 1,     -- of the output: raised when delivered rows are taken back
    wiping           TEXT CHECK (wiping IN ('requests', 'failed', 'task')),
    complete         INTEGER NOT NULL DEFAULT 0 CHECK (complete IN (0, 1)),
    postprocessed    TEXT                            -- up to which rows the output was post-processed
) STRICT;

CREATE TABLE session (
    id         INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    ended_at   REAL,
    pid        INTEGER NOT NULL,
    host       TEXT NOT NULL,
    settings   TEXT NOT NULL CHECK (json_valid(settings)),
    outcome    TEXT
) STRICT;

-- ---------------------------------------------------------------- samples and requests

CREATE TABLE sample (
    id        INTEGER PRIMARY KEY,
    key       TEXT NOT NULL UNIQUE,
    state     TEXT CHECK (state IS NULL OR json_valid(state)),   -- the task's own
    open      INTEGER NOT NULL DEFAULT 0 CHECK (open >= 0),
    succeeded INTEGER NOT NULL DEFAULT 0 CHECK (succeeded >= 0),
    failed    INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    status    TEXT NOT NULL GENERATED ALWAYS AS (
        CASE WHEN open > 0 OR succeeded + failed = 0 THEN 'pending'
             WHEN failed = 0 THEN 'succeeded'
             WHEN succeeded = 0 THEN 'failed'
             ELSE 'mixed' END) VIRTUAL
) STRICT;

CREATE TABLE response_schema (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    json   TEXT NOT NULL CHECK (json_valid(json)),
    python TEXT NOT NULL,                       -- module:qualname of the model, '' for a plain JSON schema
    UNIQUE (json, python)
) STRICT;

CREATE TABLE request (
    id               INTEGER PRIMARY KEY,
    sample_id        INTEGER NOT NULL REFERENCES sample (id),
    purpose          TEXT    NOT NULL,
    number           INTEGER NOT NULL,
    asked_by_task    INTEGER NOT NULL DEFAULT 0 CHECK (asked_by_task IN (0, 1)),  -- 0: by the generator
    epoch            INTEGER NOT NULL,
    metadata_version INTEGER NOT NULL,
    endpoint         TEXT    NOT NULL,
    model            TEXT    NOT NULL,
    schema_id        INTEGER REFERENCES response_schema (id),
    payload_hash     BLOB    NOT NULL,
    meta             TEXT CHECK (meta IS NULL OR json_valid(meta)),
    size_bytes       INTEGER NOT NULL CHECK (size_bytes > 0),      -- of its line in a batch file
    input_tokens     INTEGER NOT NULL CHECK (input_tokens >= 0),   -- estimated
    sureness         TEXT    NOT NULL,                             -- of the estimate
    max_output_tokens INTEGER,                                     -- NULL: the request sets no maximum
    output_allowance INTEGER NOT NULL CHECK (output_allowance >= 0),
    state            TEXT    NOT NULL DEFAULT 'queued',
    attempt          INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    tries            INTEGER NOT NULL DEFAULT 0,                   -- responses so far, free ones included
    expiries         INTEGER NOT NULL DEFAULT 0,
    batch_id         INTEGER REFERENCES batch (id),
    line             INTEGER,                                      -- in the batch file, from 1
    twin_of          INTEGER REFERENCES request (id),              -- the identical request that is asked for both
    reason           TEXT,                                         -- why it is held or failed
    UNIQUE (sample_id, purpose, number),
    CHECK ((batch_id IS NOT NULL) = (state = 'batched')),
    CHECK ((line IS NOT NULL) = (state = 'batched')),
    CHECK ((twin_of IS NOT NULL) = (state = 'twin'))
) STRICT;
CREATE INDEX request_queue ON request (endpoint, model, id) WHERE state = 'queued';
CREATE INDEX request_expired ON request (endpoint, model, expiries) WHERE state = 'queued' AND expiries > 0;
CREATE INDEX request_twin ON request (twin_of) WHERE twin_of IS NOT NULL;
CREATE INDEX request_held ON request (id) WHERE state = 'held';
CREATE INDEX request_batch ON request (batch_id, line) WHERE batch_id IS NOT NULL;

CREATE TABLE payload (
    request_id INTEGER PRIMARY KEY REFERENCES request (id) ON DELETE CASCADE,
    body       BLOB NOT NULL                     -- packed, see codec.py
) STRICT;

CREATE TABLE content (                           -- images and files, once each
    hash BLOB PRIMARY KEY,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- batches and their way to the server

CREATE TABLE batch (
    id               INTEGER PRIMARY KEY,        -- the N of its file name
    endpoint         TEXT NOT NULL,
    model            TEXT NOT NULL,
    state            TEXT NOT NULL DEFAULT 'sealed',
    file_name        TEXT NOT NULL,
    sha256           TEXT NOT NULL,
    plan             TEXT NOT NULL,              -- fingerprint of the limits and prices it was made with
    requests         INTEGER NOT NULL CHECK (requests > 0),
    size_bytes       INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    output_allowance INTEGER NOT NULL,
    expected_output_tokens INTEGER NOT NULL,
    cost_pico        INTEGER NOT NULL,           -- what a push reserves
    expected_cost_pico INTEGER NOT NULL DEFAULT 0,
    session_id       INTEGER REFERENCES session (id),   -- that pushed it
    sealed_at        REAL NOT NULL,
    pushed_at        REAL,
    moved_at         REAL,                       -- when the server's report last changed
    ended_at         REAL,
    settled_at       REAL,
    closed_at        REAL,
    not_before       REAL,                       -- pushed again only then (token limit)
    remote_id        TEXT UNIQUE,
    remote_status    TEXT,
    output_file_id   TEXT,
    error_file_id    TEXT,
    count_total      INTEGER,
    count_completed  INTEGER,
    count_failed     INTEGER,
    report           TEXT CHECK (report IS NULL OR json_valid(report)),   -- the server's last words on it
    failure          TEXT,                       -- why it is a failed batch
    failure_open     INTEGER NOT NULL DEFAULT 0 CHECK (failure_open IN (0, 1)),  -- waits for the user's decision
    discard          INTEGER NOT NULL DEFAULT 0 CHECK (discard IN (0, 1)),   -- wiped: book its cost, drop its rows
    n_succeeded      INTEGER NOT NULL DEFAULT 0,
    n_retried        INTEGER NOT NULL DEFAULT 0,
    n_failed         INTEGER NOT NULL DEFAULT 0,
    n_held           INTEGER NOT NULL DEFAULT 0,
    n_free           INTEGER NOT NULL DEFAULT 0,
    used_input_tokens  INTEGER,
    used_output_tokens INTEGER,
    used_output_allowance INTEGER,               -- of the requests that were answered
    longest_output_tokens INTEGER,
    true_cost_pico   INTEGER,
    passed           INTEGER CHECK (passed IN (0, 1)),   -- NULL until the task has seen all its answers
    answered_input_tokens  INTEGER,              -- predicted, of the requests that were answered, like the next
    answered_output_tokens INTEGER,
    CHECK ((state IN ('remote', 'ended', 'settled')) <= (remote_id IS NOT NULL))
) STRICT;
CREATE INDEX batch_state ON batch (state);
CREATE INDEX batch_unweighed ON batch (id) WHERE passed IS NULL AND discard = 0 AND state IN ('settled', 'closed');
CREATE INDEX batch_failure ON batch (id) WHERE failure_open = 1;

CREATE TABLE push (
    id           INTEGER PRIMARY KEY,
    batch_id     INTEGER NOT NULL REFERENCES batch (id),
    state        TEXT NOT NULL,
    upload_nonce TEXT NOT NULL,                  -- in the file name on the server
    upload_at    REAL NOT NULL,                  -- when it was intended, then: when it was done; by the server's clock
    file_id      TEXT,
    create_nonce TEXT UNIQUE,                    -- in the metadata of the batch
    create_at    REAL,                           -- when it was intended, likewise
    over_at      REAL,                           -- by when the last call was over, likewise; NULL: not looked for yet
    remote_id    TEXT UNIQUE,
    look_at      REAL,                           -- when to look for it on the server; NULL: at once
    orphan       INTEGER NOT NULL DEFAULT 0 CHECK (orphan IN (0, 1)),   -- a file of it may yet turn up
    outcome      TEXT,
    CHECK (state NOT IN ('uploaded', 'creating') OR file_id IS NOT NULL),
    CHECK (state <> 'creating' OR create_nonce IS NOT NULL),
    CHECK (state <> 'created' OR remote_id IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX push_open ON push (batch_id) WHERE state IN ('uploading', 'uploaded', 'creating');
CREATE INDEX push_of_batch ON push (batch_id);
CREATE INDEX push_orphan ON push (id) WHERE orphan = 1;

CREATE TABLE server_file (
    file_id  TEXT PRIMARY KEY,
    batch_id INTEGER NOT NULL REFERENCES batch (id),
    role     TEXT NOT NULL CHECK (role IN ('input', 'output', 'error')),
    deleted  INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX server_file_present ON server_file (batch_id) WHERE deleted = 0;

CREATE TABLE model_limit (                       -- learnt from the server's refusals
    model           TEXT PRIMARY KEY,
    enqueued_tokens INTEGER NOT NULL CHECK (enqueued_tokens > 0),
    learnt_at       REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- direct calls

CREATE TABLE direct_call (                       -- one row for each request that is 'sending'
    request_id    INTEGER PRIMARY KEY REFERENCES request (id),
    session_id    INTEGER NOT NULL REFERENCES session (id),
    road          TEXT    NOT NULL CHECK (road IN ('direct', 'flex')),
    input_tokens  INTEGER NOT NULL CHECK (input_tokens >= 0),
    reserved_pico INTEGER NOT NULL CHECK (reserved_pico >= 0)
) STRICT;

CREATE TABLE direct_group (                      -- answers to direct calls that are looked at together, as a batch is
    id               INTEGER PRIMARY KEY,
    session_id       INTEGER NOT NULL REFERENCES session (id),
    opened_at        REAL NOT NULL,
    closed_at        REAL,
    requests         INTEGER NOT NULL DEFAULT 0,
    input_tokens     INTEGER NOT NULL DEFAULT 0, -- estimated
    cost_pico        INTEGER NOT NULL DEFAULT 0, -- reserved
    expected_cost_pico     INTEGER NOT NULL DEFAULT 0,
    expected_input_tokens  INTEGER NOT NULL DEFAULT 0,   -- of those that were answered
    expected_output_tokens INTEGER NOT NULL DEFAULT 0,
    n_succeeded      INTEGER NOT NULL DEFAULT 0,
    n_retried        INTEGER NOT NULL DEFAULT 0,
    n_failed         INTEGER NOT NULL DEFAULT 0,
    n_held           INTEGER NOT NULL DEFAULT 0,
    n_free           INTEGER NOT NULL DEFAULT 0,
    used_input_tokens     INTEGER NOT NULL DEFAULT 0,
    used_output_tokens    INTEGER NOT NULL DEFAULT 0,
    used_output_allowance INTEGER NOT NULL DEFAULT 0,
    longest_output_tokens INTEGER NOT NULL DEFAULT 0,
    true_cost_pico   INTEGER NOT NULL DEFAULT 0,
    failure          TEXT,                       -- why it counts as a failed batch
    failure_open     INTEGER NOT NULL DEFAULT 0 CHECK (failure_open IN (0, 1)),
    passed           INTEGER CHECK (passed IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX direct_group_open ON direct_group (session_id) WHERE closed_at IS NULL;
CREATE INDEX direct_group_unweighed ON direct_group (id) WHERE passed IS NULL AND closed_at IS NOT NULL;
CREATE INDEX direct_group_failure ON direct_group (id) WHERE failure_open = 1;

-- ---------------------------------------------------------------- answers, samples' rows, deliveries

CREATE TABLE response (
    id                 INTEGER PRIMARY KEY,
    request_id         INTEGER NOT NULL REFERENCES request (id) ON DELETE CASCADE,
    try                INTEGER NOT NULL,
    attempt            INTEGER NOT NULL,
    batch_id           INTEGER REFERENCES batch (id),      -- NULL: it came by a direct call
    group_id           INTEGER REFERENCES direct_group (id),
    received_at        REAL NOT NULL,
    status_code        INTEGER,
    verdict            TEXT NOT NULL CHECK (verdict IN ('success', 'retryable', 'free', 'fatal', 'account')),
    reason             TEXT NOT NULL,
    message            TEXT NOT NULL,
    input_tokens       INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    cost_pico          INTEGER NOT NULL CHECK (cost_pico >= 0),
    handed             INTEGER CHECK (handed IN (0, 1)),   -- to the task's code; NULL: never to be
    task_verdict       TEXT,                               -- what parser and task's code made of it
    task_reason        TEXT,
    task_message       TEXT,
    CHECK ((handed IS 1) = (task_verdict IS NOT NULL)),
    UNIQUE (request_id, try),
    CHECK (batch_id IS NULL OR group_id IS NULL)
) STRICT;
CREATE INDEX response_to_hand ON response (id) WHERE handed = 0;
CREATE INDEX response_to_hand_of_batch ON response (batch_id) WHERE handed = 0;
CREATE INDEX response_to_hand_of_group ON response (group_id) WHERE handed = 0;
CREATE INDEX response_batch ON response (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX response_group ON response (group_id) WHERE group_id IS NOT NULL;

CREATE TABLE raw_response (
    response_id INTEGER PRIMARY KEY REFERENCES response (id) ON DELETE CASCADE,
    body        BLOB NOT NULL                    -- packed, see codec.py
) STRICT;

CREATE TABLE output (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice: deliveries count on it
    sample_id  INTEGER NOT NULL REFERENCES sample (id),
    request_id INTEGER REFERENCES request (id) ON DELETE SET NULL,
    row        TEXT NOT NULL CHECK (json_valid(row))
) STRICT;
CREATE INDEX output_sample ON output (sample_id);
CREATE INDEX output_request ON output (request_id) WHERE request_id IS NOT NULL;

CREATE TABLE delivery (                          -- what of the output stands in which file, one row per part
    part       INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    file_name  TEXT NOT NULL,
    rows       INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    crc32      INTEGER NOT NULL,
    last_output INTEGER NOT NULL
) STRICT;

-- ---------------------------------------------------------------- what answers teach, and what they cost

CREATE TABLE answer_kind (                       -- how long answers were, by kind of request; 0 stands for NULL
    id                INTEGER PRIMARY KEY,
    endpoint          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    max_output_tokens INTEGER NOT NULL,
    output_allowance  INTEGER NOT NULL,
    schema_id         INTEGER NOT NULL,
    answers           INTEGER NOT NULL CHECK (answers > 0),
    output_tokens     INTEGER NOT NULL,
    longest           INTEGER NOT NULL,
    cut_off           INTEGER NOT NULL,
    UNIQUE (endpoint, model, max_output_tokens, output_allowance, schema_id)
) STRICT;

CREATE TABLE answer_length (                     -- the same, counted in buckets (`tokens.calibrate`)
    kind_id INTEGER NOT NULL REFERENCES answer_kind (id) ON DELETE CASCADE,
    bucket  INTEGER NOT NULL,
    answers INTEGER NOT NULL CHECK (answers > 0),
    PRIMARY KEY (kind_id, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE spending (                          -- what the responses that are stored cost, as it stands now
    model         TEXT    NOT NULL,
    road          TEXT    NOT NULL CHECK (road IN ('batch', 'direct', 'copy')),   -- copy: of an identical request's
    attempt       INTEGER NOT NULL,
    verdict       TEXT    NOT NULL,              -- of the task, once it has seen the answer
    reason        TEXT    NOT NULL,
    answers       INTEGER NOT NULL CHECK (answers >= 0),
    input_tokens  INTEGER NOT NULL CHECK (input_tokens >= 0),
    output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
    cost_pico     INTEGER NOT NULL CHECK (cost_pico >= 0),
    cached_tokens      INTEGER NOT NULL DEFAULT 0 CHECK (cached_tokens >= 0),        -- of the input, like the next
    cache_write_tokens INTEGER NOT NULL DEFAULT 0 CHECK (cache_write_tokens >= 0),
    reasoning_tokens   INTEGER NOT NULL DEFAULT 0 CHECK (reasoning_tokens >= 0),     -- of the output
    PRIMARY KEY (model, road, attempt, verdict, reason)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER response_counts AFTER INSERT ON response BEGIN
    INSERT INTO spending SELECT model, iif(NEW.batch_id IS NOT NULL, 'batch', iif(NEW.group_id IS NOT NULL, 'direct', 'copy')), NEW.attempt,
        coalesce(NEW.task_verdict, NEW.verdict), coalesce(NEW.task_reason, NEW.reason),
        1, NEW.input_tokens, NEW.output_tokens, NEW.cost_pico,
        NEW.cached_tokens, NEW.cache_write_tokens, NEW.reasoning_tokens FROM request WHERE id = NEW.request_id
    ON CONFLICT DO UPDATE SET
        answers = answers + 1, input_tokens = input_tokens + NEW.input_tokens,
        output_tokens = output_tokens + NEW.output_tokens, cost_pico = cost_pico + NEW.cost_pico,
        cached_tokens = cached_tokens + NEW.cached_tokens, cache_write_tokens = cache_write_tokens + NEW.cache_write_tokens,
        reasoning_tokens = reasoning_tokens + NEW.reasoning_tokens;
END;

CREATE TRIGGER response_is_judged AFTER UPDATE OF task_verdict, task_reason ON response
WHEN coalesce(OLD.task_verdict, OLD.verdict) <> coalesce(NEW.task_verdict, NEW.verdict)
    OR coalesce(OLD.task_reason, OLD.reason) <> coalesce(NEW.task_reason, NEW.reason) BEGIN
    UPDATE spending SET
        answers = answers - 1, input_tokens = input_tokens - OLD.input_tokens,
        output_tokens = output_tokens - OLD.output_tokens, cost_pico = cost_pico - OLD.cost_pico,
        cached_tokens = cached_tokens - OLD.cached_tokens, cache_write_tokens = cache_write_tokens - OLD.cache_write_tokens,
        reasoning_tokens = reasoning_tokens - OLD.reasoning_tokens
    WHERE model = (SELECT model FROM request WHERE id = OLD.request_id)
        AND road = iif(OLD.batch_id IS NOT NULL, 'batch', iif(OLD.group_id IS NOT NULL, 'direct', 'copy')) AND attempt = OLD.attempt
        AND verdict = coalesce(OLD.task_verdict, OLD.verdict) AND reason = coalesce(OLD.task_reason, OLD.reason);
    INSERT INTO spending SELECT model, iif(NEW.batch_id IS NOT NULL, 'batch', iif(NEW.group_id IS NOT NULL, 'direct', 'copy')), NEW.attempt,
        coalesce(NEW.task_verdict, NEW.verdict), coalesce(NEW.task_reason, NEW.reason),
        1, NEW.input_tokens, NEW.output_tokens, NEW.cost_pico,
        NEW.cached_tokens, NEW.cache_write_tokens, NEW.reasoning_tokens FROM request WHERE id = NEW.request_id
    ON CONFLICT DO UPDATE SET
        answers = answers + 1, input_tokens = input_tokens + NEW.input_tokens,
        output_tokens = output_tokens + NEW.output_tokens, cost_pico = cost_pico + NEW.cost_pico,
        cached_tokens = cached_tokens + NEW.cached_tokens, cache_write_tokens = cache_write_tokens + NEW.cache_write_tokens,
        reasoning_tokens = reasoning_tokens + NEW.reasoning_tokens;
END;

CREATE TRIGGER response_leaves AFTER DELETE ON response BEGIN
    UPDATE spending SET
        answers = answers - 1, input_tokens = input_tokens - OLD.input_tokens,
        output_tokens = output_tokens - OLD.output_tokens, cost_pico = cost_pico - OLD.cost_pico,
        cached_tokens = cached_tokens - OLD.cached_tokens, cache_write_tokens = cache_write_tokens - OLD.cache_write_tokens,
        reasoning_tokens = reasoning_tokens - OLD.reasoning_tokens
    WHERE model = (SELECT model FROM request WHERE id = OLD.request_id)
        AND road = iif(OLD.batch_id IS NOT NULL, 'batch', iif(OLD.group_id IS NOT NULL, 'direct', 'copy')) AND attempt = OLD.attempt
        AND verdict = coalesce(OLD.task_verdict, OLD.verdict) AND reason = coalesce(OLD.task_reason, OLD.reason);
END;

CREATE TRIGGER request_takes_its_responses BEFORE DELETE ON request BEGIN   -- while it can still say its model
    DELETE FROM response WHERE request_id = OLD.id;
END;

-- ---------------------------------------------------------------- money, and what happened

CREATE TABLE ledger (
    id            INTEGER PRIMARY KEY,
    at            REAL NOT NULL,
    era           INTEGER NOT NULL,
    session_id    INTEGER NOT NULL REFERENCES session (id),
    kind          TEXT NOT NULL CHECK (kind IN ('reserve', 'release', 'settle', 'unknown', 'discard', 'wipe')),
    batch_id      INTEGER,
    requests      INTEGER NOT NULL DEFAULT 0,
    input_tokens  INTEGER NOT NULL DEFAULT 0,
    reserved_pico INTEGER NOT NULL DEFAULT 0,
    spent_pico    INTEGER NOT NULL DEFAULT 0,
    unlinked_pico INTEGER NOT NULL DEFAULT 0,    -- spent, but no response row of this store carries it
    note          TEXT
) STRICT;
CREATE INDEX ledger_batch ON ledger (batch_id) WHERE batch_id IS NOT NULL;

CREATE TABLE account (
    era           INTEGER NOT NULL,
    session_id    INTEGER NOT NULL,
    requests      INTEGER NOT NULL CHECK (requests >= 0),
    input_tokens  INTEGER NOT NULL CHECK (input_tokens >= 0),
    reserved_pico INTEGER NOT NULL CHECK (reserved_pico >= 0),
    spent_pico    INTEGER NOT NULL CHECK (spent_pico >= 0),
    unlinked_pico INTEGER NOT NULL CHECK (unlinked_pico >= 0),
    PRIMARY KEY (era, session_id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_books AFTER INSERT ON ledger BEGIN
    INSERT OR IGNORE INTO account VALUES (NEW.era, NEW.session_id, 0, 0, 0, 0, 0);
    UPDATE account SET
        requests = requests + NEW.requests,
        input_tokens = input_tokens + NEW.input_tokens,
        reserved_pico = reserved_pico + NEW.reserved_pico,
        spent_pico = spent_pico + NEW.spent_pico,
        unlinked_pico = unlinked_pico + NEW.unlinked_pico
    WHERE era = NEW.era AND session_id = NEW.session_id;
END;
CREATE TRIGGER ledger_is_final BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'ledger lines are final'); END;
CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'ledger lines are kept'); END;

CREATE TABLE event (
    id         INTEGER PRIMARY KEY,
    at         REAL NOT NULL,
    session_id INTEGER REFERENCES session (id),
    kind       TEXT NOT NULL,
    batch_id   INTEGER,
    data       TEXT NOT NULL CHECK (json_valid(data))
) STRICT;
CREATE INDEX event_kind ON event (kind, id);

-- ---------------------------------------------------------------- legal moves and counts that cannot drift

CREATE TABLE legal_move (
    kind   TEXT NOT NULL,
    before TEXT NOT NULL,
    after  TEXT NOT NULL,
    PRIMARY KEY (kind, before, after)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER request_moves_legally BEFORE UPDATE OF state ON request
WHEN NOT EXISTS (SELECT 1 FROM legal_move WHERE kind = 'request' AND before = OLD.state AND after = NEW.state)
BEGIN SELECT RAISE(ABORT, 'illegal move of a request'); END;

CREATE TRIGGER batch_moves_legally BEFORE UPDATE OF state ON batch
WHEN NOT EXISTS (SELECT 1 FROM legal_move WHERE kind = 'batch' AND before = OLD.state AND after = NEW.state)
BEGIN SELECT RAISE(ABORT, 'illegal move of a batch'); END;

CREATE TRIGGER push_moves_legally BEFORE UPDATE OF state ON push
WHEN NOT EXISTS (SELECT 1 FROM legal_move WHERE kind = 'push' AND before = OLD.state AND after = NEW.state)
BEGIN SELECT RAISE(ABORT, 'illegal move of a push'); END;

CREATE TRIGGER request_begins_queued BEFORE INSERT ON request WHEN NEW.state <> 'queued'
BEGIN SELECT RAISE(ABORT, 'illegal first state of a request'); END;

CREATE TRIGGER batch_begins_sealed BEFORE INSERT ON batch WHEN NEW.state <> 'sealed'
BEGIN SELECT RAISE(ABORT, 'illegal first state of a batch'); END;

CREATE TRIGGER push_begins_with_its_upload BEFORE INSERT ON push WHEN NEW.state NOT IN ('uploading', 'uploaded')
BEGIN SELECT RAISE(ABORT, 'illegal first state of a push'); END;

CREATE TABLE tally (                             -- the sum of all requests in one state
    state            TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    model            TEXT NOT NULL,
    requests         INTEGER NOT NULL CHECK (requests >= 0),
    size_bytes       INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    output_allowance INTEGER NOT NULL,
    PRIMARY KEY (state, endpoint, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE sample_tally (
    status  TEXT PRIMARY KEY,
    samples INTEGER NOT NULL CHECK (samples >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER request_arrives AFTER INSERT ON request BEGIN
    INSERT INTO tally VALUES (NEW.state, NEW.endpoint, NEW.model, 1, NEW.size_bytes, NEW.input_tokens, NEW.output_allowance)
    ON CONFLICT DO UPDATE SET
        requests = requests + 1, size_bytes = size_bytes + NEW.size_bytes,
        input_tokens = input_tokens + NEW.input_tokens, output_allowance = output_allowance + NEW.output_allowance;
    UPDATE sample SET open = open + 1 WHERE id = NEW.sample_id;
END;

CREATE TRIGGER request_moves AFTER UPDATE OF state ON request WHEN OLD.state <> NEW.state BEGIN
    UPDATE tally SET
        requests = requests - 1, size_bytes = size_bytes - OLD.size_bytes,
        input_tokens = input_tokens - OLD.input_tokens, output_allowance = output_allowance - OLD.output_allowance
    WHERE state = OLD.state AND endpoint = OLD.endpoint AND model = OLD.model;
    INSERT INTO tally VALUES (NEW.state, NEW.endpoint, NEW.model, 1, NEW.size_bytes, NEW.input_tokens, NEW.output_allowance)
    ON CONFLICT DO UPDATE SET
        requests = requests + 1, size_bytes = size_bytes + NEW.size_bytes,
        input_tokens = input_tokens + NEW.input_tokens, output_allowance = output_allowance + NEW.output_allowance;
END;

CREATE TRIGGER request_ends AFTER UPDATE OF state ON request
WHEN NEW.state IN ('succeeded', 'failed') OR OLD.state IN ('succeeded', 'failed') BEGIN
    UPDATE sample SET
        open      = open      + (NEW.state NOT IN ('succeeded', 'failed')) - (OLD.state NOT IN ('succeeded', 'failed')),
        succeeded = succeeded + (NEW.state = 'succeeded') - (OLD.state = 'succeeded'),
        failed    = failed    + (NEW.state = 'failed') - (OLD.state = 'failed')
    WHERE id = NEW.sample_id;
END;

CREATE TRIGGER request_leaves AFTER DELETE ON request BEGIN
    UPDATE tally SET
        requests = requests - 1, size_bytes = size_bytes - OLD.size_bytes,
        input_tokens = input_tokens - OLD.input_tokens, output_allowance = output_allowance - OLD.output_allowance
    WHERE state = OLD.state AND endpoint = OLD.endpoint AND model = OLD.model;
    UPDATE sample SET
        open      = open      - (OLD.state NOT IN ('succeeded', 'failed')),
        succeeded = succeeded - (OLD.state = 'succeeded'),
        failed    = failed    - (OLD.state = 'failed')
    WHERE id = OLD.sample_id;
END;

CREATE TRIGGER sample_arrives AFTER INSERT ON sample BEGIN
    INSERT INTO sample_tally VALUES (NEW.status, 1) ON CONFLICT DO UPDATE SET samples = samples + 1;
END;

CREATE TRIGGER sample_changes AFTER UPDATE OF open, succeeded, failed ON sample WHEN OLD.status <> NEW.status BEGIN
    UPDATE sample_tally SET samples = samples - 1 WHERE status = OLD.status;
    INSERT INTO sample_tally VALUES (NEW.status, 1) ON CONFLICT DO UPDATE SET samples = samples + 1;
END;

CREATE TRIGGER sample_leaves AFTER DELETE ON sample BEGIN
    UPDATE sample_tally SET samples = samples - 1 WHERE status = OLD.status;
END;

CREATE TABLE bad_end (                           -- requests that are held or have failed, by reason
    state    TEXT    NOT NULL CHECK (state IN ('held', 'failed')),
    reason   TEXT    NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (state, reason)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER request_ends_badly AFTER UPDATE OF state, reason ON request
WHEN OLD.state IN ('held', 'failed') OR NEW.state IN ('held', 'failed') BEGIN
    UPDATE bad_end SET requests = requests - 1 WHERE state = OLD.state AND reason = coalesce(OLD.reason, '');
    INSERT INTO bad_end SELECT NEW.state, coalesce(NEW.reason, ''), 1 WHERE NEW.state IN ('held', 'failed')
    ON CONFLICT DO UPDATE SET requests = requests + 1;
END;

CREATE TRIGGER request_leaves_badly AFTER DELETE ON request WHEN OLD.state IN ('held', 'failed') BEGIN
    UPDATE bad_end SET requests = requests - 1 WHERE state = OLD.state AND reason = coalesce(OLD.reason, '');
END;

CREATE TABLE settled (                           -- the sum of all batches, and of all groups of direct calls, with answers
    road                   TEXT PRIMARY KEY CHECK (road IN ('batch', 'direct')),
    settlements            INTEGER NOT NULL,     -- how many of them
    expected_cost_pico     INTEGER NOT NULL,
    true_cost_pico         INTEGER NOT NULL,
    expected_input_tokens  INTEGER NOT NULL,     -- of the requests that were answered, like the next
    expected_output_tokens INTEGER NOT NULL,
    used_input_tokens      INTEGER NOT NULL,
    used_output_tokens     INTEGER NOT NULL,
    used_output_allowance  INTEGER NOT NULL,
    longest_output_tokens  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER batch_is_settled AFTER UPDATE OF settled_at ON batch
WHEN OLD.settled_at IS NULL AND NEW.settled_at IS NOT NULL AND NEW.discard = 0 BEGIN
    INSERT INTO settled VALUES (
        'batch', 1, NEW.expected_cost_pico, coalesce(NEW.true_cost_pico, 0), coalesce(NEW.answered_input_tokens, 0),
        coalesce(NEW.answered_output_tokens, 0), coalesce(NEW.used_input_tokens, 0), coalesce(NEW.used_output_tokens, 0),
        coalesce(NEW.used_output_allowance, 0), coalesce(NEW.longest_output_tokens, 0))
    ON CONFLICT DO UPDATE SET
        settlements = settlements + 1, expected_cost_pico = expected_cost_pico + excluded.expected_cost_pico,
        true_cost_pico = true_cost_pico + excluded.true_cost_pico,
        expected_input_tokens = expected_input_tokens + excluded.expected_input_tokens,
        expected_output_tokens = expected_output_tokens + excluded.expected_output_tokens,
        used_input_tokens = used_input_tokens + excluded.used_input_tokens,
        used_output_tokens = used_output_tokens + excluded.used_output_tokens,
        used_output_allowance = used_output_allowance + excluded.used_output_allowance,
        longest_output_tokens = max(longest_output_tokens, excluded.longest_output_tokens);
END;

CREATE TRIGGER group_grows AFTER UPDATE OF requests ON direct_group BEGIN
    INSERT INTO settled VALUES (
        'direct', OLD.requests = 0 AND NEW.requests > 0, NEW.expected_cost_pico - OLD.expected_cost_pico,
        NEW.true_cost_pico - OLD.true_cost_pico, NEW.expected_input_tokens - OLD.expected_input_tokens,
        NEW.expected_output_tokens - OLD.expected_output_tokens, NEW.used_input_tokens - OLD.used_input_tokens,
        NEW.used_output_tokens - OLD.used_output_tokens, NEW.used_output_allowance - OLD.used_output_allowance,
        NEW.longest_output_tokens)
    ON CONFLICT DO UPDATE SET
        settlements = settlements + excluded.settlements, expected_cost_pico = expected_cost_pico + excluded.expected_cost_pico,
        true_cost_pico = true_cost_pico + excluded.true_cost_pico,
        expected_input_tokens = expected_input_tokens + excluded.expected_input_tokens,
        expected_output_tokens = expected_output_tokens + excluded.expected_output_tokens,
        used_input_tokens = used_input_tokens + excluded.used_input_tokens,
        used_output_tokens = used_output_tokens + excluded.used_output_tokens,
        used_output_allowance = used_output_allowance + excluded.used_output_allowance,
        longest_output_tokens = max(longest_output_tokens, excluded.longest_output_tokens);
END;
