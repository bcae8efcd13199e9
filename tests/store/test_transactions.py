"""A transaction records everything or nothing, whatever ends it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import InternalError, StateConflict, StoreError, TaskCodeError
from gpt_batch_api.store import batches, ledger, pushes, requests, samples, tasks, wipe
from gpt_batch_api.store.connection import Store
from tests.store.rig import NOW, SERVER_NOW, Desk, desk_at, dump, new_request

ENDINGS: list[BaseException] = [
    ValueError("a mistake"),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    MemoryError(),
    TaskCodeError("the task's code", sample_key="a", location="x.py:1"),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda error: type(error).__name__)
def test_any_exception_takes_back_everything(desk: Desk, ending: BaseException) -> None:
    """Rows of many tables, counts, tallies and batch numbers: all as before, and the exception goes on unchanged."""
    ids = desk.add("a", "b")
    desk.answered("c")
    before = dump(desk.db)

    def work() -> None:
        with desk.store.transaction() as tx:
            requests.add_requests(tx, [new_request("d")])
            tasks.take_batch_number(tx)
            ledger.book(tx, "reserve", now=NOW, session_id=desk.session_id, reserved_pico=5)
            requests.put_into_batch(tx, ids[:1], batch_id=1)
            samples.save_states(tx, {1: '"changed"'})
            raise ending

    with pytest.raises(type(ending)) as caught:
        work()
    assert caught.value is ending
    assert dump(desk.db) == before
    assert not desk.db.in_transaction


def test_after_an_exception_the_next_transaction_works(desk: Desk) -> None:
    """Nobody has to clean up."""
    with suppress(KeyboardInterrupt), desk.store.transaction():
        raise KeyboardInterrupt
    assert desk.add("a") == [1]


def test_an_interrupted_wipe_can_be_finished(desk: Desk) -> None:
    """Its helper tables are rolled back as well, so a second try starts clean."""
    desk.add("a", "b")
    with desk.store.transaction() as tx:
        wipe.begin(tx, "requests")
    with suppress(KeyboardInterrupt), desk.store.transaction() as tx:
        desk.finish_wipe(tx, "requests")
        raise KeyboardInterrupt
    assert desk.one("SELECT count(*) FROM request") == 2
    with desk.store.transaction() as tx:
        done = desk.finish_wipe(tx, "requests")
    assert (done.requests, done.samples) == (2, 2)


def test_a_transaction_within_a_transaction_is_refused(desk: Desk) -> None:
    """An inner commit would tear the outer step apart; and the outer one is taken back."""

    def nest() -> None:
        with desk.store.transaction() as tx:
            requests.add_requests(tx, [new_request("a")])
            with desk.store.transaction():
                pass

    with pytest.raises(InternalError, match="inside another"):
        nest()
    assert desk.one("SELECT count(*) FROM request") == 0
    assert not desk.db.in_transaction


def test_a_refused_inner_transaction_leaves_the_outer_one_open(desk: Desk) -> None:
    """Who catches the refusal can still commit what the outer transaction did."""
    with desk.store.transaction() as tx:
        requests.add_requests(tx, [new_request("a")])
        with pytest.raises(InternalError), desk.store.transaction():
            pass
    assert desk.one("SELECT count(*) FROM request") == 1


def test_a_failed_commit_takes_back_everything(path: Path) -> None:
    """A commit that raises (the seam where tests end the process) has committed nothing."""

    class PowerCut(Store):
        def commit(self) -> None:
            raise OSError("no power")

    with desk_at(path) as desk:
        before = dump(desk.db)
        with pytest.raises(OSError, match="no power"), PowerCut(path, db=desk.db).transaction() as tx:
            requests.add_requests(tx, [new_request("a")])
        assert dump(desk.db) == before


def test_a_broken_promise_is_ours(desk: Desk) -> None:
    """A change against a constraint is an InternalError that names the constraint, and nothing of the step stays."""
    desk.add("a")
    before = dump(desk.db)
    with pytest.raises(InternalError, match=r"UNIQUE.*request"):
        desk.add("b", "a")
    assert dump(desk.db) == before


def test_an_illegal_move_is_a_state_conflict(desk: Desk) -> None:
    """The trigger's complaint comes out as the error that the code knows, chained to SQLite's own."""
    desk.add("a")
    with pytest.raises(StateConflict) as caught, desk.store.transaction() as tx:
        tx.execute("UPDATE request SET state = 'succeeded'")
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)


def test_another_writer_is_refused_with_one_line(desk: Desk) -> None:
    """The lock of the task should prevent it; if another program writes all the same, the error says so."""
    with closing(sqlite3.connect(desk.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        desk.db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StoreError, match="locked"):
            desk.add("a")
        other.execute("ROLLBACK")
    assert desk.add("a") == [1]


def test_a_conflict_in_the_middle_of_a_step_takes_back_the_steps_before(desk: Desk) -> None:
    """A refusal that finds its batch in the wrong state leaves push and money alone."""
    batch_id = desk.seal(desk.add("a"))
    push_id = desk.begin_push(batch_id)
    stale = batches.get(desk.db, batch_id)
    desk.refuse(push_id)
    again = desk.begin_push(batch_id)
    before = dump(desk.db)

    def begin_with_what_was_read_before() -> None:
        with desk.store.transaction() as tx:
            ledger.book(tx, "unknown", now=NOW, session_id=desk.session_id, spent_pico=1)
            pushes.begin(
                tx, stale, session_id=desk.session_id, uploaded=None, nonce="x", now=NOW, server_now=SERVER_NOW
            )

    with pytest.raises(StateConflict):
        begin_with_what_was_read_before()
    assert dump(desk.db) == before
    assert pushes.get(desk.db, again).state == "uploading"


# ---------------------------------------------------------------- beside the event loop


class SlowDisk(Store):
    """Its commits wait for `ready`, and then do what `end` says."""

    ready = threading.Event()
    broken = False

    def commit(self) -> None:
        assert self.ready.wait(10)
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()


@pytest.fixture
def slow(desk: Desk) -> SlowDisk:
    store = SlowDisk(desk.store.path, db=desk.db)
    store.ready = threading.Event()
    return store


async def add_beside(store: Store) -> None:
    async with store.transaction_beside() as tx:
        requests.add_requests(tx, [new_request("a")])


def test_the_event_loop_goes_on_while_the_disk_works(desk: Desk, slow: SlowDisk) -> None:
    """What else is ready runs; the transaction ends when the disk is done."""

    async def both() -> None:
        adding = asyncio.ensure_future(add_beside(slow))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not adding.done()
        slow.ready.set()
        await adding

    asyncio.run(both())
    assert not desk.db.in_transaction
    assert desk.one("SELECT count(*) FROM request") == 1


def test_a_commit_that_is_under_way_is_never_broken_off(desk: Desk, slow: SlowDisk) -> None:
    """Cancelled meanwhile: it is known how the commit ended before the cancellation goes on."""

    async def cancelled() -> None:
        adding = asyncio.ensure_future(add_beside(slow))
        for _ in range(5):
            await asyncio.sleep(0)
        adding.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not adding.done()
        slow.ready.set()
        with pytest.raises(asyncio.CancelledError):
            await adding

    asyncio.run(cancelled())
    assert not desk.db.in_transaction
    assert desk.one("SELECT count(*) FROM request") == 1


def test_a_disk_that_refuses_takes_back_everything_also_beside_the_loop(desk: Desk, slow: SlowDisk) -> None:
    before = dump(desk.db)
    slow.broken = True
    slow.ready.set()
    with pytest.raises(StoreError, match="disk I/O"):
        asyncio.run(add_beside(slow))
    assert dump(desk.db) == before
    assert not desk.db.in_transaction
