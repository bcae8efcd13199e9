"""Whether a store keeps its promises, asked of its rows one by one, not of what the triggers count.

Each rule is a query for what breaks it, so it finds nothing in a store that only this library has written to. Reads
every row; nothing is changed. (Files beside the store: `engine/doctor.py`.)
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gpt_batch_api.domain.states import BatchState, PushState, RequestState, legal_moves
from gpt_batch_api.store import twins
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.lengths import CUT_OFF

_JSON = re.compile(r"json_valid\((\w+)\)")

EXAMPLES = 3
"""So many of the rows that break a rule are named."""


@dataclass(frozen=True)
class Rule:
    """What must not be found: `broken_by` selects a name for each thing that breaks the rule."""

    check: str
    """Which part of the store it is about."""
    complaint: str
    broken_by: str


def _listed(states: type[RequestState] | type[BatchState] | type[PushState]) -> str:
    return ", ".join(f"'{state}'" for state in states)


_KEY = "(SELECT key FROM sample WHERE sample.id = sample_id)"
_LOADS = "count(*), sum(size_bytes), sum(input_tokens), sum(output_allowance)"
_SETTLED = (
    "expected_cost_pico, true_cost_pico, expected_input_tokens, expected_output_tokens, used_input_tokens, "
    "used_output_tokens, used_output_allowance, longest_output_tokens"
)
_SUMS_OF_SETTLED = (
    "sum(expected_cost_pico), coalesce(sum(true_cost_pico), 0), coalesce(sum({predicted}_input_tokens), 0), "
    "coalesce(sum({predicted}_output_tokens), 0), coalesce(sum(used_input_tokens), 0), coalesce(sum(used_output_tokens), 0), "
    "coalesce(sum(used_output_allowance), 0), coalesce(max(longest_output_tokens), 0)"
)
_UNDER_WAY = "state IN ('pushing', 'remote', 'ended')"
_FETCHED = "(state = 'ended' OR true_cost_pico IS NOT NULL)"
"""The server has said what the batch's result files are, and they were, or will be, read."""
_PRESENT = "NOT EXISTS (SELECT 1 FROM delivery WHERE generation <> (SELECT generation FROM task))"
"""No delivered row was taken back since, and no file is being replaced."""


def _differ(name: str, kept: str, true: str) -> str:
    """Names of the rows of which two queries, with the name in the first column, say different things."""
    return (
        f"SELECT DISTINCT {name} FROM (SELECT * FROM ({kept} EXCEPT {true}) UNION SELECT * FROM ({true} EXCEPT {kept}))"
    )


def _differs_from_answers(column: str, table: str) -> str:
    """Whether what a batch or group says that it cost and used is not the sum of its answers. Of wiped ones some are gone."""
    kept = {"cost_pico": "true_cost_pico", "input_tokens": "used_input_tokens", "output_tokens": "used_output_tokens"}
    sums = {
        f"{table}.{total}": f"(SELECT coalesce(sum({one}), 0) FROM response WHERE {column} = {table}.id)"
        for one, total in kept.items()
    }
    more = " OR ".join(f"{true} > {total}" for total, true in sums.items())
    other = " OR ".join(f"{true} <> {total}" for total, true in sums.items())
    return f"iif((SELECT epoch FROM task) = 1, {other}, {more})"


_SHOWN = (
    "SELECT endpoint, model, coalesce(max_output_tokens, 0) AS most, output_allowance AS allowance, "
    "coalesce(schema_id, 0) AS schema, count(*) AS answers, sum(response.output_tokens) AS tokens, "
    f"max(response.output_tokens) AS longest, sum(response.reason = '{CUT_OFF}') AS cut_off "
    "FROM response JOIN request ON request.id = request_id "
    "WHERE response.input_tokens + response.output_tokens > 0 GROUP BY 1, 2, 3, 4, 5"
)
"""What the answers that are stored show of their lengths, by kind of request."""


RULES = (
    # ---------------------------------------------------------------- counts
    Rule(
        "counts",
        "tallies are not the sums of their requests",
        _differ(
            "state || ' ' || model",
            "SELECT state, endpoint, model, requests, size_bytes, input_tokens, output_allowance FROM tally WHERE requests > 0",
            f"SELECT state, endpoint, model, {_LOADS} FROM request GROUP BY 1, 2, 3",
        ),
    ),
    Rule(
        "counts",
        "samples do not count their requests right",
        "SELECT key FROM sample LEFT JOIN (SELECT sample_id, sum(state NOT IN ('succeeded', 'failed')) AS o, "
        "sum(state = 'succeeded') AS s, sum(state = 'failed') AS f FROM request GROUP BY sample_id) ON sample_id = sample.id "
        "WHERE open <> coalesce(o, 0) OR succeeded <> coalesce(s, 0) OR failed <> coalesce(f, 0)",
    ),
    Rule(
        "counts",
        "tallies are not the sums of their samples",
        _differ(
            "status",
            "SELECT status, samples FROM sample_tally WHERE samples > 0",
            "SELECT status, count(*) FROM sample GROUP BY 1",
        ),
    ),
    Rule(
        "counts",
        "requests that are held or have failed are not counted right by reason",
        _differ(
            "state || ' ' || reason",
            "SELECT state, reason, requests FROM bad_end WHERE requests > 0",
            "SELECT state, coalesce(reason, ''), count(*) FROM request WHERE state IN ('held', 'failed') GROUP BY 1, 2",
        ),
    ),
    Rule(
        "counts",
        "sums of settled batches and direct groups are not the sums of them",
        _differ(
            "road",
            f"SELECT road, settlements, {_SETTLED} FROM settled WHERE settlements > 0",
            f"SELECT * FROM (SELECT 'batch', count(*), {_SUMS_OF_SETTLED.format(predicted='answered')} FROM batch "
            "WHERE settled_at IS NOT NULL AND discard = 0 HAVING count(*) > 0 "
            f"UNION ALL SELECT 'direct', count(*), {_SUMS_OF_SETTLED.format(predicted='expected')} FROM direct_group "
            "WHERE requests > 0 HAVING count(*) > 0)",
        ),
    ),
    # ---------------------------------------------------------------- requests
    Rule(
        "requests",
        "requests are in no legal state",
        f"SELECT {_KEY} FROM request WHERE state NOT IN ({_listed(RequestState)})",
    ),
    Rule(
        "requests",
        "requests have no payload",
        f"SELECT {_KEY} FROM request WHERE NOT EXISTS (SELECT 1 FROM payload WHERE request_id = request.id)",
    ),
    Rule(
        "requests",
        "requests are batched, but their batch is over",
        f"SELECT {_KEY} FROM request WHERE state = 'batched' AND NOT EXISTS (SELECT 1 FROM batch WHERE id = batch_id "
        f"AND (batch.state = 'sealed' OR batch.{_UNDER_WAY} OR discard = 1))",
    ),
    Rule(
        "requests",
        "requests are sending without a call, or have a call without sending",
        f"SELECT {_KEY} FROM request LEFT JOIN direct_call ON request_id = request.id "
        "WHERE (state = 'sending') <> (request_id IS NOT NULL)",
    ),
    Rule(
        "requests",
        "requests are answered, but no answer of theirs waits for the task's code",
        f"SELECT {_KEY} FROM request WHERE state = 'answered' AND NOT EXISTS "
        "(SELECT 1 FROM response WHERE request_id = request.id AND try = tries AND handed = 0)",
    ),
    Rule(
        "requests",
        "requests are final, but the task's code has not seen their answer",
        f"SELECT {_KEY} FROM request WHERE state IN ('succeeded', 'failed') AND NOT EXISTS "
        "(SELECT 1 FROM response WHERE request_id = request.id AND try = tries "
        "AND (handed = 1 OR handed IS NULL AND asked_by_task = 1))",  # it rests after a reprocess, see replay.py
    ),
    Rule(
        "requests",
        "requests do not count their answers right",
        f"SELECT {_KEY} FROM request WHERE tries <> (SELECT coalesce(max(try), 0) FROM response WHERE request_id = request.id)",
    ),
    # ---------------------------------------------------------------- contents
    Rule(
        "contents",
        "good answers were not kept as they came",
        f"SELECT {_KEY} FROM response JOIN request ON request.id = request_id WHERE verdict = 'success' "
        "AND NOT EXISTS (SELECT 1 FROM raw_response WHERE response_id = response.id) "
        "AND (handed = 0 OR NOT EXISTS (SELECT 1 FROM session WHERE settings ->> 'keep_responses' = 0))",
    ),
    # ---------------------------------------------------------------- batches
    Rule(
        "batches",
        "batches are in no legal state",
        f"SELECT 'batch ' || id FROM batch WHERE state NOT IN ({_listed(BatchState)})",
    ),
    Rule(
        "batches",
        "batches do not hold the requests that they were made of",
        "SELECT 'batch ' || id FROM batch WHERE discard = 0 AND state IN ('sealed', 'pushing', 'remote', 'ended') "
        "AND requests <> (SELECT count(*) FROM request WHERE batch_id = batch.id)",
    ),
    Rule(
        "batches",
        "pushes are in no legal state",
        f"SELECT 'push ' || id FROM push WHERE state NOT IN ({_listed(PushState)})",
    ),
    Rule(
        "batches",
        "batches are being pushed without an open push, or have one without being pushed",
        "SELECT 'batch ' || id FROM batch WHERE (state = 'pushing') <> EXISTS (SELECT 1 FROM push "
        "WHERE batch_id = batch.id AND push.state IN ('uploading', 'uploaded', 'creating'))",
    ),
    Rule(
        "batches",
        "batches are on the server under an id that no push of theirs created",
        "SELECT 'batch ' || id FROM batch WHERE state IN ('remote', 'ended', 'settled') AND NOT EXISTS "
        "(SELECT 1 FROM push WHERE batch_id = batch.id AND push.remote_id = batch.remote_id)",
    ),
    Rule(
        "batches",
        "batches have files on the server that are not remembered",
        "SELECT 'batch ' || batch_id FROM (SELECT batch_id, file_id FROM push WHERE file_id IS NOT NULL "
        f"UNION ALL SELECT id, output_file_id FROM batch WHERE {_FETCHED} AND output_file_id IS NOT NULL "
        f"UNION ALL SELECT id, error_file_id FROM batch WHERE {_FETCHED} AND error_file_id IS NOT NULL) AS used "
        "WHERE NOT EXISTS (SELECT 1 FROM server_file WHERE server_file.file_id = used.file_id) GROUP BY batch_id",
    ),
    # ---------------------------------------------------------------- money
    Rule(
        "money",
        "accounts are not the sums of their ledger lines",
        _differ(
            "'session ' || session_id",
            "SELECT era, session_id, requests, input_tokens, reserved_pico, spent_pico, unlinked_pico FROM account",
            "SELECT era, session_id, sum(requests), sum(input_tokens), sum(reserved_pico), sum(spent_pico), "
            "sum(unlinked_pico) FROM ledger GROUP BY 1, 2",
        ),
    ),
    Rule(
        "money",
        "sums differ: what the ledger calls spent is not what all answers cost, and what has no answer to show for it",
        "SELECT spent || ' spent, ' || linked || ' answered, ' || unlinked || ' without an answer (picodollars)' FROM ("
        "SELECT coalesce(sum(spent_pico), 0) AS spent, coalesce(sum(unlinked_pico), 0) AS unlinked, "
        "(SELECT coalesce(sum(cost_pico), 0) FROM response) AS linked FROM ledger WHERE era = (SELECT era FROM task)) "
        "WHERE spent <> linked + unlinked",
    ),
    Rule(
        "money",
        "spending is not the sum of the answers",
        _differ(
            "model || ' ' || reason",
            "SELECT * FROM spending WHERE answers > 0",
            "SELECT model, iif(response.batch_id IS NOT NULL, 'batch', iif(group_id IS NOT NULL, 'direct', 'copy')), "
            "response.attempt, coalesce(task_verdict, verdict), coalesce(task_reason, response.reason), count(*), "
            "sum(response.input_tokens), sum(response.output_tokens), sum(cost_pico), sum(cached_tokens), "
            "sum(cache_write_tokens), sum(reasoning_tokens) "
            "FROM response JOIN request ON request.id = request_id GROUP BY 1, 2, 3, 4, 5",
        ),
    ),
    Rule(
        "money",
        "batches or direct groups cost, or used, something else than their answers",
        "SELECT DISTINCT name FROM (SELECT 'batch ' || id AS name, "
        f"{_differs_from_answers('batch_id', 'batch')} AS differs FROM batch WHERE true_cost_pico IS NOT NULL UNION ALL "
        f"SELECT 'direct group ' || id, {_differs_from_answers('group_id', 'direct_group')} FROM direct_group) WHERE differs",
    ),
    Rule(
        "money",
        "answers of one batch that used the same cost different amounts",  # a batch is settled with one price list
        "SELECT 'batch ' || batch_id FROM (SELECT DISTINCT batch_id FROM response WHERE batch_id IS NOT NULL GROUP BY "
        "batch_id, input_tokens, cached_tokens, cache_write_tokens, output_tokens HAVING min(cost_pico) <> max(cost_pico))",
    ),
    Rule(
        "money",
        "answers cost something, though they used nothing",
        f"SELECT {_KEY} FROM response JOIN request ON request.id = request_id WHERE cost_pico > 0 "
        "AND response.input_tokens + cached_tokens + cache_write_tokens + response.output_tokens = 0",
    ),
    Rule(
        "money",
        "batches reserve something else than what they were sealed with while they are under way",
        "SELECT 'batch ' || batch.id FROM batch LEFT JOIN (SELECT batch_id, sum(reserved_pico) AS reserved FROM ledger "
        "WHERE batch_id IS NOT NULL GROUP BY 1) ON batch_id = batch.id "
        f"WHERE coalesce(reserved, 0) <> iif({_UNDER_WAY}, cost_pico, 0)",
    ),
    Rule(
        "money",
        "reservation differs from that of the direct calls under way",
        "SELECT reserved || ' reserved, ' || calls || ' for calls (picodollars)' FROM (SELECT coalesce(sum(reserved_pico), 0) "
        "AS reserved, (SELECT coalesce(sum(reserved_pico), 0) FROM direct_call) AS calls FROM ledger WHERE batch_id IS NULL) "
        "WHERE reserved <> calls",
    ),
    # ---------------------------------------------------------------- lengths of answers
    Rule(
        "lengths",
        "kinds of requests have learnt other lengths than their answers show",
        _differ(
            "model",
            "SELECT endpoint, model, max_output_tokens, output_allowance, schema_id, answers, output_tokens, longest, "
            "cut_off FROM answer_kind",
            _SHOWN,
        )
        + " WHERE (SELECT epoch FROM task) = 1 "  # what is wiped stays learnt
        f"UNION SELECT model FROM ({_SHOWN}) AS shown WHERE NOT EXISTS (SELECT 1 FROM answer_kind AS learnt "
        "WHERE learnt.endpoint = shown.endpoint AND learnt.model = shown.model AND max_output_tokens = most "
        "AND output_allowance = allowance AND schema_id = schema AND learnt.answers >= shown.answers "
        "AND output_tokens >= tokens AND learnt.longest >= shown.longest AND learnt.cut_off >= shown.cut_off)",
    ),
    Rule(
        "lengths",
        "kinds of requests count other answers by length than all together",
        "SELECT model FROM answer_kind WHERE answers <> "
        "(SELECT coalesce(sum(answer_length.answers), 0) FROM answer_length WHERE kind_id = answer_kind.id)",
    ),
    # ---------------------------------------------------------------- rows of the output
    Rule(
        "rows",
        "rows of the output come from a request of another sample",
        "SELECT 'row ' || output.id FROM output JOIN request ON request.id = request_id "
        "WHERE request.sample_id <> output.sample_id",
    ),
    Rule(
        "rows",
        "rows of the output are no JSON objects",
        f"SELECT {_KEY} FROM output WHERE iif(json_valid(row), json_type(row), '') <> 'object'",
    ),
    Rule(
        "rows",
        "delivered parts count other rows than the store has",
        "SELECT file_name || ' (' || rows || ' delivered, ' || there || ' there)' FROM (SELECT file_name, rows, "
        "(SELECT count(*) FROM output WHERE id > before AND id <= last_output) AS there "
        "FROM (SELECT *, lag(last_output, 1, 0) OVER (ORDER BY part) AS before FROM delivery)) "
        f"WHERE rows <> there AND {_PRESENT}",
    ),
    Rule(
        "rows",
        "delivered parts end with a row that the store does not have",
        "SELECT file_name || ' (row ' || last_output || ')' FROM delivery "
        f"WHERE rows > 0 AND NOT EXISTS (SELECT 1 FROM output WHERE id = last_output) AND {_PRESENT}",
    ),
    Rule(
        "rows",
        "things are left to do, though the task counts as complete",
        "SELECT 'request of ' || key FROM sample WHERE open > 0 AND (SELECT complete FROM task) = 1 "
        "UNION ALL SELECT 'row ' || output.id FROM output WHERE (SELECT complete FROM task) = 1 "
        "AND EXISTS (SELECT 1 FROM delivery) AND output.id > (SELECT max(last_output) FROM delivery)",
    ),
)


CHECKS = tuple(dict.fromkeys(rule.check for rule in RULES))
"""All parts, in order."""


def damage(db: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong with pages, rows and indexes; nothing if all is sound.

    Of a file that is only read SQLite does not test the CHECK constraints; the rules above say more than they do.
    """
    rows = db.execute(f"PRAGMA integrity_check({EXAMPLES})")
    found = [line for (text,) in rows for line in text.splitlines() if line != "ok"]
    return [line for line in found if not line.startswith("***")] or found  # *** in database main ***


def broken_json(db: sqlite3.Connection) -> list[str]:
    """What should be JSON by the schema and is none: how many rows of which column. Nearly everything reads these.

    States of samples and rows of the output are read one by one, and named: see `contents.py` and the rules above.
    """
    found = []
    for table, sql in db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
        for column in () if table in ("sample", "output") else _JSON.findall(sql):
            none = f"{column} IS NOT NULL AND NOT json_valid({column})"
            (number,) = db.execute(f'SELECT count(*) FROM "{table}" WHERE {none}').fetchone()
            found += [f"{number:,} rows of {table} have a {column} that is no JSON"] if number else []
    return found


def lost_references(db: sqlite3.Connection) -> list[str]:
    """Rows that point to a row that is not there."""
    lost: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in db.execute("PRAGMA foreign_key_check"):
        lost[table, parent] = lost.get((table, parent), 0) + 1
    return [f"{number:,} rows of {table} point to no {parent}" for (table, parent), number in lost.items()]


def is_ours(db: sqlite3.Connection, folder: Path) -> list[str]:
    """What of tables, indexes and triggers is not as this version makes it. A new store is made in *folder* to compare."""
    with closing(Store.open(folder / "new_state.db")) as store:
        should = _schema(store.db)
        twins.prepare(store.db)
        may = _schema(store.db)
    has = _schema(db)
    found = [f"the {name} is missing" for name in sorted(should.keys() - has.keys())]
    found += [f"the {name} is not ours" for name in sorted(has.keys() - may.keys())]
    found += [f"the {name} was changed" for name in sorted(has.keys() & may.keys()) if has[name] != may[name]]
    moves = [tuple(row) for row in db.execute("SELECT kind, before, after FROM legal_move ORDER BY 1, 2, 3")]
    return found + (["the table of legal moves is not that of this version"] if moves != legal_moves() else [])


def _schema(db: sqlite3.Connection) -> dict[str, object]:
    """What defines each table (its columns: how they are written down depends on the store's history), index, trigger."""
    rows = db.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ).fetchall()
    return {
        f"{kind} {name}": sorted(column[1] for column in db.execute(f'PRAGMA table_xinfo("{name}")'))
        if kind == "table"
        else " ".join(sql.split())
        for kind, name, sql in rows
    }


def broken_rules(db: sqlite3.Connection, check: str) -> Iterator[str]:
    """What breaks the rules of one part, a line for each rule: how many, what, and some of their names."""
    for rule in RULES:
        if rule.check != check:
            continue
        yield from complaint_of(rule.complaint, (str(row[0]) for row in db.execute(rule.broken_by)))


def complaint_of(complaint: str, names: Iterable[str]) -> Iterator[str]:
    """A line that says how many *names* there are, what is wrong with them, and some of them; none if there are none."""
    rest = iter(names)
    named = list(islice(rest, EXAMPLES))
    number = len(named) + sum(1 for _ in rest)
    if named:
        more = " …" if number > EXAMPLES else ""
        yield f"{number:,} {complaint}: {', '.join(named)}{more}"
