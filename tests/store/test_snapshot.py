"""A snapshot: every figure that a watcher shows, in one consistent look."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.domain.states import BatchState, RequestState
from gpt_batch_api.store import snapshot, tasks
from gpt_batch_api.store.connection import Store, connect_readonly
from gpt_batch_api.store.ledger import Booked
from gpt_batch_api.store.tasks import ModelLimit
from tests.store.rig import NOW, Desk, expired, fatal, good, retried, statements


def scene(desk: Desk) -> None:
    """A task in the middle: every state of a request, and batches in several."""
    ids = desk.add("good", "retried", "expired", "bad")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(
        batch_id,
        [good(ids[0], cost_pico=31), retried(ids[1], cost_pico=7), expired(ids[2]), fatal(ids[3])],
        failure="one is bad",
    )
    desk.hand(rows=True)
    desk.deliver()
    desk.answered("answered", cost_pico=50)
    desk.push(desk.seal(desk.add("remote")))
    desk.seal(desk.add("sealed"))
    desk.add("queued")
    with desk.store.transaction() as tx:
        tasks.learn_model_limit(tx, "m", enqueued_tokens=5, now=NOW)


def test_asked_is_the_sum_of_all_states(desk: Desk) -> None:
    """asked = succeeded + failed + held + under way."""
    scene(desk)
    taken = snapshot.take(desk.db)
    assert taken.asked == desk.one("SELECT count(*) FROM request") == 8
    parts = [taken.count(state) for state in (RequestState.SUCCEEDED, RequestState.FAILED, RequestState.HELD)]
    assert parts == [1, 0, 1]
    assert taken.under_way == 6
    assert taken.count(RequestState.QUEUED) == 3


def test_samples_are_counted_by_status(desk: Desk) -> None:
    """All four, zeros included."""
    scene(desk)
    assert snapshot.take(desk.db).samples == {"pending": 7, "succeeded": 1, "failed": 0, "mixed": 0}


def test_batches_are_told(desk: Desk) -> None:
    """Those that are not over, those that wait for the user, and how many are finished."""
    scene(desk)
    taken = snapshot.take(desk.db)
    assert [batch.state for batch in taken.active] == ["settled", "settled", "remote", "sealed"]
    assert [batch.id for batch in taken.batches_in(BatchState.REMOTE, BatchState.SEALED)] == [3, 4]
    assert [batch.failure for batch in taken.failures] == ["one is bad"]
    assert taken.finished_batches == 2


def test_money_is_told(desk: Desk) -> None:
    """Booked, archived, of this session, and what the answers truly cost."""
    scene(desk)
    taken = snapshot.take(desk.db)
    assert taken.booked == taken.session_booked == Booked(5, 42, 100, 88, 0)
    assert taken.archived == Booked()
    assert (taken.answered.cost_pico, taken.answered.expected_cost_pico, taken.answered.settlements) == (88, 250, 2)


def test_the_money_of_a_session_is_its_own(desk: Desk) -> None:
    """The newest session has booked nothing yet."""
    scene(desk)
    later = Desk.open(desk.store.path)
    with closing(later.store):
        taken = snapshot.take(later.db)
    assert taken.session is not None
    assert taken.session.id == later.session_id
    assert taken.session_booked == Booked()
    assert taken.booked == Booked(5, 42, 100, 88, 0)


def test_used_tokens_are_told(desk: Desk) -> None:
    """Of all answers, with the share of what they could have used, and the longest."""
    scene(desk)
    answered = snapshot.take(desk.db).answered
    assert (answered.input_tokens, answered.output_tokens, answered.output_allowance) == (10, 6, 40)
    assert answered.completion_ratio == pytest.approx(0.15)
    assert answered.longest_output_tokens == 3


def test_there_is_no_ratio_before_the_first_answer(desk: Desk) -> None:
    """Nothing divided by nothing is not told."""
    desk.add("a")
    assert snapshot.take(desk.db).answered.completion_ratio is None


def test_deliveries_and_limits_are_told(desk: Desk) -> None:
    """Rows in files, and what models admit."""
    scene(desk)
    taken = snapshot.take(desk.db)
    assert (taken.rows, [part.file_name for part in taken.delivered]) == (1, ["toy_output.jsonl"])
    assert taken.learnt_limits == {"m": ModelLimit(5, NOW)}


def test_the_archive_is_told_after_a_wipe(desk: Desk) -> None:
    """Money spent is never forgotten."""
    desk.answered("a", cost_pico=44)
    desk.wipe("task")
    taken = snapshot.take(desk.db)
    assert (taken.booked, taken.archived) == (Booked(), Booked(1, 7, 0, 44, 0))
    assert (taken.asked, taken.active, taken.answered.batches) == (0, (), 0)


def test_discarded_batches_are_not_told_as_finished(desk: Desk) -> None:
    """They were thrown away."""
    desk.push(desk.seal(desk.add("a")))
    desk.db.execute("UPDATE batch SET discard = 1")
    desk.end(1)
    desk.settle(1, [])
    taken = snapshot.take(desk.db)
    assert (taken.finished_batches, taken.answered.batches) == (0, 0)


def test_a_store_without_a_task_has_nothing_to_show(path: Path) -> None:
    """It was only just created; the look leaves no transaction behind."""
    store = Store.open(path)
    with pytest.raises(InternalError):
        snapshot.take(store.db)
    assert not store.db.in_transaction
    store.close()


def test_a_look_within_a_transaction_sees_what_it_has_done(desk: Desk) -> None:
    """And leaves it open."""
    with desk.store.transaction() as tx:
        tasks.learn_model_limit(tx, "m", enqueued_tokens=5, now=NOW)
        assert snapshot.take(tx).learnt_limits == {"m": ModelLimit(5, NOW)}
        assert tx.in_transaction


def test_a_look_is_one_consistent_view(desk: Desk) -> None:
    """All its queries stand in one read transaction, so what is committed in between is seen wholly or not at all."""
    scene(desk)
    seen: list[str] = []
    with closing(connect_readonly(desk.store.path)) as reader:
        statements(reader, seen)
        snapshot.take(reader)
        assert not reader.in_transaction
    assert (seen[0], seen[-1]) == ("BEGIN", "ROLLBACK")
    assert all(statement.startswith("SELECT") for statement in seen[1:-1])


def test_a_look_costs_the_same_whatever_the_size_of_the_task(desk: Desk) -> None:
    """No query of it reads the tables of requests, responses, samples or rows."""
    scene(desk)
    seen: list[str] = []
    statements(desk.db, seen)
    snapshot.take(desk.db)
    desk.db.set_trace_callback(None)
    plans = [row["detail"] for sql in seen[1:-1] for row in desk.db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    big = [
        plan for plan in plans if plan.split()[1] in ("request", "response", "sample", "output", "payload", "ledger")
    ]
    assert big == []


@pytest.mark.parametrize("pragmas", [(), ("application_id = 1733313089", "journal_mode = WAL")], ids=["empty", "ours"])
def test_a_store_that_is_just_being_made_has_no_task_yet(tmp_path: Path, pragmas: tuple[str, ...]) -> None:
    """A reader may come between the file and its tables, which come all at once."""
    path = tmp_path / "t_state.db"
    with closing(sqlite3.connect(path)) as db:
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
    path.touch()
    assert snapshot.take_from(path) is None
    Store.open(path).close()
    assert snapshot.take_from(path) is None
