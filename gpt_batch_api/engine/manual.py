"""The engine's steps by hand, for a job that is directed from outside (`GPTRequester`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.domain.hooks import Handed, Listener, ToHand
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine import failures
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.hand import record
from gpt_batch_api.engine.intake import Intake
from gpt_batch_api.engine.loop import Loop
from gpt_batch_api.engine.session import Job, Seams, TaskPlan, opened
from gpt_batch_api.engine.start import start
from gpt_batch_api.planning import next_step as steps
from gpt_batch_api.planning.next_step import Situation, next_step
from gpt_batch_api.store import batches, responses, snapshot
from gpt_batch_api.store.snapshot import Snapshot

KIND = "GPTRequester"


class NoTask:
    """A task that asks nothing by itself and sees no answers: its user does."""

    output = None

    def requests(self) -> Iterator[GPTRequest]:
        return iter(())

    def hand(self, answers: Sequence[ToHand], states: Mapping[int, str | None]) -> Handed:
        raise InternalError("Answers were handed to a job that takes them by itself.")

    def completed(self, *, changed: bool) -> Mapping[str, int | float]:
        return {}


class ManualRun:
    """A session on a job whose steps are called one by one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        sends_nothing = context.settings.requester.only_process
        self._intake = Intake(context, source=None if sends_nothing else ())

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, settings: Settings, workplace: Workplace, *, listeners: Sequence[Listener], seams: Seams | None
    ) -> AsyncIterator[ManualRun]:
        """Own the job, do the wipes that the settings ask for, and make its store ready."""
        plan = TaskPlan(kind=KIND, metadata={}, make_hooks=lambda metadata: NoTask())
        async with opened(Job(settings, workplace, plan, listeners=listeners, seams=seams or Seams())) as context:
            await start(context)
            yield cls(context)

    def take(self, requests: Iterable[GPTRequest]) -> None:
        """Store requests; those known already do no harm."""
        intake = Intake(self._context, source=requests)
        while intake.state is steps.Generator.OPEN:
            intake.take(1000)

    def seal_all(self) -> int:
        """Seal batches while there is something to seal and room for one more; how many."""
        return _StepLoop(self._context, self._intake).seal_all()

    async def push_all(self) -> int:
        """Push sealed batches while they are admitted; how many."""
        return await _StepLoop(self._context, self._intake).push_all()

    async def call_all(self) -> int:
        """Send what is queued by direct calls as far as limits allow, and book the answers; how many."""
        return await _StepLoop(self._context, self._intake).call_all()

    async def wait(self, *, everything: bool) -> Over | None:
        """Let batches go on until there are answers (or nothing is left to wait for)."""
        return await _StepLoop(self._context, self._intake).wait_for_answers(everything=everything)

    def answers(self, *, limit: int) -> list[ToHand]:
        """The oldest answers that were not processed yet."""
        return responses.to_hand(self._context.db, limit=limit, max_retries=self._context.retrying.max_retries)

    def record(self, answers: list[ToHand], handed: Handed) -> None:
        """Record what was made of answers."""
        record(self._context, self._intake, answers, handed)

    def snapshot(self) -> Snapshot:
        """How the job stands."""
        return snapshot.take(self._context.db)


class _StepLoop(Loop):
    """The loop in the hands of somebody else: only certain steps are done, answers are left for the user."""

    def _situation(self) -> Situation:
        return replace(super()._situation(), answers_to_hand=False, min_batch_requests=1)

    def seal_all(self) -> int:
        made = 0
        while isinstance(step := next_step(self._preparing()), steps.Seal):
            self._without_server(step)
            made += 1
        return made

    async def push_all(self) -> int:
        before = self._on_server()
        while isinstance(step := next_step(self._sending()), steps.Push):
            await self._do(step)
        return self._on_server() - before

    async def call_all(self) -> int:
        before = responses.count(self._context.db)
        self._forces_direct = True
        try:
            while isinstance(step := next_step(self._calling()), (steps.Direct, steps.Wait)):
                await self._do(step)
        finally:
            await self._direct.finish()
        return responses.count(self._context.db) - before

    def _on_server(self) -> int:
        return len(batches.in_states(self._context.db, BatchState.REMOTE))

    async def wait_for_answers(self, *, everything: bool) -> Over | None:
        """Do steps until there are answers; the reason if the run must not go on."""
        try:
            while everything or not responses.any_to_hand(self._context.db):
                step = next_step(self._situation())
                if isinstance(step, Over):
                    if step.ending is Ending.STOPPED:
                        return Over(Ending.STOPPED, step.reasons or (failures.stop_message(self._context),))
                    return None
                await self._do(step)
            return None
        finally:
            await self._direct.finish()

    def _preparing(self) -> Situation:
        """Only what is needed to decide about sealing: all of the queue, for all that was added is in it."""
        now = self._situation()
        return Situation(
            sealed=tuple(replace(batch, due_s=1.0) for batch in now.sealed),
            piles=now.piles,
            generator=_exhausted(now.generator),
            max_unpushed_batches=now.max_unpushed_batches,
        )

    def _calling(self) -> Situation:
        """Only what is needed to decide about direct calls: everything in the queue goes by them."""
        now = self._situation()
        return Situation(
            piles=now.piles,
            generator=_exhausted(now.generator),
            max_unpushed_batches=0,
            server_back_s=now.server_back_s,
            failed_batches=now.failed_batches,
            safety_stop=now.safety_stop,
            force_direct=True,
            direct_in_flight=now.direct_in_flight,
            direct_due_s=now.direct_due_s,
        )

    def _sending(self) -> Situation:
        """Only what is needed to decide about pushing."""
        now = self._situation()
        return Situation(
            sealed=now.sealed,
            generator=now.generator,
            max_unpushed_batches=0,
            server_back_s=now.server_back_s,
            failed_batches=now.failed_batches,
            safety_stop=now.safety_stop,
        )


def _exhausted(generator: steps.Generator) -> steps.Generator:
    """All that was added is in the queue already."""
    return generator if generator is steps.Generator.OFF else steps.Generator.EXHAUSTED
