"""What must stay true stands in the schema, so that no code can break it, whatever SQL it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import pytest

from gpt_batch_api.domain.errors import InternalError, StateConflict
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.domain.states import (
    BATCH_MOVES,
    PUSH_MOVES,
    REPLAY_MOVES,
    REQUEST_MOVES,
    BatchState,
    PushState,
    RequestState,
)
from gpt_batch_api.store import batches, ledger, pushes, responses
from tests.store.rig import NOW, Desk, dump, ended_as, expired, fatal, good, new_request


def refused(desk: Desk, sql: str, *values: object, error: type[InternalError] = InternalError) -> str:
    """Run a change that the schema must refuse; its complaint. Nothing may have changed."""
    before = dump(desk.db)
    with pytest.raises(error) as caught, desk.store.transaction() as tx:
        tx.execute(sql, values)
    assert dump(desk.db) == before
    return str(caught.value)


# ---------------------------------------------------------------- legal moves


class Undo(Exception):
    """Takes a tried move back."""


def allowed(desk: Desk, changes: Mapping[str, tuple[str, tuple[object, ...]]]) -> set[str]:
    """Those states to which the change given with them leads; each is tried from where the store stands now."""
    reached = set()
    refusals: list[str] = []
    for state, (sql, values) in changes.items():
        try:
            with desk.store.transaction() as tx:
                tx.execute(sql, values)
                reached.add(state)
                raise Undo
        except Undo:
            pass
        except InternalError as error:
            refusals.append(str(error))
    assert all("illegal" in refusal for refusal in refusals), refusals
    return reached


def put_request(desk: Desk, state: RequestState) -> int:
    """A request in *state*, brought there by legal steps where the library has them."""
    if state is RequestState.QUEUED:
        return desk.add("a")[0]
    if state is RequestState.SENDING:
        (request_id,) = desk.add("a")
        with desk.store.transaction() as tx:
            tx.execute("UPDATE request SET state = 'sending' WHERE id = ?", (request_id,))
        return request_id
    if state is RequestState.TWIN:
        first_id, request_id = desk.add("the first", "a")
        with desk.store.transaction() as tx:
            tx.execute("UPDATE request SET state = 'twin', twin_of = ? WHERE id = ?", (first_id, request_id))
        return request_id
    if state is RequestState.BATCHED:
        ids = desk.add("a")
        desk.seal(ids)
        return ids[0]
    if state is RequestState.HELD:
        ids = desk.add("a")
        batch_id = desk.seal(ids)
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [fatal(ids[0])], failure="bad")
        return ids[0]
    (request_id,) = desk.answered("a")
    if state in (RequestState.SUCCEEDED, RequestState.FAILED):
        desk.hand(state)
    return request_id


@pytest.mark.parametrize("before", RequestState)
def test_a_request_moves_only_as_the_table_says(desk: Desk, before: RequestState) -> None:
    """Each other state, and the same one again: allowed by the table or refused by the trigger."""
    request_id = put_request(desk, before)
    (other,) = desk.add("other")
    other_batch = desk.seal([other])
    sql = "UPDATE request SET state = ?, batch_id = ?, line = ?, twin_of = ? WHERE id = ?"
    needs = {RequestState.BATCHED: (other_batch, 9, None), RequestState.TWIN: (None, None, other)}
    changes = {str(after): (sql, (after, *needs.get(after, (None, None, None)), request_id)) for after in RequestState}
    assert desk.state_of(request_id) == before
    assert allowed(desk, changes) == set(REQUEST_MOVES[before]) | set(REPLAY_MOVES.get(before, ()))


def put_batch(desk: Desk, state: BatchState) -> int:
    ids = desk.add("a")
    batch_id = desk.seal(ids)
    if state is BatchState.DISSOLVED:
        with desk.store.transaction() as tx:
            tx.execute("UPDATE request SET state = 'queued', batch_id = NULL, line = NULL")
            tx.execute("UPDATE batch SET state = 'dissolved'")
        return batch_id
    if state is BatchState.SEALED:
        return batch_id
    if state is BatchState.PUSHING:
        desk.begin_push(batch_id)
        return batch_id
    desk.push(batch_id)
    if state is BatchState.REMOTE:
        return batch_id
    desk.end(batch_id)
    if state is BatchState.ENDED:
        return batch_id
    desk.settle(batch_id, [good(ids[0])])
    if state is BatchState.CLOSED:
        with desk.store.transaction() as tx:
            tx.execute("UPDATE batch SET state = 'closed'")
    return batch_id


@pytest.mark.parametrize("before", BatchState)
def test_a_batch_moves_only_as_the_table_says(desk: Desk, before: BatchState) -> None:
    """Each other state, and the same one again: allowed by the table or refused by the trigger."""
    batch_id = put_batch(desk, before)
    sql = "UPDATE batch SET state = ?, remote_id = 'remote' WHERE id = ?"
    assert desk.batch_state(batch_id) is before
    assert allowed(desk, {str(after): (sql, (after, batch_id)) for after in BatchState}) == set(BATCH_MOVES[before])


def put_push(desk: Desk, state: PushState) -> int:
    push_id = desk.begin_push(desk.seal(desk.add("a")))
    if state is PushState.UPLOADING:
        return push_id
    if state is PushState.REFUSED:
        desk.refuse(push_id)
        return push_id
    desk.upload(push_id)
    if state is PushState.UPLOADED:
        return push_id
    desk.begin_create(push_id)
    if state is PushState.CREATED:
        desk.note_created(push_id)
    elif state is PushState.LOST:
        with desk.store.transaction() as tx:
            tx.execute("UPDATE push SET state = 'lost'")
    return push_id


@pytest.mark.parametrize("before", PushState)
def test_a_push_moves_only_as_the_table_says(desk: Desk, before: PushState) -> None:
    """Each other state, and the same one again: allowed by the table or refused by the trigger."""
    push_id = put_push(desk, before)
    sql = "UPDATE push SET state = ?, file_id = 'file', create_nonce = 'nonce', remote_id = 'remote' WHERE id = ?"
    assert pushes.get(desk.db, push_id).state is before
    assert allowed(desk, {str(after): (sql, (after, push_id)) for after in PushState}) == set(PUSH_MOVES[before])


@pytest.mark.parametrize("table", ["request", "batch", "push"])
def test_a_state_that_is_no_state_is_refused(desk: Desk, table: str) -> None:
    """A misspelt state is refused as an illegal move."""
    put_push(desk, PushState.UPLOADING)
    refused(desk, f"UPDATE {table} SET state = 'sucseeded'", error=StateConflict)


BIRTHS = {
    "request": (
        "INSERT INTO request (sample_id, purpose, number, epoch, metadata_version, endpoint, model, payload_hash, "
        "size_bytes, input_tokens, sureness, output_allowance, state) VALUES (1, 'p', 0, 1, 1, 'e', 'm', x'', 1, 1, 's', 1, ?)"
    ),
    "batch": (
        "INSERT INTO batch (endpoint, model, file_name, sha256, plan, requests, size_bytes, input_tokens, "
        "output_allowance, expected_output_tokens, cost_pico, sealed_at, state) "
        "VALUES ('e', 'm', 'f', 's', 'p', 1, 1, 1, 1, 1, 1, 0, ?)"
    ),
    "push": (
        "INSERT INTO push (batch_id, upload_nonce, upload_at, file_id, create_nonce, remote_id, state) "
        "VALUES (1, 'n', 0, 'f', 'c', 'r', ?)"
    ),
}
FIRST_STATES: dict[str, set[str]] = {"request": {"queued"}, "batch": {"sealed"}, "push": {"uploading", "uploaded"}}
STATES: dict[str, type[StrEnum]] = {"request": RequestState, "batch": BatchState, "push": PushState}


@pytest.mark.parametrize("table", BIRTHS)
def test_a_row_begins_only_where_its_life_begins(desk: Desk, table: str) -> None:
    """Every other state has to be reached by legal moves, so that counts and money go with it."""
    put_push(desk, PushState.REFUSED)
    begun = allowed(desk, {str(state): (BIRTHS[table], (state,)) for state in STATES[table]})
    assert begun == FIRST_STATES[table]


@pytest.mark.parametrize("table", BIRTHS)
def test_no_row_is_born_in_a_state_that_is_no_state(desk: Desk, table: str) -> None:
    """An insert can no more misspell a state than an update can."""
    put_push(desk, PushState.REFUSED)
    refused(desk, BIRTHS[table], "sucseeded")


# ---------------------------------------------------------------- constraints, one change each


def settled_and_waiting(desk: Desk) -> None:
    """One request answered, one queued, two batched: of their batches one is being uploaded, the other created."""
    desk.answered("answered")
    desk.add("queued")
    desk.begin_push(desk.seal(desk.add("batched")))
    creating = desk.begin_push(desk.seal(desk.add("creating")))
    desk.upload(creating)
    desk.begin_create(creating)


BREAKS: dict[str, str] = {
    "two tasks": "INSERT INTO task (id, uuid, kind, created_at, metadata) VALUES (2, 'u', 'k', 0, '{}')",
    "metadata that are no JSON": "UPDATE task SET metadata = '{'",
    "a server that is no JSON": "UPDATE task SET server = 'there'",
    "a wipe of an unknown kind": "UPDATE task SET wiping = 'everything'",
    "half complete": "UPDATE task SET complete = 2",
    "the same sample twice": "INSERT INTO sample (key) VALUES ('queued')",
    "sample state that is no JSON": "UPDATE sample SET state = 'nan'",
    "fewer than no open requests": "UPDATE sample SET open = -1",
    "a request of no sample": "UPDATE request SET sample_id = 99",
    "the same request twice": (
        "UPDATE request SET sample_id = (SELECT id FROM sample WHERE key = 'queued') WHERE state = 'answered'"
    ),
    "a request without size": "UPDATE request SET size_bytes = 0",
    "meta that is no JSON": "UPDATE request SET meta = 'NaN'",
    "attempt zero": "UPDATE request SET attempt = 0",
    "a queued request in a batch": "UPDATE request SET batch_id = 1 WHERE state = 'queued'",
    "a queued request with a line": "UPDATE request SET line = 1 WHERE state = 'queued'",
    "a batched request without batch": "UPDATE request SET batch_id = NULL WHERE state = 'batched'",
    "a batched request without line": "UPDATE request SET line = NULL WHERE state = 'batched'",
    "a batched request in no batch": "UPDATE request SET batch_id = 99 WHERE state = 'batched'",
    "a sample removed under its requests": "DELETE FROM sample WHERE key = 'queued'",
    "a batch removed under its requests": "DELETE FROM batch WHERE state = 'pushing'",
    "a batch of no requests": "UPDATE batch SET requests = 0",
    "a settled batch without remote id": "UPDATE batch SET remote_id = NULL WHERE state = 'settled'",
    "two batches with one remote id": "UPDATE batch SET remote_id = 'same'",
    "a report that is no JSON": "UPDATE batch SET report = 'x' WHERE state = 'settled'",
    "a second open push of a batch": (
        "INSERT INTO push (batch_id, state, upload_nonce, upload_at) SELECT batch_id, 'uploading', 'n', 0 FROM push "
        "WHERE state = 'uploading'"
    ),
    "two pushes with one create nonce": "UPDATE push SET create_nonce = 'same'",
    "two pushes with one remote id": "UPDATE push SET remote_id = 'same'",
    "an uploaded push without file": "UPDATE push SET state = 'uploaded' WHERE state = 'uploading'",
    "a creating push without nonce": "UPDATE push SET create_nonce = NULL WHERE state = 'creating'",
    "a creating push without file": "UPDATE push SET file_id = NULL WHERE state = 'creating'",
    "a created push without remote id": "UPDATE push SET remote_id = NULL WHERE state = 'created'",
    "a push of no batch": "INSERT INTO push (batch_id, state, upload_nonce, upload_at) VALUES (99, 'uploading', 'n', 0)",
    "a server file with an unknown role": "INSERT INTO server_file VALUES ('f', 1, 'photo', 0)",
    "a server file of no batch": "INSERT INTO server_file VALUES ('f', 99, 'input', 0)",
    "a limit of no tokens": "INSERT INTO model_limit VALUES ('m', 0, 0)",
    "an unknown verdict": "UPDATE response SET verdict = 'maybe'",
    "an answer that gives money back": "UPDATE response SET cost_pico = -1",
    "an answer of no request": "UPDATE response SET request_id = 99",
    "a second answer to one try": (
        "INSERT INTO response SELECT 99, request_id, try, attempt, batch_id, NULL, received_at, status_code, verdict, reason, "
        "message, 1, 0, 0, 1, 0, 0, 0, NULL, NULL, NULL FROM response"
    ),
    "handed without a verdict": "UPDATE response SET handed = 1",
    "a verdict without being handed": "UPDATE response SET task_verdict = 'success'",
    "a row that is no JSON": "INSERT INTO output (sample_id, row) VALUES (1, 'row')",
    "a row of no sample": "INSERT INTO output (sample_id, row) VALUES (99, '{}')",
    "a ledger line of an unknown kind": (
        "INSERT INTO ledger (at, era, session_id, kind) VALUES (0, 1, 1, 'gift')"
    ),
    "a ledger line of no session": "INSERT INTO ledger (at, era, session_id, kind) VALUES (0, 1, 99, 'reserve')",
    "event data that are no JSON": "INSERT INTO event (at, kind, data) VALUES (0, 'X', 'data')",
    "a number that is a text": "UPDATE request SET input_tokens = 'many'",
}  # fmt: skip


@pytest.mark.parametrize("sql", BREAKS.values(), ids=BREAKS)
def test_the_schema_refuses(desk: Desk, sql: str) -> None:
    """One change against one promise: refused, and nothing changed."""
    settled_and_waiting(desk)
    refused(desk, sql)


# ---------------------------------------------------------------- the ledger


def test_ledger_lines_are_final(desk: Desk) -> None:
    """A line is never changed, not even to what it is already."""
    settled_and_waiting(desk)
    assert "final" in refused(desk, "UPDATE ledger SET spent_pico = spent_pico")


def test_ledger_lines_are_kept(desk: Desk) -> None:
    """A line is never removed."""
    settled_and_waiting(desk)
    assert "kept" in refused(desk, "DELETE FROM ledger WHERE id = 1")


@pytest.mark.parametrize("field", ["requests", "input_tokens", "reserved_pico", "spent_pico", "unlinked_pico"])
def test_no_total_becomes_negative(desk: Desk, field: str) -> None:
    """More can never be given back than was booked: to zero it may go, one below zero is refused."""

    def book(amount: int) -> None:
        amounts: dict[str, Any] = {field: amount}
        with desk.store.transaction() as tx:
            ledger.book(tx, "reserve", now=NOW, session_id=desk.session_id, **amounts)

    book(5)
    book(-5)
    before = dump(desk.db)
    with pytest.raises(InternalError):
        book(-1)
    assert dump(desk.db) == before


def test_one_session_cannot_give_back_what_another_reserved(desk: Desk) -> None:
    """Each session has its own account, so a wrong booking shows at once."""
    with desk.store.transaction() as tx:
        ledger.book(tx, "reserve", now=NOW, session_id=desk.session_id, reserved_pico=5)
    other = Desk.open(desk.store.path)
    other.store.close()
    with pytest.raises(InternalError), desk.store.transaction() as tx:
        ledger.book(tx, "release", now=NOW, session_id=other.session_id, reserved_pico=-5)


# ---------------------------------------------------------------- steps name the state they leave

Step = Callable[[Desk], object]


def dissolve_twice(desk: Desk) -> None:
    batch = desk.batch(desk.seal(desk.add("x")))
    with desk.store.transaction() as tx:
        batches.dissolve(tx, batch, now=NOW)
    with desk.store.transaction() as tx:
        batches.dissolve(tx, batch, now=NOW)


def seal_what_is_batched(desk: Desk) -> None:
    ids = desk.add("x", "y")
    desk.seal(ids[:1])
    desk.seal(ids)


def push_twice(desk: Desk) -> None:
    batch_id = desk.seal(desk.add("x"))
    desk.begin_push(batch_id)
    desk.begin_push(batch_id)


def upload_twice(desk: Desk) -> None:
    push_id = desk.begin_push(desk.seal(desk.add("x")))
    desk.upload(push_id)
    desk.upload(push_id)


def create_before_the_upload(desk: Desk) -> None:
    desk.begin_create(desk.begin_push(desk.seal(desk.add("x"))))


def be_created_twice(desk: Desk) -> None:
    push_id = desk.push(desk.seal(desk.add("x")))
    desk.note_created(push_id)


def be_refused_after_creation(desk: Desk) -> None:
    desk.refuse(desk.push(desk.seal(desk.add("x"))))


def end_twice(desk: Desk) -> None:
    batch_id = desk.seal(desk.add("x"))
    desk.push(batch_id)
    desk.end(batch_id)
    desk.end(batch_id)


def settle_before_the_end(desk: Desk) -> None:
    ids = desk.add("x")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.settle(batch_id, [good(ids[0])])


def settle_twice(desk: Desk) -> None:
    ids = desk.add("x")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(ids[0])])
    desk.settle(batch_id, [])


def seal_again_what_is_settled(desk: Desk) -> None:
    desk.answered("x")
    with desk.store.transaction() as tx:
        batches.seal_again(tx, batches.get(tx, 1), not_before=None)


def close_before_settling(desk: Desk) -> None:
    batch_id = desk.seal(desk.add("x"))
    with desk.store.transaction() as tx:
        batches.close(tx, batch_id, now=NOW)


def answer_a_queued_request(desk: Desk) -> None:
    (request_id,) = desk.add("x")
    with desk.store.transaction() as tx:
        responses.record(tx, [good(request_id)], batch_id=None, keep_raw=True, now=NOW)


def answer_once_more(desk: Desk) -> None:
    (request_id,) = desk.answered("x")
    with desk.store.transaction() as tx:
        responses.record(tx, [good(request_id)], batch_id=1, keep_raw=True, now=NOW)


def finish_twice(desk: Desk) -> None:
    desk.answered("x")
    (answer,) = desk.hand()
    with desk.store.transaction() as tx:
        responses.finish(tx, [ended_as(answer, RequestState.FAILED)], keep_raw=True)


def release_what_is_not_held(desk: Desk) -> None:
    ids = desk.add("x")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [fatal(ids[0])], failure="bad")
    held = responses.held_of(desk.db, Source("batch", batch_id), limit=9)
    for _ in range(2):
        with desk.store.transaction() as tx:
            responses.release_held(tx, held, retry=True, now=NOW)


STEPS: list[Step] = [
    dissolve_twice,
    seal_what_is_batched,
    push_twice,
    upload_twice,
    create_before_the_upload,
    be_created_twice,
    be_refused_after_creation,
    end_twice,
    settle_before_the_end,
    settle_twice,
    seal_again_what_is_settled,
    close_before_settling,
    answer_a_queued_request,
    answer_once_more,
    finish_twice,
    release_what_is_not_held,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_step_from_the_wrong_state_is_a_conflict(desk: Desk, step: Step) -> None:
    """Each step names the state that it leaves; from another one it is refused."""
    with pytest.raises(StateConflict):
        step(desk)
    assert not desk.db.in_transaction
    assert desk.table("PRAGMA foreign_key_check") == []


def test_two_answers_to_one_request_in_one_step_are_refused(desk: Desk) -> None:
    """A second answer would be handed over, and paid in the books, twice."""
    ids = desk.add("x")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    before = dump(desk.db)
    with pytest.raises(InternalError):
        desk.settle(batch_id, [good(ids[0]), expired(ids[0])])
    assert dump(desk.db) == before


@pytest.mark.parametrize("state", RequestState)
def test_counts_follow_a_request_that_is_deleted(desk: Desk, state: RequestState) -> None:
    """Whatever its state was: its sample and all tallies are as if it had never been."""
    desk.add(new_request("a", "other"))
    request_id = put_request(desk, state)
    desk.db.execute("DELETE FROM output")
    with desk.store.transaction() as tx:
        tx.execute("DELETE FROM request WHERE id = ?", (request_id,))
    assert tuple(desk.sample("a"))[3:] == (1, 0, 0, "pending")
    assert desk.table("SELECT sum(requests), sum(size_bytes) FROM tally") == desk.table(
        "SELECT count(*), sum(size_bytes) FROM request"
    )
    assert desk.table("SELECT status, samples FROM sample_tally WHERE samples > 0") == desk.table(
        "SELECT status, count(*) FROM sample GROUP BY status"
    )
    assert desk.table("SELECT * FROM payload WHERE request_id NOT IN (SELECT id FROM request)") == []
