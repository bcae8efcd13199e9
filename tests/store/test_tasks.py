"""The one row of the task, its sessions, what it has learnt, and its timeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.domain.events import BatchDissolved, RequestsAdded
from gpt_batch_api.store import events, ledger, outbox, tasks
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.ledger import Booked
from tests.store.rig import NOW, Desk


def test_a_new_store_has_no_task(path: Path) -> None:
    """Who needs one is told so."""
    store = Store.open(path)
    assert tasks.load_task(store.db) is None
    with pytest.raises(InternalError, match="no task"):
        tasks.get_task(store.db)
    store.close()


def test_a_task_is_captured_once(desk: Desk) -> None:
    """A second creation is refused: one store, one task."""
    task = tasks.get_task(desk.db)
    assert (task.uuid, task.kind, task.created_at, task.metadata_version) == ("0000-uuid", "Toy", NOW, 1)
    assert (task.era, task.epoch, task.generation, task.wiping, task.complete, task.server) == (
        1,
        1,
        1,
        None,
        False,
        None,
    )
    with pytest.raises(InternalError), desk.store.transaction() as tx:
        tasks.create_task(tx, uuid="other", kind="Toy", metadata={}, now=NOW)
    assert tasks.get_task(desk.db) == task


def test_metadata_are_replaced_with_a_new_version(desk: Desk) -> None:
    """Requests known before keep the version that they were asked under."""
    desk.add("before")
    with desk.store.transaction() as tx:
        tasks.replace_metadata(tx, {"ü": [1, None]})
    desk.add("after")
    assert (tasks.get_task(desk.db).metadata, tasks.get_task(desk.db).metadata_version) == ({"ü": [1, None]}, 2)
    assert desk.table("SELECT metadata_version FROM request ORDER BY id") == [(1,), (2,)]


def test_new_metadata_begin_a_new_generation_of_the_output(desk: Desk) -> None:
    """They may stand in its header, so it is made anew."""
    desk.answered("a")
    desk.hand(rows=True)
    desk.deliver()
    assert not outbox.is_behind(desk.db)
    with desk.store.transaction() as tx:
        tasks.replace_metadata(tx, {})
    assert tasks.get_task(desk.db).generation == 2
    assert outbox.is_behind(desk.db)


def test_what_was_post_processed_is_remembered(desk: Desk) -> None:
    """By a mark that changes with every row and every generation."""
    assert tasks.get_task(desk.db).postprocessed is None
    marks = []
    for key in "ab":
        desk.answered(key)
        desk.hand(rows=True)
        with desk.store.transaction() as tx:
            tasks.set_postprocessed(tx, outbox.mark(tx))
        marks.append(outbox.mark(desk.db))
        assert tasks.get_task(desk.db).postprocessed == marks[-1]
    with desk.store.transaction() as tx:
        tasks.replace_metadata(tx, {})
    assert len({*marks, outbox.mark(desk.db)}) == 3


def test_the_server_of_a_task_is_remembered(desk: Desk) -> None:
    """As the document it was given, until the next one."""
    for server in ({"base_url": "https://here"}, {}):
        with desk.store.transaction() as tx:
            tasks.set_server(tx, server)
        assert tasks.get_task(desk.db).server == server


@pytest.mark.parametrize("complete", [True, False])
def test_completion_is_noted(desk: Desk, complete: bool) -> None:
    """And taken back when there is more to do."""
    with desk.store.transaction() as tx:
        tasks.set_complete(tx, complete)
    assert tasks.get_task(desk.db).complete is complete


def test_sessions_are_kept_with_their_end(desk: Desk) -> None:
    """The newest is told; one that was killed has no end."""
    with desk.store.transaction() as tx:
        second = tasks.begin_session(tx, pid=7, host="there", settings={"path": Path("x")}, now=NOW + 1)
    session = tasks.last_session(desk.db)
    assert session is not None
    assert (session.id, session.pid, session.host, session.ended_at, session.outcome) == (
        second,
        7,
        "there",
        None,
        None,
    )
    with desk.store.transaction() as tx:
        tasks.end_session(tx, second, outcome="done", now=NOW + 2)
    session = tasks.last_session(desk.db)
    assert session is not None
    assert (session.started_at, session.ended_at, session.outcome) == (NOW + 1, NOW + 2, "done")
    assert tasks.sessions_before(desk.db, second) == 1
    assert tasks.sessions_before(desk.db, desk.session_id) == 0


def test_what_a_model_admits_is_learnt(desk: Desk) -> None:
    """The latest word of the server counts, for each model."""
    with desk.store.transaction() as tx:
        tasks.learn_model_limit(tx, "m", enqueued_tokens=90_000, now=NOW)
        tasks.learn_model_limit(tx, "n", enqueued_tokens=1, now=NOW)
        tasks.learn_model_limit(tx, "m", enqueued_tokens=2_000_000, now=NOW + 1)
    assert tasks.model_limits(desk.db) == {"m": 2_000_000, "n": 1}
    assert tasks.model_limits(desk.db, learnt_after=NOW) == {"m": 2_000_000}


def test_an_event_stands_in_the_timeline(desk: Desk) -> None:
    """With its kind, its batch if it has one, and its facts."""
    with desk.store.transaction() as tx:
        events.add(tx, RequestsAdded(new=2, known=3), session_id=desk.session_id, now=NOW)
        events.add(tx, BatchDissolved(batch=7, requests=1, why="ü"), session_id=None, now=NOW + 1)
    found = [
        (*row[:-1], json.loads(row[-1])) for row in desk.table("SELECT at, session_id, kind, batch_id, data FROM event")
    ]
    assert found == [
        (NOW, desk.session_id, "RequestsAdded", None, {"new": 2, "known": 3, "twins": 0}),
        (NOW + 1, None, "BatchDissolved", 7, {"batch": 7, "requests": 1, "why": "ü"}),
    ]


# ---------------------------------------------------------------- money


def test_an_account_is_the_sum_of_its_lines(desk: Desk) -> None:
    """By task, by session and by batch, to the picodollar."""
    huge = 9_000_000_000_000_001
    with desk.store.transaction() as tx:
        ledger.book(tx, "reserve", now=NOW, session_id=1, batch_id=4, requests=3, input_tokens=9, reserved_pico=huge)
        ledger.book(
            tx, "settle", now=NOW, session_id=1, batch_id=4, requests=-1, reserved_pico=-huge, spent_pico=huge - 2
        )
    with desk.store.transaction() as tx:
        second = tasks.begin_session(tx, pid=1, host="h", settings={}, now=NOW)
        ledger.book(tx, "unknown", now=NOW, session_id=second, spent_pico=5, unlinked_pico=5)
    one, two = Booked(2, 9, 0, huge - 2, 0), Booked(0, 0, 0, 5, 5)
    assert ledger.session_total(desk.db, 1) == ledger.batch_total(desk.db, 4) == one
    assert ledger.session_total(desk.db, second) == two
    assert ledger.task_total(desk.db) == Booked(2, 9, 0, huge + 3, 5)
    assert ledger.task_total(desk.db).cost_pico == huge + 3


def test_what_is_promised_counts_like_what_is_spent(desk: Desk) -> None:
    """Against every limit."""
    assert Booked(reserved_pico=3, spent_pico=4, unlinked_pico=2).cost_pico == 7


def test_nothing_booked_is_zero(desk: Desk) -> None:
    """Of the task, of a session, of a batch, of the archive."""
    totals = [
        ledger.task_total(desk.db),
        ledger.archived_total(desk.db),
        ledger.session_total(desk.db, 1),
        ledger.batch_total(desk.db, 1),
    ]
    assert totals == [Booked()] * 4
