"""A dry run: the real code on a throw-away copy of the store, without a server and without a change on disk.

It shows what would be done from the present state: what would be generated, batched and pushed, and what would wait for
the server. Nothing is learnt from the server, so what depends on its answers is not shown.
"""

from __future__ import annotations

import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.events import Advice, WouldPush
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine import wipe
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.estimate import estimate
from gpt_batch_api.engine.intake import LOOKUP, Intake
from gpt_batch_api.engine.loop import Loop
from gpt_batch_api.engine.seal import dissolve, dissolve_misfits
from gpt_batch_api.engine.session import Job, RunResult, begin_session, open_task
from gpt_batch_api.planning import next_step as steps
from gpt_batch_api.planning.next_step import Generator, Situation, Step
from gpt_batch_api.store import batches, pushes, snapshot
from gpt_batch_api.store import wipe as stored_wipe
from gpt_batch_api.store.dry_copy import copy_for_dry_run


async def run_dry(job: Job) -> RunResult:
    """Show what `run_task` would do. Takes no lock and creates nothing in task_dir."""
    with _on_a_copy(job) as context:
        return RunResult(await _run(context), snapshot.take(context.db))


async def run_estimate(job: Job) -> RunResult:
    """Estimate what is left, with all that the generator has yet. Takes no lock and creates nothing in task_dir."""
    with _on_a_copy(job) as context:
        _wipe(context)
        intake = Intake(context, source=context.hooks.requests())
        while intake.state is Generator.OPEN and not job.interruption.wanted:
            intake.take(LOOKUP)
        if job.interruption.wanted:
            return RunResult(Over(Ending.INTERRUPTED), snapshot.take(context.db))
        found = estimate(context.db, job.settings, now=job.seams.clock.now(), generator_asked=True)
        return RunResult(Over(Ending.DONE), snapshot.take(context.db), found)


@contextmanager
def _on_a_copy(job: Job) -> Iterator[Context]:
    """A session on a throw-away copy of the task's store."""
    with tempfile.TemporaryDirectory(prefix="gpt_batch_api_") as folder:
        place = Workplace(Path(folder), job.workplace.prefix)
        store = copy_for_dry_run(job.workplace.store, place.folder)
        try:
            hooks = open_task(job, store)
            yield replace(job, workplace=place).context(store, hooks, session_id=begin_session(job, store))
        finally:
            store.close()


async def _run(context: Context) -> Over:
    _wipe(context)
    if not context.settings.task.run:
        return Over(Ending.DONE)
    dissolve_misfits(context)
    source = None if context.settings.requester.only_process else context.hooks.requests()
    over = await DryLoop(context, Intake(context, source=source)).run()
    return over if over.ending is Ending.STOPPED else Over(Ending.DONE, over.reasons)


class DryLoop(Loop):
    """The loop without a server: pushes are told instead of made, answers of the server never come."""

    def _situation(self) -> Situation:
        """What waits for the server is left where it is."""
        return replace(
            super()._situation(),
            ended=(),
            awaited=(),
            doubtful=(),
            files_to_sweep=False,
            orphan_due_s=None,
            poll_due_s=float("inf"),
            once=True,
        )

    def _with_server(self, step: Step) -> Coroutine[Any, Any, None] | None:
        if isinstance(step, steps.Push):
            return self._pretend_push(step.batch_id)
        return None

    def _without_server(self, step: Step) -> None:
        if isinstance(step, steps.Recall):
            self._deadline.pretend_recall(step.batch_id)
        else:
            super()._without_server(step)

    async def _keep_calling(self, step: steps.Direct) -> None:
        self._direct.pretend(step.routes)

    async def _pretend_push(self, batch_id: int) -> None:
        context = self._context
        batch = batches.get(context.db, batch_id)
        now = context.clock.now()
        with context.transaction() as tx:
            push_id = pushes.begin(
                tx,
                batch,
                session_id=context.session_id,
                uploaded=None,
                nonce=context.nonce(),
                now=now,
                server_now=now,
            )
            pushes.note_uploaded(tx, pushes.get(tx, push_id), file_id=f"dry-{push_id}", server_now=now)
            pushes.begin_create(tx, pushes.get(tx, push_id), nonce=context.nonce(), now=now)
            attempt = pushes.get(tx, push_id)
            pushes.note_created(tx, attempt, remote_id=f"dry-{push_id}", status="dry run", now=now, server_now=now)
            context.tell(
                WouldPush(
                    batch=batch.id,
                    requests=batch.load.requests,
                    input_tokens=batch.load.input_tokens,
                    size_bytes=batch.load.size_bytes,
                    cost_pico=batch.load.cost_pico,
                )
            )


def _wipe(context: Context) -> None:
    """Pretend a wipe: as if the server were clean."""
    kind = wipe.wanted(context.settings)
    if kind is None:
        return
    under_way = batches.in_states(context.db, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)
    if under_way:
        context.tell(
            Advice(text=f"{len(under_way)} batches on the server would be cancelled and their answers thrown away.")
        )
    wipe.begin(context, kind)
    for batch in batches.in_states(context.db, BatchState.SEALED):
        dissolve(context, batch, why="wiped")
    with context.transaction() as tx:
        done = stored_wipe.finish(
            tx, kind, metadata=context.metadata, session_id=context.session_id, now=context.clock.now()
        )
        context.tell(wipe.told(kind, done))
