"""Batches: sealed with a number of their own, followed, settled once, and swept when nothing needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.store import batches, ledger, pushes, tasks
from gpt_batch_api.store.batches import Report
from gpt_batch_api.store.ledger import Booked
from tests.store.rig import CHAT, MODEL, NOW, Desk, desk_at, expired, fatal, good, retried


def remote(desk: Desk, *keys: str) -> int:
    """A batch on the server."""
    batch_id = desk.seal(desk.add(*(keys or ("a", "b"))))
    desk.push(batch_id)
    return batch_id


def ended(desk: Desk, *keys: str) -> int:
    batch_id = remote(desk, *keys)
    desk.end(batch_id)
    return batch_id


def ids_in(desk: Desk, batch_id: int) -> list[int]:
    return [row[0] for row in desk.table("SELECT id FROM request WHERE batch_id = ? ORDER BY line", batch_id)]


def report(desk: Desk, batch_id: int, found: Report, *, now: float = NOW, over: bool = False) -> None:
    with desk.store.transaction() as tx:
        batches.note_report(tx, batches.get(tx, batch_id), found, now=now, ended=over)


def dissolve(desk: Desk, batch_id: int) -> None:
    with desk.store.transaction() as tx:
        batches.dissolve(tx, batches.get(tx, batch_id), now=NOW)


def test_a_sealed_batch_holds_its_requests_line_by_line(desk: Desk) -> None:
    """With the sums of their weights and all that its file needs."""
    ids = desk.add("a", "b", "c")
    batch_id = desk.seal([ids[2], ids[0]])
    size = desk.one("SELECT sum(size_bytes) FROM request WHERE batch_id = ?", batch_id)
    batch = desk.batch(batch_id)
    assert (batch.endpoint, batch.model, batch.state) == (CHAT, MODEL, BatchState.SEALED)
    assert batch.load == Load(2, size, 14, 40, 200, 20, 100)
    assert desk.table("SELECT line, id FROM request WHERE batch_id = ? ORDER BY line", batch_id) == [
        (1, ids[2]),
        (2, ids[0]),
    ]
    assert str(batch) == f"batch {batch_id}"


def test_batch_numbers_go_up_one_by_one(desk: Desk) -> None:
    """And the next one can be told before, for the name of its file."""
    for number in (1, 2, 3):
        assert tasks.next_batch_number(desk.db) == number
        assert desk.seal(desk.add(f"s{number}")) == number


def test_a_batch_number_is_never_used_twice(path: Path) -> None:
    """Not after it was dissolved, nor after every kind of wipe, nor after a restart."""
    numbers = []
    for turn in range(3):
        with desk_at(path) as desk:
            numbers.append(desk.seal(desk.add(f"s{turn}")))
            dissolve(desk, numbers[-1])
            numbers.append(desk.seal(desk.add(f"t{turn}")))
            dissolve(desk, numbers[-1])
            desk.wipe(("task", "requests", "failed")[turn])
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_a_batch_number_that_was_not_committed_is_free_again(desk: Desk) -> None:
    """Nobody outside has seen it."""
    with pytest.raises(ValueError, match="stop"), desk.store.transaction() as tx:
        raise ValueError(f"stop {tasks.take_batch_number(tx)}")
    assert tasks.next_batch_number(desk.db) == 1


def test_a_dissolved_batch_gives_its_requests_back(desk: Desk) -> None:
    """They are queued as before, for the same attempt."""
    batch_id = desk.seal(desk.add("a", "b"))
    dissolve(desk, batch_id)
    assert desk.table("SELECT state, batch_id, line, attempt, tries FROM request") == [("queued", None, None, 1, 0)] * 2
    assert desk.batch_state(batch_id) is BatchState.DISSOLVED
    assert batches.in_states(desk.db, *BatchState) == []


def test_batches_are_told_by_state_oldest_first(desk: Desk) -> None:
    """Those that are over are left out."""
    first, second, third = remote(desk, "a"), desk.seal(desk.add("b")), remote(desk, "c")
    assert [batch.id for batch in batches.in_states(desk.db, BatchState.REMOTE)] == [first, third]
    assert [batch.id for batch in batches.in_states(desk.db, BatchState.REMOTE, BatchState.SEALED)] == [
        first, second, third,
    ]  # fmt: skip


# ---------------------------------------------------------------- reports


def test_a_report_is_kept_as_it_came(desk: Desk) -> None:
    """Status, counts, file ids and the whole document."""
    batch_id = remote(desk)
    document = {"id": "x", "odd": [1, None, "ü"], "request_counts": None}
    report(desk, batch_id, Report("in_progress", None, "err", 2, 1, 0, document))
    batch = desk.batch(batch_id)
    assert (batch.remote_status, batch.output_file_id, batch.error_file_id) == ("in_progress", None, "err")
    assert (batch.count_total, batch.count_completed, batch.count_failed) == (2, 1, 0)
    assert batches.report_of(desk.db, batch_id) == document


@pytest.mark.parametrize("odd", [10**400, "half a pair \ud83d", "\x00", None], ids=ascii)
def test_a_report_with_odd_values_is_kept(desk: Desk, odd: object) -> None:
    """Whatever Python's JSON reads from a reply can be written down: a strange field must not stop all polling."""
    batch_id = remote(desk)
    report(desk, batch_id, Report("in_progress", document={"id": "x", "odd": odd}))
    assert batches.report_of(desk.db, batch_id)["id"] == "x"


def test_a_batch_moved_when_its_report_changed(desk: Desk) -> None:
    """The same words again are no movement."""
    batch_id = remote(desk)
    same = Report("in_progress", total=2, completed=1, failed=0)
    report(desk, batch_id, same, now=NOW + 1)
    report(desk, batch_id, same, now=NOW + 2)
    assert desk.batch(batch_id).moved_at == NOW + 1
    report(desk, batch_id, Report("in_progress", total=2, completed=2, failed=0), now=NOW + 3)
    assert desk.batch(batch_id).moved_at == NOW + 3


@pytest.mark.parametrize(
    ("found", "moved"),
    [
        (Report("in_progress", None, None, 2, 1, 0), False),
        (Report("in_progress", "out", "err", 2, 1, 0, {"id": "x"}), False),
        (Report("finalizing", None, None, 2, 1, 0), True),
        (Report("in_progress", None, None, 2, 2, 0), True),
        (Report("in_progress", None, None, 2, 1, 1), True),
        (Report("in_progress", None, None, 3, 1, 0), True),
    ],
)
def test_movement_is_a_change_of_status_or_counts(desk: Desk, found: Report, moved: bool) -> None:
    """It can be told before the report is written down."""
    batch_id = remote(desk)
    report(desk, batch_id, Report("in_progress", total=2, completed=1, failed=0))
    assert batches.has_moved(desk.batch(batch_id), found) is moved


def test_an_ended_batch_has_files_to_fetch_and_later_to_delete(desk: Desk) -> None:
    """Both result files are known; none is deleted before the answers are booked."""
    batch_id = ended(desk)
    assert desk.batch_state(batch_id) is BatchState.ENDED
    assert batches.files_to_delete(desk.db) == []
    assert {row[0] for row in desk.table("SELECT role FROM server_file")} == {"input", "output", "error"}


@pytest.mark.parametrize("empty", [None, ""])
def test_a_file_that_is_not_there_is_not_deleted(desk: Desk, empty: str | None) -> None:
    """Servers send null or an empty text for a file that does not exist."""
    batch_id = remote(desk)
    report(desk, batch_id, Report("completed", "out", empty), over=True)
    assert {row[0] for row in desk.table("SELECT file_id FROM server_file WHERE role <> 'input'")} == {"out"}


# ---------------------------------------------------------------- settled


def test_a_settled_batch_tells_what_came_of_it(desk: Desk) -> None:
    """Counts, tokens and money; the reservation is replaced by the true cost."""
    batch_id = ended(desk, "a", "b", "c", "d")
    a, b, c, d = ids_in(desk, batch_id)
    desk.settle(batch_id, [good(a, cost_pico=31), retried(b, cost_pico=7), expired(c), fatal(d)], failure="one is bad")
    row = desk.db.execute("SELECT * FROM batch").fetchone()
    assert (row["n_succeeded"], row["n_free"], row["n_held"], row["true_cost_pico"]) == (1, 1, 1, 38)
    assert ledger.batch_total(desk.db, batch_id) == Booked(3, 28, 0, 38, 0)
    assert [batch.id for batch in batches.with_open_failure(desk.db)] == [batch_id]
    assert desk.batch(batch_id).failure == "one is bad"


def test_a_batch_without_failure_waits_for_nobody(desk: Desk) -> None:
    """Only a failure is open until the user decides."""
    desk.answered("a")
    assert batches.with_open_failure(desk.db) == []


def test_a_decided_failure_is_open_no_more(desk: Desk) -> None:
    """Its text stays."""
    batch_id = ended(desk, "a")
    desk.settle(batch_id, [fatal(ids_in(desk, batch_id)[0])], failure="bad")
    with desk.store.transaction() as tx:
        batches.decide_failure(tx, batch_id)
    assert batches.with_open_failure(desk.db) == []
    assert desk.batch(batch_id).failure == "bad"


def test_a_batch_that_never_ran_goes_again_as_it_was(desk: Desk) -> None:
    """Token limit: sealed again with the same file and requests, as if it had never been pushed."""
    batch_id = ended(desk)
    ids = ids_in(desk, batch_id)
    before = desk.batch(batch_id)
    with desk.store.transaction() as tx:
        pushes.release(tx, before, now=NOW, note="token limit")
        batches.seal_again(tx, before, not_before=NOW + 60)
    after = desk.batch(batch_id)
    assert (after.state, after.remote_id, after.session_id, after.remote_status) == (
        BatchState.SEALED,
        None,
        None,
        None,
    )
    assert (after.output_file_id, after.error_file_id, after.count_total, after.not_before) == (
        None,
        None,
        None,
        NOW + 60,
    )
    assert batches.report_of(desk.db, batch_id) == {}
    assert (after.load, after.sha256, after.file_name) == (before.load, before.sha256, before.file_name)
    assert ids_in(desk, batch_id) == ids
    assert ledger.task_total(desk.db) == Booked()
    assert pushes.reusable_file(desk.db, batch_id) is not None


def test_a_batch_sealed_again_is_settled_like_any_other(desk: Desk) -> None:
    """Its second push reserves anew, and what is booked in the end is the true cost once."""
    batch_id = ended(desk)
    with desk.store.transaction() as tx:
        pushes.release(tx, batches.get(tx, batch_id), now=NOW, note="token limit")
        batches.seal_again(tx, batches.get(tx, batch_id), not_before=None)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(request_id) for request_id in ids_in(desk, batch_id)])
    assert ledger.task_total(desk.db) == Booked(2, 14, 0, 60, 0)


def test_a_batch_that_the_server_forgot_counts_as_spent(desk: Desk) -> None:
    """What was reserved for it may have been charged: spent, with no answer to show for it."""
    batch_id = remote(desk)
    with desk.store.transaction() as tx:
        batches.give_up(tx, batches.get(tx, batch_id), now=NOW)
    assert desk.batch_state(batch_id) is BatchState.SETTLED
    assert ledger.task_total(desk.db) == Booked(2, 14, 0, 200, 200)


# ---------------------------------------------------------------- weighed


def test_a_batch_is_weighed_when_the_task_has_seen_all_its_answers(desk: Desk) -> None:
    """Neither before it is settled nor while an answer waits, and only once."""
    batch_id = ended(desk)
    assert batches.unweighed(desk.db) == []
    first, second = ids_in(desk, batch_id)
    desk.settle(batch_id, [good(first), expired(second)])
    assert batches.unweighed(desk.db) == []
    desk.hand()
    assert batches.unweighed(desk.db) == [(batch_id, 2, 1)]
    with desk.store.transaction() as tx:
        batches.note_passed(tx, batch_id, passed=True)
    assert batches.unweighed(desk.db) == []


def test_a_discarded_batch_is_not_weighed(desk: Desk) -> None:
    """It was thrown away, not bad."""
    batch_id = remote(desk)
    with desk.store.transaction() as tx:
        tx.execute("UPDATE batch SET discard = 1")
    desk.end(batch_id)
    desk.settle(batch_id, [])
    assert batches.unweighed(desk.db) == []


# ---------------------------------------------------------------- swept


def test_files_are_deleted_when_their_batch_is_settled(desk: Desk) -> None:
    """All of them, input included; then the batch can be closed, not before."""
    desk.answered("a")
    doomed = batches.files_to_delete(desk.db)
    assert sorted(role for (role,) in desk.table("SELECT role FROM server_file")) == ["error", "input", "output"]
    assert len(doomed) == 3
    assert {batch_id for _, batch_id in doomed} == {1}
    assert batches.closable(desk.db) == []
    with desk.store.transaction() as tx:
        batches.mark_deleted(tx, [file_id for file_id, _ in doomed[:2]])
    assert batches.closable(desk.db) == []
    with desk.store.transaction() as tx:
        batches.mark_deleted(tx, [file_id for file_id, _ in doomed])
    assert batches.files_to_delete(desk.db) == []
    assert [batch.id for batch in batches.closable(desk.db)] == [1]


def test_a_closed_batch_is_over(desk: Desk) -> None:
    """It is in no list any more."""
    desk.answered("a")
    with desk.store.transaction() as tx:
        batches.mark_deleted(tx, [file_id for file_id, _ in batches.files_to_delete(tx)])
        batches.close(tx, 1, now=NOW)
    assert batches.closable(desk.db) == []
    assert batches.in_states(desk.db, *BatchState) == []
    assert desk.batch_state(1) is BatchState.CLOSED


def test_the_file_of_a_batch_that_may_go_again_is_kept(desk: Desk) -> None:
    """Sealed, pushing and remote batches need their input file."""
    refused = desk.seal(desk.add("a"))
    push_id = desk.begin_push(refused)
    desk.upload(push_id)
    desk.refuse(push_id)
    desk.upload(desk.begin_push(desk.seal(desk.add("b"))))
    remote(desk, "c")
    assert batches.files_to_delete(desk.db) == []
    assert batches.superseded_files(desk.db) == []


def test_the_file_of_a_dissolved_batch_is_deleted(desk: Desk) -> None:
    """It was uploaded, refused, and is of no use to its requests' next batch."""
    batch_id = desk.seal(desk.add("a"))
    push_id = desk.begin_push(batch_id)
    file_id = desk.upload(push_id)
    desk.refuse(push_id)
    dissolve(desk, batch_id)
    assert batches.files_to_delete(desk.db) == [(file_id, batch_id)]
