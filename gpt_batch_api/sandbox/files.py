"""Files as the API knows them: uploaded, listed, read, deleted, and gone after a while."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from gpt_batch_api.sandbox import calls, errors
from gpt_batch_api.sandbox.calls import Call
from gpt_batch_api.sandbox.chance import name
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.store import ENDED, Store, sync_folder

PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
DEFAULT_LIFE_S = 30 * 86_400
LEAST_LIFE_S, MOST_LIFE_S = 3_600, 2_592_000
MAX_PAGE = 10_000
_MOST_OTHER_BYTES = 536_870_912
_ALIVE = "deleted_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"


@dataclass(frozen=True)
class Upload:
    """A judged upload: its content lies in a file of the store that no row names yet."""

    purpose: str
    filename: str
    content: Path
    bytes: int
    life_s: float | None


class Files:
    """The files in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def receive(self, source: BinaryIO, *, purpose: str, filename: str, life_s: float | None, plan: Plan) -> Upload:
        """Judge an upload and copy its content into the store's folder; raise what the service says against it."""
        if purpose not in PURPOSES:
            raise ApiError(400, f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        if size == 0:
            raise ApiError(400, "File is empty.", param="file")
        most = plan.limits.upload_bytes if purpose == "batch" else _MOST_OTHER_BYTES
        if size > most:
            raise ApiError(400, "File is too large.")
        if purpose == "batch":
            _check_batch_input(source, filename)
        content = self._store.content_path(f"upload-{uuid4().hex}")
        with content.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        sync_folder(content.parent)
        if life_s is None and purpose == "batch":
            life_s = DEFAULT_LIFE_S
        return Upload(purpose, filename, content, size, life_s)

    def add(self, upload: Upload, *, plan: Plan, now: float, call: Call) -> dict[str, Any]:
        """Make an upload a file."""
        with self._store.transaction() as tx:
            row = insert_file(
                tx,
                uuid=self._store.uuid,
                purpose=upload.purpose,
                filename=upload.filename,
                content=upload.content,
                created_at=now,
                expires_at=None if upload.life_s is None else now + upload.life_s,
                listed_at=now + plan.list_lag_s.files,
                visible_at=now + plan.retrieve_lag_s.files,
            )
            call.key = row["id"]
            calls.log(tx, call, at=now, status=200)
        return view(row)

    def retrieve(self, file_id: str, *, now: float) -> dict[str, Any]:
        """The file object."""
        return view(self._row(file_id, now))

    def content(self, file_id: str, *, now: float) -> tuple[Path, str]:
        """Where its content lies, and its name."""
        row = self._row(file_id, now)
        return self._store.content_path(row["path"]), row["filename"]

    def page(
        self, *, purpose: str | None, after: str | None, limit: int, newest_first: bool, now: float
    ) -> dict[str, Any]:
        """A page of the listing."""
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        query = f"""SELECT * FROM file WHERE {_ALIVE} AND listed_at <= :now
                    AND (:purpose IS NULL OR purpose = :purpose) AND (:after IS NULL OR seq {sign} :after)
                    ORDER BY seq {order} LIMIT :limit"""
        with self._store.reading() as db:
            place = None
            if after:
                found = db.execute("SELECT seq FROM file WHERE id = ?", (after,)).fetchone()
                if found is None:
                    raise _no_such_file(after)
                place = found["seq"]
            wanted = {"now": now, "purpose": purpose, "after": place, "limit": limit + 1}
            rows = db.execute(query, wanted).fetchall()
        return page_of([view(row) for row in rows[:limit]], has_more=len(rows) > limit)

    def delete(self, file_id: str, *, now: float, call: Call) -> dict[str, Any]:
        """Delete the file. A batch that is under way has what it needs of it until it ends."""
        row = self._row(file_id, now)
        with self._store.transaction() as tx:
            tx.execute("UPDATE file SET deleted_at = ? WHERE id = ?", (now, file_id))
            unused = forgettable(tx, file_id)
            calls.log(tx, call, at=now, status=200)
        if unused:
            self._store.content_path(row["path"]).unlink(missing_ok=True)
        return {"id": file_id, "object": "file", "deleted": True}

    def forget_expired(self, now: float) -> None:
        """Delete what has outlived its time."""
        query = "SELECT id, path FROM file WHERE deleted_at IS NULL AND expires_at <= ?"
        with self._store.reading() as db:
            expired = db.execute(query, (now,)).fetchall()
        if not expired:
            return
        with self._store.transaction() as tx:
            tx.executemany("UPDATE file SET deleted_at = expires_at WHERE id = ?", [(row["id"],) for row in expired])
            unused = [row["path"] for row in expired if forgettable(tx, row["id"])]
        for path in unused:
            self._store.content_path(path).unlink(missing_ok=True)

    def _row(self, file_id: str, now: float) -> sqlite3.Row:
        query = f"SELECT * FROM file WHERE id = :id AND visible_at <= :now AND {_ALIVE}"
        with self._store.reading() as db:
            row = db.execute(query, {"id": file_id, "now": now}).fetchone()
        if row is None:
            raise _no_such_file(file_id)
        found: sqlite3.Row = row
        return found


def insert_file(tx: sqlite3.Connection, *, uuid: str, content: Path, **columns: Any) -> sqlite3.Row:
    """Add a row for the *content*, which must be on the disk already."""
    seq = tx.execute("SELECT COALESCE(MAX(seq), 0) + 1 FROM file").fetchone()[0]
    values = {
        "seq": seq,
        "id": f"file-{name(24, uuid, 'file', seq)}",
        "bytes": content.stat().st_size,
        "path": content.name,
        **columns,
    }
    marks = ", ".join("?" * len(values))
    tx.execute(f"INSERT INTO file ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    row: sqlite3.Row = tx.execute("SELECT * FROM file WHERE seq = ?", (seq,)).fetchone()
    return row


def forgettable(tx: sqlite3.Connection, file_id: str) -> bool:
    """Whether no batch under way needs the file any more."""
    query = f"SELECT 1 FROM batch WHERE input_file_id = ? AND status NOT IN {ENDED} LIMIT 1"
    return tx.execute(query, (file_id,)).fetchone() is None


def view(row: sqlite3.Row) -> dict[str, Any]:
    """The file object."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": int(row["created_at"]),
        "expires_at": None if row["expires_at"] is None else int(row["expires_at"]),
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": "processed",
        "status_details": None,
    }


def page_of(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of a listing."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else ("", "")
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}


def read_life(anchor: str | None, seconds: str | int | None, *, param: str) -> int | None:
    """How long a file shall live, from the two values of *param* ("expires_after"); None if neither is given."""
    if anchor is None and seconds is None:
        return None
    if anchor is None:
        raise errors.missing_parameter(f"{param}.anchor")
    if anchor != "created_at":
        raise errors.wrong_value(f"{param}.anchor", value=anchor, allowed=("created_at",))
    if seconds is None:
        raise errors.missing_parameter(f"{param}.seconds")
    try:
        life = int(seconds)
    except (TypeError, ValueError):
        raise errors.wrong_type(f"{param}.seconds", expected="an integer", value=seconds) from None
    for bound, breached in ((LEAST_LIFE_S, life < LEAST_LIFE_S), (MOST_LIFE_S, life > MOST_LIFE_S)):
        if breached:
            raise errors.out_of_range(f"{param}.seconds", value=life, bound=bound, above=bound == MOST_LIFE_S)
    return life


def _check_batch_input(source: BinaryIO, filename: str) -> None:
    """An upload is looked at only so far: its name, and that its first line is JSON."""
    if not filename.endswith(".jsonl"):
        raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl")
    first = source.readline()
    source.seek(0)
    try:
        if first.strip():
            json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        message = "Invalid file format. Line 1 is not valid JSON."
        raise ApiError(400, message, param="file", code="invalid_jsonl") from None


def _no_such_file(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {file_id}", param="id")
