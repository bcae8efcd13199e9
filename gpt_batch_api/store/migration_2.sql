-- From schema 2 to 3: what a watcher asks every second is kept as sums: cached and reasoning tokens, requests that end badly
-- by reason, all settled batches and groups. Never changed again: stores may stand between any two versions.

ALTER TABLE spending ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0 CHECK (cached_tokens >= 0);
ALTER TABLE spending ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0 CHECK (cache_write_tokens >= 0);
ALTER TABLE spending ADD COLUMN reasoning_tokens INTEGER NOT NULL DEFAULT 0 CHECK (reasoning_tokens >= 0);
ALTER TABLE batch ADD COLUMN answered_input_tokens INTEGER;
ALTER TABLE batch ADD COLUMN answered_output_tokens INTEGER;

CREATE INDEX event_kind ON event (kind, id);

DROP TRIGGER response_counts;
DROP TRIGGER response_is_judged;
DROP TRIGGER response_leaves;

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

-- ---------------------------------------------------------------- what older versions have not kept

DELETE FROM spending;
INSERT INTO spending SELECT model, iif(response.batch_id IS NOT NULL, 'batch', iif(group_id IS NOT NULL, 'direct', 'copy')), response.attempt,
    coalesce(task_verdict, verdict), coalesce(task_reason, response.reason),
    count(*), sum(response.input_tokens), sum(response.output_tokens), sum(cost_pico),
    sum(cached_tokens), sum(cache_write_tokens), sum(reasoning_tokens)
FROM response JOIN request ON request.id = request_id GROUP BY 1, 2, 3, 4, 5;

INSERT INTO bad_end SELECT state, coalesce(reason, ''), count(*) FROM request WHERE state IN ('held', 'failed') GROUP BY 1, 2;

UPDATE batch SET answered_input_tokens = tokens, answered_output_tokens = expected_output_tokens * allowance / max(output_allowance, 1)
FROM (SELECT response.batch_id AS answered, sum(request.input_tokens) AS tokens, sum(request.output_allowance) AS allowance
    FROM response JOIN request ON request.id = request_id WHERE response.input_tokens > 0 GROUP BY 1)
WHERE batch.id = answered;

INSERT INTO settled SELECT 'batch', count(*), sum(expected_cost_pico), coalesce(sum(true_cost_pico), 0),
    coalesce(sum(answered_input_tokens), 0), coalesce(sum(answered_output_tokens), 0), coalesce(sum(used_input_tokens), 0),
    coalesce(sum(used_output_tokens), 0), coalesce(sum(used_output_allowance), 0), coalesce(max(longest_output_tokens), 0)
FROM batch WHERE settled_at IS NOT NULL AND discard = 0 HAVING count(*) > 0;

INSERT INTO settled SELECT 'direct', count(*), sum(expected_cost_pico), sum(true_cost_pico), sum(expected_input_tokens),
    sum(expected_output_tokens), sum(used_input_tokens), sum(used_output_tokens), sum(used_output_allowance),
    max(longest_output_tokens)
FROM direct_group WHERE requests > 0 HAVING count(*) > 0;
