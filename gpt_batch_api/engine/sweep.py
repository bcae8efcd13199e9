"""Remove what is not needed any more, on the server and on disk. After the fact, and repeatable.

Nothing is deleted on the server that this store did not put there: files are known by the id that the server gave
them, lost ones by a name that carries a nonce issued here.
"""

from __future__ import annotations

from pathlib import Path

from gpt_batch_api.domain.errors import AccountError, Unreachable
from gpt_batch_api.domain.events import Advice, FilesDeleted
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.push import CLOCK_SKEW_S
from gpt_batch_api.sinks.publish import remove
from gpt_batch_api.store import batches, pushes
from gpt_batch_api.wire import batches as wire_batches
from gpt_batch_api.wire import files as wire_files
from gpt_batch_api.wire.trouble import Refused

FORBIDDEN = 403
"""A key may be allowed to use files but not to delete them."""
FIRST_PAUSE_S = 5.0
MOST_FAILURES = 7
"""If a server that is there has failed so often to delete a file, in some ten minutes, it is left where it is."""
ALIVE = (BatchState.SEALED, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)


def is_due(context: Context) -> bool:
    """Whether files wait to be deleted on the server, or batches to be closed."""
    db = context.db
    return bool(batches.files_to_delete(db) or batches.superseded_files(db) or batches.closable(db))


async def sweep(context: Context) -> None:
    """Delete server files that are not needed, remove local ones, close batches.

    If the server is there, but fails to delete, that is put off, and everything else goes on.
    """
    doomed = [file_id for file_id, _ in (*batches.files_to_delete(context.db), *batches.superseded_files(context.db))]
    done: list[str] = []
    deleted = 0
    for file_id in doomed:
        gone = await _delete(context, file_id)
        if gone is None:
            break
        done.append(file_id)
        deleted += gone
    if done:
        with context.transaction() as tx:
            batches.mark_deleted(tx, done)
            if deleted:
                context.tell(FilesDeleted(count=deleted))
    close_settled(context)


async def _delete(context: Context, file_id: str) -> bool | None:
    """Whether the server deleted the file; None if it is to be tried again later.

    One that it will not delete costs nothing: the user is told, the job goes on.
    """
    try:
        await wire_files.delete(context.remote, file_id)
    except Refused as refused:
        why = str(refused)
    except AccountError as error:
        if error.status != FORBIDDEN:
            raise
        why = str(error)
    except Unreachable as error:
        await wire_batches.check_there(context.remote)
        if _put_off(context):
            return None
        why = error.happened
    else:
        context.sweeping.failures = 0
        return True
    context.tell(
        Advice(text=f"The server does not delete file {file_id} ({why}). Delete it in the provider's console.")
    )
    return False


def _put_off(context: Context) -> bool:
    """Try to delete again after a while, more and more rarely; False if that was done often enough."""
    sweeping = context.sweeping
    if sweeping.failures >= MOST_FAILURES:
        return False
    sweeping.due_s = context.clock.monotonic() + FIRST_PAUSE_S * 2.0**sweeping.failures
    sweeping.failures += 1
    return True


def close_settled(context: Context) -> None:
    """settled → closed where nothing is left on the server; the local files go with it."""
    for batch in batches.closable(context.db):
        remove(context.workplace.folder / batch.file_name)
        with context.transaction() as tx:
            batches.close(tx, batch.id, now=context.clock.now())


def remove_stale_work_files(context: Context) -> None:
    """At start-up: remove batch and spool files that belong to nothing alive, and unfinished ones (left by a kill).

    A download that another process began is not continued: of what was not synced before a power cut the beginning may
    be missing on the disk, and the end there.
    """
    alive = {batch.id for batch in batches.in_states(context.db, *ALIVE)}
    for path, number in list(context.workplace.work_files(task_uuid=context.task_uuid)):
        if number not in alive or is_unfinished(path):
            remove(path)


def is_unfinished(work_file: Path) -> bool:
    """Whether a batch or spool file was not written to its end: it has an ending more than a finished one."""
    return work_file.suffix != ".jsonl"


def remove_all_work_files(context: Context) -> None:
    """Remove all batch and spool files of the task (it is wiped)."""
    for path, _ in list(context.workplace.work_files(task_uuid=context.task_uuid)):
        remove(path)


async def look_for_orphans(context: Context) -> None:
    """Look for files of lost uploads. Found: they will be deleted. Not found for list_lag_wait: they do not exist."""
    orphans = pushes.orphans(context.db)
    if not orphans:
        return
    names = {
        context.workplace.upload_name(orphan.batch_id, task_uuid=context.task_uuid, nonce=orphan.upload_nonce): orphan
        for orphan in orphans
    }
    since = min(orphan.upload_at for orphan in orphans) - CLOCK_SKEW_S
    began_at = context.remote.server_now()
    found = {
        file.filename: file.id
        async for file in wire_files.newest(context.remote, since=since)
        if file.filename in names
    }
    looked_at = context.remote.looked_at(began_at)
    lag_s = context.settings.extra.list_lag_wait
    with context.transaction() as tx:
        for name, orphan in names.items():
            if name in found:
                pushes.end_orphan(tx, orphan, file_id=found[name])
            elif looked_at - orphan.over_at >= lag_s:
                pushes.end_orphan(tx, orphan, file_id=None)
