-- From schema 1 to 2: lengths of answers by kind, spending by model, attempt and outcome, expected cost beside what is
-- reserved, twins of requests. Never changed again: stores may stand between any two versions.

ALTER TABLE batch ADD COLUMN expected_cost_pico INTEGER NOT NULL DEFAULT 0;
ALTER TABLE direct_group ADD COLUMN expected_cost_pico INTEGER NOT NULL DEFAULT 0;
UPDATE batch SET expected_cost_pico = cost_pico;
UPDATE direct_group SET expected_cost_pico = cost_pico;

ALTER TABLE request ADD COLUMN twin_of INTEGER REFERENCES request (id) CHECK ((twin_of IS NOT NULL) = (state = 'twin'));
CREATE INDEX request_twin ON request (twin_of) WHERE twin_of IS NOT NULL;

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
    PRIMARY KEY (model, road, attempt, verdict, reason)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER response_counts AFTER INSERT ON response BEGIN
    INSERT INTO spending SELECT model, iif(NEW.batch_id IS NOT NULL, 'batch', iif(NEW.group_id IS NOT NULL, 'direct', 'copy')), NEW.attempt,
        coalesce(NEW.task_verdict, NEW.verdict), coalesce(NEW.task_reason, NEW.reason),
        1, NEW.input_tokens, NEW.output_tokens, NEW.cost_pico FROM request WHERE id = NEW.request_id
    ON CONFLICT DO UPDATE SET
        answers = answers + 1, input_tokens = input_tokens + NEW.input_tokens,
        output_tokens = output_tokens + NEW.output_tokens, cost_pico = cost_pico + NEW.cost_pico;
END;

CREATE TRIGGER response_is_judged AFTER UPDATE OF task_verdict, task_reason ON response
WHEN coalesce(OLD.task_verdict, OLD.verdict) <> coalesce(NEW.task_verdict, NEW.verdict)
    OR coalesce(OLD.task_reason, OLD.reason) <> coalesce(NEW.task_reason, NEW.reason) BEGIN
    UPDATE spending SET
        answers = answers - 1, input_tokens = input_tokens - OLD.input_tokens,
        output_tokens = output_tokens - OLD.output_tokens, cost_pico = cost_pico - OLD.cost_pico
    WHERE model = (SELECT model FROM request WHERE id = OLD.request_id)
        AND road = iif(OLD.batch_id IS NOT NULL, 'batch', iif(OLD.group_id IS NOT NULL, 'direct', 'copy')) AND attempt = OLD.attempt
        AND verdict = coalesce(OLD.task_verdict, OLD.verdict) AND reason = coalesce(OLD.task_reason, OLD.reason);
    INSERT INTO spending SELECT model, iif(NEW.batch_id IS NOT NULL, 'batch', iif(NEW.group_id IS NOT NULL, 'direct', 'copy')), NEW.attempt,
        coalesce(NEW.task_verdict, NEW.verdict), coalesce(NEW.task_reason, NEW.reason),
        1, NEW.input_tokens, NEW.output_tokens, NEW.cost_pico FROM request WHERE id = NEW.request_id
    ON CONFLICT DO UPDATE SET
        answers = answers + 1, input_tokens = input_tokens + NEW.input_tokens,
        output_tokens = output_tokens + NEW.output_tokens, cost_pico = cost_pico + NEW.cost_pico;
END;

CREATE TRIGGER response_leaves AFTER DELETE ON response BEGIN
    UPDATE spending SET
        answers = answers - 1, input_tokens = input_tokens - OLD.input_tokens,
        output_tokens = output_tokens - OLD.output_tokens, cost_pico = cost_pico - OLD.cost_pico
    WHERE model = (SELECT model FROM request WHERE id = OLD.request_id)
        AND road = iif(OLD.batch_id IS NOT NULL, 'batch', iif(OLD.group_id IS NOT NULL, 'direct', 'copy')) AND attempt = OLD.attempt
        AND verdict = coalesce(OLD.task_verdict, OLD.verdict) AND reason = coalesce(OLD.task_reason, OLD.reason);
END;

CREATE TRIGGER request_takes_its_responses BEFORE DELETE ON request BEGIN   -- while it can still say its model
    DELETE FROM response WHERE request_id = OLD.id;
END;

INSERT INTO spending SELECT model, iif(response.batch_id IS NOT NULL, 'batch', iif(group_id IS NOT NULL, 'direct', 'copy')), response.attempt,
    coalesce(task_verdict, verdict), coalesce(task_reason, response.reason),
    count(*), sum(response.input_tokens), sum(response.output_tokens), sum(cost_pico)
FROM response JOIN request ON request.id = request_id GROUP BY 1, 2, 3, 4, 5;
