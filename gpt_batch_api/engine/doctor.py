"""Check a task from outside, and say what is wrong and what a next run will mend by itself. Changes nothing.

A run may be going on meanwhile. The store is read as it stood at one moment, the files a little later; what does not fit
is looked at again before it is told.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from gpt_batch_api.domain.delivery import UNCERTAIN, Delivered
from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.domain.health import Check, Diagnosis, Health
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.words import count
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine import lock
from gpt_batch_api.engine.seal import holds_batch
from gpt_batch_api.engine.sweep import ALIVE, is_unfinished
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.sinks.checksum import crc32_of
from gpt_batch_api.sinks.jsonl import as_delivered
from gpt_batch_api.sinks.publish import TEMPORARY
from gpt_batch_api.store import batches, checkup, contents, direct, lengths, outbox, pushes, samples, snapshot, tasks
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.migrations import SCHEMA_VERSION
from gpt_batch_api.store.quiet import immutable_address, quietly
from gpt_batch_api.store.tasks import TaskRow

_LOOKS = 3
_PAUSE_S = 0.5

CHANGED_OUTSIDE = (
    "Only something other than this library changes a store so. Restore it from a backup; without one, "
    "--wipe_requests or --wipe_task make what can be made anew. Then please report this."
)


def examine(place: Workplace) -> Diagnosis:
    """Check the task at *place*. While a run is going on, what looks wrong is looked at anew."""
    for _ in range(_LOOKS - 1):
        holder = lock.held_by(place.lock)
        diagnosis = _examine(place, holder)
        if holder is None or diagnosis.healthy:
            return diagnosis
        time.sleep(_PAUSE_S)
    return _examine(place, lock.held_by(place.lock))


def _examine(place: Workplace, holder: str | None) -> Diagnosis:
    with tempfile.TemporaryDirectory(prefix="gpt_batch_api_") as name:
        folder = Path(name)
        try:
            return quietly(place.store, folder, lambda store: _look(store, place, holder, folder))
        except StoreError as error:
            return Diagnosis(place.prefix, None, (_wrong("store", [str(error)], None), _lock(holder, None)))


def _look(store: Path, place: Workplace, holder: str | None, folder: Path) -> Diagnosis:
    with closing(_opened(store, folder)) as db:
        if damage := checkup.damage(db):
            remedy = "Restore the store from a backup, or move it away to start anew."
            return Diagnosis(place.prefix, None, (_wrong("store", damage, remedy), _lock(holder, None)))
        if broken := checkup.broken_json(db):
            return Diagnosis(place.prefix, None, (_wrong("store", broken, CHANGED_OUTSIDE), _lock(holder, None)))
        task = tasks.load_task(db)
        if task is None:
            return Diagnosis(place.prefix, None, (_ok("store", "the task has not begun"), _lock(holder, db)))
        return Diagnosis(place.prefix, task.kind, tuple(_checks(db, task, place, holder, folder)))


def _opened(store: Path, folder: Path) -> sqlite3.Connection:
    """The store as it is; one of an older version is brought to this one first, in a copy. Raises StoreError."""
    db = sqlite3.connect(immutable_address(store), uri=True)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            db.close()
            copy = folder / "copy" / store.name  # by its own name, which stands in what is said of it
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(store, copy)
            with closing(Store.open(copy)):
                pass
            db = sqlite3.connect(immutable_address(copy), uri=True)
        db.row_factory = sqlite3.Row
    except BaseException:
        db.close()
        raise
    return db


def _checks(
    db: sqlite3.Connection, task: TaskRow, place: Workplace, holder: str | None, folder: Path
) -> Iterator[Check]:
    yield _ok("store", "every page, row and index is sound")
    yield _said("references", checkup.lost_references(db), fine=["none points to nowhere"])
    yield _said("schema", checkup.is_ours(db, folder), fine=[f"version {SCHEMA_VERSION}"])
    facts, read = _facts(db), {"contents": contents.unreadable(db), "rows": _unlike_delivered(db, task)}
    for name in checkup.CHECKS:
        yield _said(name, [*checkup.broken_rules(db, name), *read.get(name, ())], fine=facts[name])
    yield _output(db, task, place)
    yield _batch_files(db, place)
    yield _work_files(db, task, place, running=holder is not None)
    yield _direct_calls(db, running=holder is not None)
    yield _pushes(db, running=holder is not None)
    yield _server_files(db)
    yield _wipe(task)
    yield _lock(holder, db)


def _facts(db: sqlite3.Connection) -> dict[str, list[str]]:
    """What there is of each part, to be told where nothing is wrong with it."""
    taken = snapshot.take(db)
    states = [f"{load.requests:,} {state}" for state, load in taken.states.items() if load.requests]
    booked, learnt = taken.booked, lengths.learnt(db)
    return {
        "counts": [f"{count(taken.asked, 'request')} of {count(sum(taken.samples.values()), 'sample')}"],
        "requests": [", ".join(states) or "none"],
        "contents": [f"{count(taken.asked, 'payload')} and {count(contents.count_kept(db), 'answer')} can be read"],
        "batches": [f"{len(taken.active):,} under way, {taken.finished_batches:,} finished"],
        "money": [f"{dollars(booked.spent_pico)} spent, {dollars(booked.reserved_pico)} reserved"],
        "lengths": [f"learnt from {count(sum(kind.answers for kind in learnt.values()), 'answer')}"],
        "rows": [f"{count(samples.count_rows(db), 'row')}, {taken.rows:,} delivered", *_without_rows(db)],
    }


def _without_rows(db: sqlite3.Connection) -> Iterator[str]:
    """No fault: a task need not make a row of each sample. But whoever expects one should know."""
    if number := samples.count_succeeded_without_rows(db):
        yield f"{count(number, 'sample')} succeeded without a row"


def _unlike_delivered(db: sqlite3.Connection, task: TaskRow) -> Iterator[str]:
    """Delivered parts of JSON lines that the rows of the store do not make. (What a document looks like, its task knows.)"""
    parts = outbox.delivered(db)
    if any(part.generation != task.generation or Path(part.file_name).suffix != ".jsonl" for part in parts):
        return
    if not outbox.is_appended(db):
        return
    for part, made in zip(parts, as_delivered(samples.rows_as_bytes(db), parts), strict=True):
        if made.size_bytes != part.size_bytes:
            yield f"{part.file_name}: {part.size_bytes:,} bytes were delivered, the rows of the store make {made.size_bytes:,}"
        elif made.crc32 != part.crc32:
            yield f"{part.file_name}: other rows were delivered than the store has (their checksum is another)"


def _said(name: str, found: list[str], *, fine: Sequence[str]) -> Check:
    return _wrong(name, found, CHANGED_OUTSIDE) if found else _ok(name, *fine)


def _ok(name: str, *found: str) -> Check:
    return Check(name, Health.OK, found)


def _next_run(name: str, *found: str) -> Check:
    return Check(name, Health.NEXT_RUN, found, "run the task again")


def _wrong(name: str, found: list[str], mended_by: str | None) -> Check:
    return Check(name, Health.WRONG, tuple(found), mended_by)


# ---------------------------------------------------------------- files


def _output(db: sqlite3.Connection, task: TaskRow, place: Workplace) -> Check:
    """Each delivered file is there, and begins with what was delivered."""
    parts = outbox.delivered(db)
    changed = [text for part in parts if (text := _changed(part, place.folder))]
    if changed:
        return _wrong("output", changed, "Move the file away: the next run writes it anew from the store.")
    left = [text for part in parts if (text := _unfinished(part, task, place.folder))]
    left += _stray_parts(parts, place)
    left += [f"{path.name} is an unfinished file" for path in _temporary_outputs(place)]
    if left:
        return _next_run("output", *left)
    rows = sum(part.rows for part in parts)
    return _ok("output", f"{count(rows, 'row')} in {count(len(parts), 'file')}, as delivered")


def _changed(part: Delivered, folder: Path) -> str | None:
    path = folder / part.file_name
    if part.generation == UNCERTAIN or not path.exists():
        return None
    has_bytes = path.stat().st_size
    if has_bytes < part.size_bytes:
        return f"{part.file_name} has {has_bytes:,} bytes, {part.size_bytes:,} were delivered"
    if crc32_of(path, part.size_bytes) != part.crc32:
        return f"{part.file_name} was changed after it was delivered (its checksum is another)"
    return None


def _unfinished(part: Delivered, task: TaskRow, folder: Path) -> str | None:
    path = folder / part.file_name
    if part.generation == UNCERTAIN:
        return f"{part.file_name} was being replaced when a run ended; it will be written anew"
    if not path.exists():
        return f"{part.file_name} is gone; it will be written anew"
    if part.generation != task.generation:
        return f"{part.file_name} holds rows that were taken back; it will be written anew"
    if extra := path.stat().st_size - part.size_bytes:
        return f"{part.file_name} has {count(extra, 'byte')} behind the delivered rows; they will be cut off"
    return None


def _stray_parts(parts: Sequence[Delivered], place: Workplace) -> Iterator[str]:
    """Parts that a killed run had begun, and not yet recorded."""
    delivered = {part.file_name for part in parts}
    for path in sorted(place.folder.glob(f"{place.prefix}_output_part*.jsonl")):
        if path.name not in delivered:
            yield f"{path.name} is a part that holds no delivered row; it will be removed"


def _temporary_outputs(place: Workplace) -> list[Path]:
    return sorted(place.folder.glob(f"{place.prefix}_output*{TEMPORARY}"))


def _batch_files(db: sqlite3.Connection, place: Workplace) -> Check:
    """The files of batches that are not on the server yet hold the bytes that were sealed."""
    local = batches.in_states(db, BatchState.SEALED, BatchState.PUSHING)
    wrong = []
    for batch in local:
        path = place.folder / batch.file_name
        if not path.exists():
            wrong.append(f"{batch.file_name} is gone; it will be written again before it is pushed")
        elif not holds_batch(path, batch):
            wrong.append(f"{batch.file_name} was changed; the batch will be pushed as it was sealed")
    if wrong:
        return _next_run("batch files", *wrong)
    return _ok("batch files", f"{count(len(local), 'batch')} to be pushed")


def _work_files(db: sqlite3.Connection, task: TaskRow, place: Workplace, *, running: bool) -> Check:
    """Batch and spool files belong to batches that are under way, and are whole."""
    alive = {batch.id for batch in batches.in_states(db, *ALIVE)}
    left = []
    for path, number in place.work_files(task_uuid=task.uuid):
        if number not in alive:
            left.append(f"{path.name} belongs to no batch under way; it will be removed")
        elif is_unfinished(path):
            left.append(f"{path.name} is unfinished; it will be removed and made anew")
    return _next_run("work files", *left) if left and not running else _ok("work files", "none is left over")


# ---------------------------------------------------------------- what is under way


def _direct_calls(db: sqlite3.Connection, *, running: bool) -> Check:
    calls = [call for session in direct.open_calls(db).values() for call in session]
    if not calls or running:
        return _ok("direct calls", f"{len(calls):,} in flight")
    reserved = dollars(sum(call.reserved_pico for call in calls))
    return _next_run(
        "direct calls",
        f"{count(len(calls), 'call')} in flight when a run ended: whether they ran is unknown; {reserved} will count as "
        "spent, and they will be asked again",
    )


def _pushes(db: sqlite3.Connection, *, running: bool) -> Check:
    in_doubt = pushes.open_pushes(db)
    if not in_doubt or running:
        return _ok("pushes", f"{len(in_doubt):,} open")
    return _next_run(
        "pushes",
        *(
            f"batch {push.batch_id} was being pushed ({push.state}) when a run ended; the server will be asked about it"
            for push in in_doubt
        ),
    )


def _server_files(db: sqlite3.Connection) -> Check:
    left = []
    if doomed := len([*batches.files_to_delete(db), *batches.superseded_files(db)]):
        left.append(f"{count(doomed, 'file')} on the server not needed any more, to be deleted")
    if lost := len(pushes.orphans(db)):
        left.append(f"{count(lost, 'upload')} lost; their files will be looked for on the server and deleted")
    return _next_run("server files", *left) if left else _ok("server files", "none to be deleted")


def _wipe(task: TaskRow) -> Check:
    if task.wiping is None:
        return _ok("wipe", "none under way")
    return _next_run("wipe", f"a wipe ({task.wiping}) was begun and is not finished; it will be")


def _lock(holder: str | None, db: sqlite3.Connection | None) -> Check:
    if holder is not None:
        return _ok("lock", f"{holder} works on the task")
    session = None if db is None else tasks.last_session(db)
    if session is not None and session.ended_at is None:
        return _ok("lock", f"free; the last run (process {session.pid} on {session.host}) ended without a word")
    return _ok("lock", "free")
