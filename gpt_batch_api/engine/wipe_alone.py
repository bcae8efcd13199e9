"""A wipe by itself, without the task's code: what it would forget, and the wipe.

The task's code is not needed to forget. Where stored answers are to be shown to it again, they wait for the next run,
which also brings the output file up to date. The server is needed only if something of the task is on it.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from gpt_batch_api.domain.delivery import Delivered, Progress, Rows
from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.errors import InternalError, UserError
from gpt_batch_api.domain.hooks import Handed, Listener, ToHand
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine import wipe
from gpt_batch_api.engine.context import Context, Interruption
from gpt_batch_api.engine.direct import give_up_lost_calls
from gpt_batch_api.engine.session import Job, RunResult, TaskPlan, opened
from gpt_batch_api.engine.start import start
from gpt_batch_api.sinks.publish import remove
from gpt_batch_api.store import batches, ledger, outbox, pushes, snapshot, tasks
from gpt_batch_api.store import wipe as stored_wipe
from gpt_batch_api.store.connection import reading
from gpt_batch_api.store.dry_copy import copy_for_dry_run

_SETTING = {"requests": "wipe_requests", "failed": "wipe_failed", "task": "wipe_task"}


def preview(workplace: Workplace, kind: str, *, now: float) -> stored_wipe.Loss:
    """What the wipe would forget, tried on a copy. Takes no lock and changes nothing."""
    with reading(workplace.store) as db:
        if not tasks.has_begun(db):
            raise UserError(
                f"The task {workplace.prefix!r} in {workplace.folder} has not begun: there is nothing to wipe."
            )
        server = tasks.get_task(db).server or {}
        on_server = _on_server(db)
    with (
        tempfile.TemporaryDirectory(prefix="gpt_batch_api_") as folder,
        closing(copy_for_dry_run(workplace.store, Path(folder))) as store,
        store.transaction() as tx,
    ):
        session_id = tasks.begin_session(tx, pid=os.getpid(), host=socket.gethostname(), settings={}, now=now)
        under_way = batches.in_states(tx, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)
        local = batches.in_states(tx, BatchState.SEALED)
        reserved_pico = ledger.task_total(tx).reserved_pico
        stored_wipe.begin(tx, kind)
        task = tasks.get_task(tx)
        kind = task.wiping or kind
        wiped = stored_wipe.finish(tx, kind, metadata=task.metadata, session_id=session_id, now=now)
    return stored_wipe.Loss(
        kind,
        wiped,
        batches_on_server=len(under_way),
        reserved_pico=reserved_pico,
        local_batches=len(local),
        on_server=on_server,
        sandboxed="sandbox" in server and workplace.sandbox.exists(),
    )


def _on_server(db: sqlite3.Connection) -> bool:
    under_way = batches.in_states(db, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)
    return bool(under_way or batches.count_server_files(db) or pushes.orphans(db))


async def run_wipe(
    settings: Settings,
    workplace: Workplace,
    loss: stored_wipe.Loss,
    *,
    interruption: Interruption,
    listeners: Sequence[Listener],
) -> RunResult:
    """Do what *loss* tells. Raises GPTBatchError; whenever it is broken off, the next run or wipe finishes it."""
    settings = settings.replace(run=False, **({_SETTING[loss.kind]: True} if loss.on_server else {}))
    job = Job(settings, workplace, _plan(workplace), listeners=listeners, interruption=interruption)
    async with opened(job) as context:
        if loss.on_server:
            await start(context)
        else:
            await _wipe_here(context, loss.kind)
        ending = Ending.INTERRUPTED if tasks.get_task(context.db).wiping else Ending.DONE
        return RunResult(Over(ending), snapshot.take(context.db))


async def _wipe_here(context: Context, kind: str) -> None:
    """Wipe without the server."""
    if _on_server(context.db):
        raise UserError("The task went on meanwhile: something of it is on the server now. Look again, then wipe.")
    give_up_lost_calls(context)
    wipe.begin(context, kind)
    await wipe.finish(context)


def _plan(workplace: Workplace) -> TaskPlan:
    """The task as its store has it."""
    with reading(workplace.store) as db:
        task, delivered = tasks.get_task(db), outbox.delivered(db)
    files = _DeliveredFiles([workplace.folder / part.file_name for part in delivered])
    return TaskPlan(kind=task.kind, metadata=task.metadata, make_hooks=lambda metadata: _NoCode(files))


class _NoCode:
    """A task whose code is not there."""

    def __init__(self, output: _DeliveredFiles) -> None:
        self.output = output

    def requests(self) -> Iterator[GPTRequest]:
        return iter(())

    def hand(self, answers: Sequence[ToHand], states: Mapping[int, str | None]) -> Handed:
        raise InternalError("Answers were handed to a task whose code is not there.")

    def completed(self, *, changed: bool) -> Mapping[str, int | float]:
        return {}


class _DeliveredFiles:
    """The files of an output of whatever format: they can be removed, not written."""

    continuous = False

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def check(self, delivered: Sequence[Delivered]) -> bool:
        return True

    def deliver(self, rows: Rows, delivered: Sequence[Delivered], *, generation: int) -> Iterator[Progress]:
        return iter(())

    def files(self) -> list[Path]:
        return [path for path in self._paths if path.exists()]

    def remove(self) -> None:
        for path in self._paths:
            remove(path)
