"""The loop: describe the situation, ask `next_step`, do it, until it is over.

Steps that talk to the server may take long; a wish to stop waits a few seconds for the present one and then breaks it
off, which is the same to the store as a lost reply. Steps without the server always run to their end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Coroutine
from typing import Any

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.errors import GPTBatchError, ServerError, TaskCodeError, Unreachable
from gpt_batch_api.domain.events import Advice, FiguresLogged, RunEnded, TaskCompleted, Waiting
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.states import FINAL_REQUEST_STATES, BatchState, RequestState
from gpt_batch_api.domain.words import sentence
from gpt_batch_api.engine import deliver, failures, poll, push, seal, settle, sweep
from gpt_batch_api.engine.context import GRACE_S, Context
from gpt_batch_api.engine.deadline import Deadline
from gpt_batch_api.engine.direct import DirectRoad
from gpt_batch_api.engine.hand import hand
from gpt_batch_api.engine.intake import Intake
from gpt_batch_api.engine.shutdowns import warn_of_shutdown
from gpt_batch_api.planning import next_step as steps
from gpt_batch_api.planning.admission import Hold, OnServer, admit, admit_direct
from gpt_batch_api.planning.deadline import Hurry
from gpt_batch_api.planning.next_step import Situation, Step, next_step
from gpt_batch_api.store import batches, direct, ledger, outbox, pushes, requests, responses, samples, tasks
from gpt_batch_api.wire.trouble import Refused

FIRST_BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 300.0
FIRST_ORPHAN_LOOK_S = 1.0
LONGEST_ORPHAN_LOOK_S = 60.0
READ_AGAIN_S = 10.0
"""How long it is taken for granted that a pile is light enough for direct calls; if not, they notice."""
INTAKE_BESIDE_CALLS = 25
"""So many requests are taken in at a time where direct calls must not wait for it."""


class Loop:
    """One run of the loop, with its timers."""

    def __init__(self, context: Context, intake: Intake) -> None:
        self._context = context
        self._intake = intake
        self._poll_at = 0.0
        self._server_back_at = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._direct = DirectRoad(context)
        self._forces_direct = context.settings.requester.force_direct
        self._deadline = Deadline(context)
        self._hurry = Hurry.NONE
        self._fits_until: dict[tuple[str, str], float] = {}
        self._orphan_look_at = 0.0
        self._orphan_pause_s = FIRST_ORPHAN_LOOK_S

    async def run(self) -> Over:
        """Do steps until the run is over. The output is brought up to date at the end, also if it ends with an error."""
        try:
            while True:
                step = next_step(self._situation())
                if isinstance(step, Over):
                    break
                await self._do(step)
            await self._finish_direct()
        except GPTBatchError as error:
            with contextlib.suppress(GPTBatchError):
                await self._finish_direct(hands=not isinstance(error, TaskCodeError))
                deliver.deliver(self._context)
            raise
        deliver.deliver(self._context)
        return self._finish(step)

    async def _finish_direct(self, *, hands: bool = True) -> None:
        """Wait for the direct calls in flight, and let the task see their answers: good rows are delivered at once."""
        await self._direct.finish()
        while hands and not self._context.interruption.wanted and responses.any_to_hand(self._context.db):
            hand(self._context, self._intake)

    def _finish(self, over: Over) -> Over:
        context = self._context
        if over.ending is Ending.STOPPED and not over.reasons:
            over = Over(Ending.STOPPED, (failures.stop_message(context),))
        complete = over.ending is Ending.DONE and self._intake.state is steps.Generator.EXHAUSTED and all_final(context)
        with context.transaction() as tx:
            if complete:
                tasks.set_complete(tx, True)
                context.tell(TaskCompleted(rows=samples.count_rows(tx)))
            context.tell(RunEnded(outcome=str(over.ending), reasons=over.reasons))
        if complete:
            tell_task_completed(context)
        return over

    # ------------------------------------------------------------ look

    def _situation(self) -> Situation:
        context, db = self._context, self._context.db
        now_s = context.clock.monotonic()
        loads = requests.state_loads(db)
        self._hurry = self._deadline.look()
        ended = {batch.id: context.results_due_s(batch.id) for batch in batches.in_states(db, BatchState.ENDED)}
        return Situation(
            interrupted=context.interruption.wanted,
            ended=tuple(batch_id for batch_id, due_s in ended.items() if due_s <= 0),
            awaited=tuple(
                steps.Awaited(due_s, will_end=not context.searches[batch_id].failures)
                for batch_id, due_s in ended.items()
                if due_s > 0
            ),
            answers_to_hand=responses.any_to_hand(db),
            rows_to_deliver=deliver.is_due(context),
            files_to_sweep=sweep.is_due(context),
            sweep_due_s=context.sweeping.due_s - now_s,
            doubtful=tuple(
                steps.Doubtful(attempt.id, self._due_s(attempt.look_at, longest_s=push.LONGEST_LOOK_S))
                for attempt in pushes.open_pushes(db)
            ),
            failed_batches=failures.waiting(context),
            failures_allowed=failures.allowed(context),
            safety_stop=self._safety_stop(),
            remote_batches=len(batches.in_states(db, BatchState.REMOTE)),
            poll_due_s=self._poll_at - now_s,
            sealed=self._sealed(),
            piles=self._piles(),
            held_requests=loads[RequestState.HELD].requests,
            generator=self._intake.state,
            max_unpushed_batches=context.settings.limits.max_unpushed_batches,
            min_batch_requests=context.settings.limits.min_batch_requests,
            orphan_due_s=max(0.0, self._orphan_look_at - now_s) if pushes.orphans(db) else None,
            server_back_s=self._server_back_at - now_s,
            force_direct=self._forces_direct,
            direct_in_flight=self._direct.in_flight,
            direct_due_s=self._direct.due_s,
            hurry=self._hurry,
            to_recall=self._deadline.to_recall(),
            once=context.settings.extra.once,
        )

    def _due_s(self, at: float | None, *, longest_s: float) -> float:
        """Seconds until the wall-clock moment *at*; none if that is further away than any wait: the clock was set back."""
        wait_s = 0.0 if at is None else at - self._context.clock.now()
        return wait_s if wait_s <= longest_s else 0.0

    def _safety_stop(self) -> str | None:
        most = self._context.settings.requester.max_pass_failures
        if self._context.bad_batches < most:
            return None
        return (
            f"{self._context.bad_batches} batches in a row have not passed, and max_pass_failures is {most}. All answers "
            "are safe. Look at the errors above, then run again, with a higher --max_pass_failures or a lower "
            "--min_pass_ratio if they are to be expected."
        )

    def _sealed(self) -> tuple[steps.Sealed, ...]:
        context, db = self._context, self._context.db
        sealed = batches.in_states(db, BatchState.SEALED)
        if not sealed:
            return ()
        there = batches.in_states(db, BatchState.PUSHING, BatchState.REMOTE)
        tokens: dict[str, int] = {}
        for batch in there:
            tokens[batch.model] = tokens.get(batch.model, 0) + batch.load.input_tokens
        on_server = OnServer(len(there), sum((batch.load for batch in there), Load()), tuple(tokens.items()))
        task = ledger.task_total(db).total
        session = ledger.session_total(db, context.session_id).total
        return tuple(
            steps.Sealed(
                batch.id,
                batch.model,
                admit(
                    batch.load,
                    model=batch.model,
                    task=task,
                    session=session,
                    remote=on_server,
                    limits=context.limits,
                    learnt=seal.admitted_tokens(context, batch.model),
                ),
                self._due_s(batch.not_before, longest_s=max(push.LONGEST_WAIT_S, context.postponed_s)),
            )
            for batch in sealed
        )

    def _piles(self) -> tuple[steps.Pile, ...]:
        context, db = self._context, self._context.db
        most = context.retrying.max_expiries
        expired = direct.expired_loads(db, least_expiries=most) if context.retrying.may_go_direct else {}
        piles = []
        for (endpoint, model), queued in requests.queue_loads(db).items():
            late = expired.get((endpoint, model), Load())
            load = queued - late
            cost = context.plain_cost_pico(endpoint, model, load)
            weighed = Load(load.requests, load.size_bytes, load.input_tokens, load.output_allowance, cost)
            goes_direct = self._may_go_direct(endpoint, model, load)
            piles.append(
                steps.Pile(
                    endpoint,
                    model,
                    load.requests,
                    full=load.requests > 0 and seal.is_full(context, model, weighed),
                    direct=goes_direct,
                    expired=late.requests,
                    holds=self._direct_holds(endpoint, model) if goes_direct else (),
                    expired_holds=self._direct_holds(endpoint, model, least_expiries=most) if late.requests else (),
                )
            )
        return tuple(piles)

    def _may_go_direct(self, endpoint: str, model: str, load: Load) -> bool:
        """Whether all of a pile may go by direct calls: it is small (or must), and each request is light enough."""
        context = self._context
        if self._forces_direct:
            return True
        if self._hurry is Hurry.NONE and (
            not context.retrying.may_go_direct or load.requests >= context.settings.limits.min_batch_requests
        ):
            return False
        return self._all_fit_direct(endpoint, model)

    def _all_fit_direct(self, endpoint: str, model: str) -> bool:
        """Whether each request of a pile is light enough. A large pile is not read again at each step."""
        context, pile = self._context, (endpoint, model)
        now_s = context.clock.monotonic()
        if self._direct.met_unfit:
            self._fits_until.clear()
            self._direct.met_unfit = False
        if self._hurry is Hurry.NONE or self._fits_until.get(pile, now_s) <= now_s:
            tokens, allowance = direct.heaviest(context.db, endpoint=endpoint, model=model)
            load = context.heaviest_load(endpoint, model, input_tokens=tokens, output_allowance=allowance)
            if not context.fits_direct(load):
                return False
            self._fits_until[pile] = now_s + READ_AGAIN_S
        return True

    def _direct_holds(self, endpoint: str, model: str, *, least_expiries: int = 0) -> tuple[Hold, ...]:
        """What keeps the next direct call of a pile back."""
        context, db = self._context, self._context.db
        first = direct.first(db, endpoint=endpoint, model=model, least_expiries=least_expiries)
        if first is None:
            return ()
        tokens, kind = first
        road = self._direct.road_of(steps.Route(endpoint, model, flex=self._hurry is Hurry.FLEX))
        return admit_direct(
            context.direct_load(kind, input_tokens=tokens, road=road),
            task=ledger.task_total(db).total,
            session=ledger.session_total(db, context.session_id).total,
            limits=context.limits,
        )

    # ------------------------------------------------------------ act

    async def _do(self, step: Step) -> None:
        """Do one step. Trouble in reaching the server postpones all that need it."""
        try:
            if isinstance(step, steps.Wait):
                await self._wait(step)
            elif isinstance(step, steps.Direct):
                await self._keep_calling(step)
            elif (coroutine := self._with_server(step)) is not None:
                await unless_stopped(self._context, coroutine)
                self._server_back_at, self._backoff_s = 0.0, FIRST_BACKOFF_S
            else:
                self._without_server(step)
        except Refused as refused:
            raise ServerError(
                f"The server refused a call that is needed here: {refused}. Nothing is lost."
            ) from refused
        except Unreachable as error:
            if self._server_back_at > self._context.clock.monotonic():
                return  # the same trouble, told by another call that was in flight
            delay_s = max(self._backoff_s, error.retry_after_s or 0.0)
            self._server_back_at = self._context.clock.monotonic() + delay_s
            self._backoff_s = min(LONGEST_BACKOFF_S, self._backoff_s * 2)
            self._context.tell(
                Advice(text=f"{sentence(str(error))} Trying again in {delay_s:,.0f} s; nothing is lost.")
            )

    def _with_server(self, step: Step) -> Coroutine[Any, Any, None] | None:
        context = self._context
        match step:
            case steps.Settle(batch_id):
                return settle.settle(context, batch_id)
            case steps.Recall(batch_id):
                return self._deadline.recall(batch_id)
            case steps.Push(batch_id):
                return push.push(context, batch_id)
            case steps.Resolve(push_id):
                return push.resolve(context, push_id)
            case steps.Poll():
                return self._poll()
            case steps.Sweep():
                return sweep.sweep(context)
            case steps.FindOrphans():
                return self._find_orphans()
        return None

    def _without_server(self, step: Step) -> None:
        context = self._context
        match step:
            case steps.Hand():
                hand(context, self._intake)
            case steps.Deliver():
                deliver.deliver(context)
            case steps.DecideFailure(source):
                failures.decide(context, source)
            case steps.Seal(endpoint, model):
                warn_of_shutdown(context, model)
                seal.seal(context, endpoint=endpoint, model=model)
            case steps.Generate():
                self._intake.take(self._wanted())

    async def _keep_calling(self, step: steps.Direct) -> None:
        for route in step.routes:
            warn_of_shutdown(self._context, route.model)
        self._direct.heard = False
        await self._direct.run(step.routes, for_s=step.for_s)
        if self._direct.heard:
            self._server_back_at, self._backoff_s = 0.0, FIRST_BACKOFF_S

    async def _poll(self) -> None:
        self._poll_at = self._context.clock.monotonic() + self._context.settings.requester.remote_update_interval
        await poll.poll(self._context)

    def _wanted(self) -> int:
        """How many new requests the generator is asked for: what the next batch still lacks, at most a page."""
        most = min(self._context.limits.batch.requests, 1000)
        if self._forces_direct or self._hurry is not Hurry.NONE or self._direct.in_flight:
            return min(most, INTAKE_BESIDE_CALLS)
        loads = requests.queue_loads(self._context.db)
        if not loads:
            return most
        lacking = max(
            seal.seal_limits(self._context, model).now.requests - load.requests for (_, model), load in loads.items()
        )
        return most if lacking <= 0 else min(most, lacking)

    async def _find_orphans(self) -> None:
        """Look now, and again later, more and more rarely."""
        self._orphan_look_at = self._context.clock.monotonic() + self._orphan_pause_s
        self._orphan_pause_s = min(LONGEST_ORPHAN_LOOK_S, self._orphan_pause_s * 2)
        await sweep.look_for_orphans(self._context)

    async def _wait(self, step: steps.Wait) -> None:
        """Let time pass, until something is due or a stop is wanted."""
        self._context.tell(Waiting(delay_s=step.delay_s, reasons=step.reasons))
        sleeping = asyncio.ensure_future(_awaited(self._context.clock.sleep(step.delay_s)))
        stopping = asyncio.ensure_future(self._context.interruption.wait())
        await _first_of(sleeping, stopping)


def all_final(context: Context) -> bool:
    """Whether every request has its final result (in a dry run some only pretend to be under way)."""
    loads = requests.state_loads(context.db)
    return not any(load.requests for state, load in loads.items() if state not in FINAL_REQUEST_STATES)


def tell_task_completed(context: Context) -> None:
    """Tell the task that all is done, and remember up to where, so that a kill in between does no harm."""
    mark = outbox.mark(context.db)
    figures = context.hooks.completed(changed=tasks.get_task(context.db).postprocessed != mark)
    with context.transaction() as tx:
        tasks.set_postprocessed(tx, mark)
        if figures:
            context.tell(FiguresLogged(figures=figures))


async def unless_stopped(context: Context, coroutine: Coroutine[Any, Any, None]) -> None:
    """Do something with the server; once a stop is wanted, give it a little time and then break it off."""
    working = asyncio.ensure_future(coroutine)
    stopping = asyncio.ensure_future(context.interruption.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await asyncio.wait({working}, timeout=GRACE_S)
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
    try:
        await working
    except asyncio.CancelledError:
        if not context.interruption.wanted:
            raise


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _first_of(*tasks_: asyncio.Future[None]) -> None:
    try:
        await asyncio.wait(tasks_, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks_:
            task.cancel()
