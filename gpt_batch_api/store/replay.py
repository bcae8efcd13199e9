"""Show stored answers to the task's code once more: what of a sample follows from them is taken back, and made anew.

A sample's rows and state go. The last answers of its first requests (those of the generator) count as not handed over.
Those of its follow-ups rest: a follow-up that the task's code asks again brings its own answer back (`show_asked`), so
nothing is paid again. One that is not asked any more stays at rest, final and without rows, until some later code asks
it: what is paid for is never thrown away. An answer at rest is the last one of a final request and has `handed` NULL.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpt_batch_api.domain.hooks import ToHand
from gpt_batch_api.domain.request import Kind, RequestKey
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import responses, samples
from gpt_batch_api.store.requests import KIND
from gpt_batch_api.store.selecting import condition

_REPLAYABLE = "state IN ('answered', 'succeeded', 'failed')"
_LAST = "response.request_id = request.id AND response.try = request.tries"
_LOST = (
    f"EXISTS (SELECT 1 FROM request JOIN response ON {_LAST} WHERE request.sample_id = sample.id "
    f"AND request.{_REPLAYABLE} AND response.verdict = 'success' "
    "AND NOT EXISTS (SELECT 1 FROM raw_response WHERE response_id = response.id))"
)
"""A good answer of the sample was not kept, so the sample cannot be made anew."""


@dataclass(frozen=True)
class Replayed:
    """What was taken back, to be made anew."""

    samples: int
    rows: int
    answers: int


@dataclass(frozen=True)
class StoredAnswer:
    """A last answer that can be shown again."""

    answer: ToHand
    state: RequestState
    asked_by_task: bool
    kind: Kind
    input_tokens: int
    """Estimated."""


@dataclass(frozen=True)
class StoredSample:
    """A sample as it stands, and the answers that it can be made anew of, in the order in which they came."""

    id: int
    key: str
    state: str | None
    rows: tuple[str, ...]
    answers: tuple[StoredAnswer, ...]


def stored_samples(
    db: sqlite3.Connection, selection: Selection, *, page: int, max_retries: int
) -> Iterator[list[StoredSample]]:
    """The samples that can be made anew, in the order in which they were first asked about, some at a time."""
    meant, values = _meant(selection)
    last_id = 0
    while found := db.execute(
        f"SELECT id, key, state FROM sample WHERE id > :last AND {meant} AND NOT {_LOST} ORDER BY id LIMIT :page",
        {**values, "last": last_id, "page": page},
    ).fetchall():
        last_id = found[-1]["id"]
        ids = [row["id"] for row in found]
        rows = samples.rows_of(db, ids)
        answers = _stored_answers(db, ids, max_retries=max_retries)
        yield [
            StoredSample(row["id"], row["key"], row["state"], tuple(rows[row["id"]]), tuple(answers[row["id"]]))
            for row in found
        ]


def _stored_answers(
    db: sqlite3.Connection, sample_ids: Sequence[int], *, max_retries: int
) -> dict[int, list[StoredAnswer]]:
    facts = db.execute(
        f"SELECT response.id, request.state, asked_by_task, request.input_tokens, {_columns(KIND)} FROM request "
        f"JOIN response ON {_LAST} WHERE request.{_REPLAYABLE} AND sample_id IN (SELECT value FROM json_each(?))",
        (json.dumps(sample_ids),),
    )
    by_response = {row[0]: (RequestState(row[1]), bool(row[2]), Kind(*row[4:]), row[3]) for row in facts}
    found: dict[int, list[StoredAnswer]] = {sample_id: [] for sample_id in sample_ids}
    for answer in responses.stored(db, by_response.keys(), max_retries=max_retries):
        found[answer.sample_id].append(StoredAnswer(answer, *by_response[answer.response_id]))
    return found


def _columns(names: str) -> str:
    return ", ".join(f"request.{name}" for name in names.split(", "))


def count_lost(db: sqlite3.Connection, selection: Selection) -> int:
    """How many of the samples that are meant cannot be made anew, because an answer of theirs was not kept."""
    meant, values = _meant(selection)
    number: int = db.execute(f"SELECT count(*) FROM sample WHERE {meant} AND {_LOST}", values).fetchone()[0]
    return number


def begin(tx: sqlite3.Connection, selection: Selection) -> Replayed:
    """Take back what follows from the answers of the samples that are meant; the answers wait for the task's code."""
    meant, values = _meant(selection)
    tx.execute("CREATE TEMP TABLE IF NOT EXISTS touched (sample_id INTEGER PRIMARY KEY, whole INTEGER NOT NULL)")
    tx.execute("DELETE FROM temp.touched")
    tx.execute(f"INSERT INTO temp.touched SELECT id, 0 FROM sample WHERE {meant} AND NOT {_LOST}", values)
    rows = samples.take_back_rows(tx)
    tx.execute("UPDATE sample SET state = NULL WHERE id IN (SELECT sample_id FROM temp.touched)")
    _forget_unsent_follow_ups(tx)
    _rest(tx)
    answers = show_again(tx, "request.asked_by_task = 0 AND request.sample_id IN (SELECT sample_id FROM temp.touched)")
    tx.execute("UPDATE task SET complete = 0")
    touched: int = tx.execute("SELECT count(*) FROM temp.touched").fetchone()[0]
    return Replayed(samples=touched, rows=rows, answers=answers)


def _meant(selection: Selection) -> tuple[str, dict[str, object]]:
    """A condition on `sample`: it is selected, and has an answer that can be shown."""
    selected, values = condition(selection)
    return (
        f"EXISTS (SELECT 1 FROM request WHERE sample_id = sample.id AND {_REPLAYABLE}) "
        f"AND EXISTS (SELECT 1 FROM request WHERE sample_id = sample.id AND {selected})"
    ), dict(values)


def _forget_unsent_follow_ups(tx: sqlite3.Connection) -> None:
    """Follow-ups that were never sent have cost nothing; those that are still wanted are asked again."""
    tx.execute(
        "DELETE FROM request WHERE sample_id IN (SELECT sample_id FROM temp.touched) AND asked_by_task = 1 "
        "AND state = 'queued' AND tries = 0 AND NOT EXISTS (SELECT 1 FROM request AS twin WHERE twin.twin_of = request.id)"
    )


def _rest(tx: sqlite3.Connection) -> None:
    """Answers to follow-ups rest until the follow-up is asked again."""
    theirs = "asked_by_task = 1 AND sample_id IN (SELECT sample_id FROM temp.touched)"
    last = f"SELECT response.id FROM request JOIN response ON {_LAST} WHERE request.{_REPLAYABLE} AND {theirs}"
    # A batch or group that is not weighed yet would miss them.
    for table, column in (("batch", "batch_id"), ("direct_group", "group_id")):
        tx.execute(
            f"UPDATE {table} SET passed = 1 WHERE passed IS NULL AND id IN "
            f"(SELECT {column} FROM response WHERE id IN ({last}))"
        )
    tx.execute(
        "UPDATE response SET handed = NULL, task_verdict = NULL, task_reason = NULL, task_message = NULL "
        f"WHERE id IN ({last})"
    )
    tx.execute(
        "UPDATE request SET state = iif((SELECT verdict FROM response WHERE "
        f"{_LAST}) = 'success', 'succeeded', 'failed') WHERE state = 'answered' AND {theirs}"
    )


def show_again(tx: sqlite3.Connection, where: str) -> int:
    """Final requests matching *where* are answered again, to be handed to the task's code; how many. Others rest."""
    tx.execute(
        "UPDATE response SET handed = 0, task_verdict = NULL, task_reason = NULL, task_message = NULL "
        f"WHERE handed = 1 AND id IN (SELECT response.id FROM response JOIN request ON {_LAST} "
        f"WHERE request.state IN ('succeeded', 'failed') AND {where})"
    )
    return tx.execute(
        f"UPDATE request SET state = 'answered' WHERE state IN ('succeeded', 'failed') AND {where} "
        f"AND EXISTS (SELECT 1 FROM response WHERE {_LAST} AND handed = 0)"
    ).rowcount


def show_asked(tx: sqlite3.Connection, asked: Iterable[RequestKey]) -> int:
    """Follow-ups that are asked now, and whose answer rests, are answered again; how many."""
    keys = json.dumps([[key.sample_key, key.purpose, key.number] for key in asked])
    resting = tx.execute(
        "SELECT response.id, request.id FROM json_each(?) AS asked JOIN sample ON sample.key = asked.value ->> 0 "
        "JOIN request ON sample_id = sample.id AND purpose = asked.value ->> 1 AND number = asked.value ->> 2 "
        f"JOIN response ON {_LAST} WHERE request.state IN ('succeeded', 'failed') AND handed IS NULL",
        (keys,),
    ).fetchall()
    tx.executemany("UPDATE response SET handed = 0 WHERE id = ?", ((response_id,) for response_id, _ in resting))
    tx.executemany("UPDATE request SET state = 'answered' WHERE id = ?", ((request_id,) for _, request_id in resting))
    return len(resting)
