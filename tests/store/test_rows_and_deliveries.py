"""Output rows and how far they were delivered: the position that a delivery is cut back to after a kill."""

from __future__ import annotations

import json

import pytest

from gpt_batch_api.domain.delivery import Delivered, Progress
from gpt_batch_api.store import outbox, samples
from tests.store.rig import Desk


def add_rows(desk: Desk, *rows: tuple[int, object]) -> None:
    """Rows by sample, of no particular request."""
    request_ids = dict(desk.table("SELECT sample_id, min(id) FROM request GROUP BY sample_id"))
    with desk.store.transaction() as tx:
        samples.add_rows(tx, [(sample_id, request_ids[sample_id], json.dumps(row)) for sample_id, row in rows])


def part(number: int, *, last_output: int, generation: int = 1, rows: int = 1) -> Delivered:
    return Delivered(number, generation, f"out_{number}.jsonl", rows, 10 * rows, 4_000_000_000, last_output)


def note(desk: Desk, *parts: Delivered, replaces_all: bool = False) -> None:
    with desk.store.transaction() as tx:
        outbox.note_progress(tx, Progress(parts, replaces_all=replaces_all))


@pytest.fixture(autouse=True)
def two_samples(desk: Desk) -> None:
    desk.add("a", "b")


def test_rows_come_in_the_order_in_which_they_were_made(desk: Desk) -> None:
    """With numbers by which a delivery continues where it stopped."""
    add_rows(desk, (2, "first"), (1, "second"), (2, {"third": "ü"}))
    rows = outbox.StoredRows(desk.db)
    assert [json.loads(text) for _, text in rows.after(0)] == ["first", "second", {"third": "ü"}]
    numbers = [number for number, _ in rows.after(0)]
    assert [number for number, _ in rows.after(numbers[0])] == numbers[1:]
    assert list(rows.after(rows.newest())) == []
    assert samples.count_rows(desk.db) == 3


def test_rows_come_by_sample_for_a_single_document(desk: Desk) -> None:
    """In the order in which the samples were first asked about."""
    add_rows(desk, (2, "b1"), (1, "a1"), (2, "b2"), (1, "a2"))
    assert [json.loads(text) for text in outbox.StoredRows(desk.db).by_sample()] == ["a1", "a2", "b1", "b2"]


def test_a_row_s_number_is_never_used_twice(desk: Desk) -> None:
    """Not even that of the newest row when it was taken back: a delivered position never means another row."""
    add_rows(desk, (1, "first"), (1, "second"))
    newest = samples.last_row_id(desk.db)
    desk.db.execute("DELETE FROM output")
    assert samples.last_row_id(desk.db) == 0
    add_rows(desk, (1, "third"))
    assert samples.last_row_id(desk.db) == newest + 1


def test_nothing_is_behind_where_there_is_nothing(desk: Desk) -> None:
    """No rows, no delivery."""
    assert not outbox.is_behind(desk.db)


def test_undelivered_rows_are_behind(desk: Desk) -> None:
    """Until the newest one is delivered: one before it is not enough."""
    add_rows(desk, (1, "first"), (2, "second"))
    assert outbox.is_behind(desk.db)
    newest = samples.last_row_id(desk.db)
    note(desk, part(0, last_output=newest - 1))
    assert outbox.is_behind(desk.db)
    note(desk, part(0, last_output=newest, rows=2))
    assert not outbox.is_behind(desk.db)
    add_rows(desk, (1, "third"))
    assert outbox.is_behind(desk.db)


def test_rows_that_were_taken_back_are_behind(desk: Desk) -> None:
    """A new generation has to be delivered, although no row is new."""
    add_rows(desk, (1, "first"))
    note(desk, part(0, last_output=1))
    desk.db.execute("UPDATE task SET generation = 2")
    assert outbox.is_behind(desk.db)
    note(desk, part(0, last_output=1, generation=2), replaces_all=True)
    assert not outbox.is_behind(desk.db)


def test_parts_are_kept_one_by_one(desk: Desk) -> None:
    """A part grows in place; a new one is added; all come in order."""
    note(desk, part(0, last_output=3))
    note(desk, part(0, last_output=5, rows=2), part(1, last_output=6))
    assert outbox.delivered(desk.db) == [part(0, last_output=5, rows=2), part(1, last_output=6)]


def test_a_delivery_made_anew_replaces_all_parts(desk: Desk) -> None:
    """Parts of before are gone, also if there are fewer of them now, or none."""
    note(desk, part(0, last_output=3), part(1, last_output=6))
    note(desk, part(0, last_output=6, generation=2), replaces_all=True)
    assert outbox.delivered(desk.db) == [part(0, last_output=6, generation=2)]
    note(desk, replaces_all=True)
    assert outbox.delivered(desk.db) == []


def test_a_row_outlives_its_request(desk: Desk) -> None:
    """Rows belong to samples: a request that goes takes no row along."""
    add_rows(desk, (1, "kept"))
    desk.db.execute("DELETE FROM request WHERE sample_id = 1")
    assert desk.table("SELECT request_id, row FROM output") == [(None, '"kept"')]
