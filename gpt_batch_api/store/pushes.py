"""Push attempts: what was intended, and what is known to have happened.

Each attempt carries the nonces by which its file and its batch are found on the server again. A push is made within one
step, so an attempt that is open when nobody works on it is in doubt: its reply was lost, or the process that made it
died. Only a look at the server's lists can say what happened.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpt_batch_api.domain.states import PushState
from gpt_batch_api.store import ledger
from gpt_batch_api.store.batches import BatchRow, add_server_files
from gpt_batch_api.store.codec import storable
from gpt_batch_api.store.connection import expect


@dataclass(frozen=True)
class PushRow:
    """One attempt to bring a batch to the server."""

    id: int
    batch_id: int
    state: PushState
    upload_nonce: str
    upload_at: float
    file_id: str | None
    create_nonce: str | None
    create_at: float | None
    over_at: float | None
    """By when, in the server's time, the call was over that made what its lists are to show; None before the first look.

    Not the intent: a call may take minutes, and the machine may sleep before it leaves.
    """
    remote_id: str | None
    look_at: float | None
    outcome: str | None


_COLUMNS = "id, batch_id, state, upload_nonce, upload_at, file_id, create_nonce, create_at, over_at, remote_id, look_at, outcome"


def _push(row: sqlite3.Row) -> PushRow:
    values = dict(row)
    return PushRow(**{**values, "state": PushState(values["state"])})


def get(db: sqlite3.Connection, push_id: int) -> PushRow:
    """One attempt."""
    return _push(db.execute(f"SELECT {_COLUMNS} FROM push WHERE id = ?", (push_id,)).fetchone())


def open_pushes(db: sqlite3.Connection) -> list[PushRow]:
    """Attempts that are neither done nor given up, oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM push WHERE state IN ('uploading', 'uploaded', 'creating')")
    return sorted(map(_push, rows), key=lambda push: push.id)


@dataclass(frozen=True)
class Uploaded:
    """An input file that lies on the server."""

    nonce: str
    file_id: str
    upload_at: float


def count_pushes(db: sqlite3.Connection, batch_id: int) -> int:
    """How often it was tried to bring a batch to the server."""
    count: int = db.execute("SELECT count(*) FROM push WHERE batch_id = ?", (batch_id,)).fetchone()[0]
    return count


def reusable_file(db: sqlite3.Connection, batch_id: int) -> Uploaded | None:
    """The newest input file of this batch that still lies on the server."""
    row = db.execute(
        "SELECT upload_nonce, push.file_id, upload_at FROM push JOIN server_file ON server_file.file_id = push.file_id "
        "WHERE push.batch_id = ? AND deleted = 0 ORDER BY push.id DESC LIMIT 1",
        (batch_id,),
    ).fetchone()
    return Uploaded(*row) if row else None


def begin(
    tx: sqlite3.Connection,
    batch: BatchRow,
    *,
    session_id: int,
    uploaded: Uploaded | None,
    nonce: str,
    now: float,
    server_now: float,
) -> int:
    """sealed → pushing: commit to bring *batch* to the server and reserve its expected cost; the attempt's id.

    A file that was *uploaded* before is used again; otherwise it will be uploaded under *nonce*.
    """
    cursor = tx.execute(
        "UPDATE batch SET state = 'pushing', session_id = ?, not_before = NULL WHERE id = ? AND state = 'sealed'",
        (session_id, batch.id),
    )
    expect(cursor, 1, f"beginning to push {batch}")
    ledger.book(
        tx,
        "reserve",
        now=now,
        session_id=session_id,
        batch_id=batch.id,
        requests=batch.load.requests,
        input_tokens=batch.load.input_tokens,
        reserved_pico=batch.load.cost_pico,
    )
    state = PushState.UPLOADING if uploaded is None else PushState.UPLOADED
    file = uploaded or Uploaded(nonce, "", server_now)
    cursor = tx.execute(
        "INSERT INTO push (batch_id, state, upload_nonce, upload_at, file_id) VALUES (?, ?, ?, ?, ?)",
        (batch.id, state, file.nonce, file.upload_at, file.file_id or None),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def note_uploaded(tx: sqlite3.Connection, push: PushRow, *, file_id: str, server_now: float) -> None:
    """uploading → uploaded."""
    _move(tx, push, PushState.UPLOADED, "file_id = ?, upload_at = ?, look_at = NULL", file_id, server_now)
    add_server_files(tx, push.batch_id, {file_id: "input"})


def begin_create(tx: sqlite3.Connection, push: PushRow, *, nonce: str, now: float) -> None:
    """uploaded → creating: the intent to create, with the nonce that the batch's metadata will carry."""
    _move(tx, push, PushState.CREATING, "create_nonce = ?, create_at = ?", nonce, now)


def note_created(
    tx: sqlite3.Connection, push: PushRow, *, remote_id: str, status: str, now: float, server_now: float
) -> None:
    """creating → created, and its batch pushing → remote: the server has it."""
    _move(tx, push, PushState.CREATED, "remote_id = ?, over_at = ?, look_at = NULL", remote_id, server_now)
    cursor = tx.execute(
        "UPDATE batch SET state = 'remote', remote_id = ?, remote_status = ?, pushed_at = ?, moved_at = ? "
        "WHERE id = ? AND state = 'pushing'",
        (remote_id, status, now, now, push.batch_id),
    )
    expect(cursor, 1, f"noting the remote id of batch {push.batch_id}")


def created_at(db: sqlite3.Connection, batch_id: int) -> float:
    """By when the batch was created, in the server's time."""
    row = db.execute(
        "SELECT over_at FROM push WHERE batch_id = ? AND state = 'created' ORDER BY id DESC LIMIT 1", (batch_id,)
    ).fetchone()
    at: float = row[0]
    return at


def look_later(tx: sqlite3.Connection, push: PushRow, *, at: float, over_at: float | None = None) -> None:
    """The reply is lost, or was not found yet: look for it on the server at the moment *at*.

    Who has looked knows that the call was over by then: *over_at*, which the first look decides.
    """
    tx.execute("UPDATE push SET look_at = ?, over_at = coalesce(over_at, ?) WHERE id = ?", (at, over_at, push.id))


def lose(tx: sqlite3.Connection, push: PushRow, *, batch: BatchRow, now: float, server_now: float) -> None:
    """What the attempt may have made is not to be found on the server: give it up, the batch is sealed again.

    A lost upload may yet turn up there: it is an orphan, to be found and deleted.
    """
    is_upload = push.state is PushState.UPLOADING
    outcome = "upload lost" if is_upload else "create lost"
    assignments = "outcome = ?, orphan = ?, over_at = coalesce(over_at, ?), look_at = NULL"
    _move(tx, push, PushState.LOST, assignments, outcome, int(is_upload), server_now)
    _seal_again(tx, batch, outcome=outcome, not_before=None, now=now)


def refuse(
    tx: sqlite3.Connection, push: PushRow, *, batch: BatchRow, outcome: str, not_before: float | None, now: float
) -> None:
    """The server said no, or was not asked: nothing happened, the batch is sealed again. Its uploaded file is kept."""
    outcome = storable(outcome)
    _move(tx, push, PushState.REFUSED, "outcome = ?, look_at = NULL", outcome)
    _seal_again(tx, batch, outcome=outcome, not_before=not_before, now=now)


def _seal_again(tx: sqlite3.Connection, batch: BatchRow, *, outcome: str, not_before: float | None, now: float) -> None:
    """pushing → sealed, and its reservation is released."""
    cursor = tx.execute(
        "UPDATE batch SET state = 'sealed', session_id = NULL, not_before = ? WHERE id = ? AND state = 'pushing'",
        (not_before, batch.id),
    )
    expect(cursor, 1, f"taking back the push of {batch}")
    release(tx, batch, now=now, note=outcome)


def release(tx: sqlite3.Connection, batch: BatchRow, *, now: float, note: str) -> None:
    """Give back all that is reserved for *batch*: nothing of it ran."""
    assert batch.session_id is not None
    booked = ledger.batch_total(tx, batch.id)
    ledger.book(
        tx,
        "release",
        now=now,
        session_id=batch.session_id,
        batch_id=batch.id,
        requests=-booked.requests,
        input_tokens=-booked.input_tokens,
        reserved_pico=-booked.reserved_pico,
        note=note,
    )


@dataclass(frozen=True)
class Orphan:
    """A lost upload whose file may yet turn up on the server."""

    push_id: int
    batch_id: int
    upload_nonce: str
    upload_at: float
    """When the upload was intended."""
    over_at: float
    """By when it was over. Both in the server's time."""


def orphans(db: sqlite3.Connection) -> list[Orphan]:
    """Lost uploads that are neither found nor old enough to be forgotten."""
    return [
        Orphan(*row)
        for row in db.execute(
            "SELECT id, batch_id, upload_nonce, upload_at, coalesce(over_at, upload_at) FROM push WHERE orphan = 1"
        )
    ]


def end_orphan(tx: sqlite3.Connection, orphan: Orphan, *, file_id: str | None) -> None:
    """The orphan was found (its file is now known, so it will be deleted), or is given up (None)."""
    tx.execute("UPDATE push SET orphan = 0, file_id = ? WHERE id = ?", (file_id, orphan.push_id))
    if file_id is not None:
        add_server_files(tx, orphan.batch_id, {file_id: "input"})


def _move(tx: sqlite3.Connection, push: PushRow, state: PushState, assignments: str, *values: object) -> None:
    cursor = tx.execute(
        f"UPDATE push SET state = ?, {assignments} WHERE id = ? AND state = ?", (state, *values, push.id, push.state)
    )
    expect(cursor, 1, f"moving push {push.id} from {push.state} to {state}")
