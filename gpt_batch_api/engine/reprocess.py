"""Show stored answers to the task's present code once more: first what that would change, then for good. No server.

`preview` runs the task's code on the stored answers and compares; it only reads, so it needs no lock. `run_reprocess`
takes back what followed from the answers, in one transaction, and from there it is the second part of settling again:
the answers wait for the task's code like any others. So whenever it is killed, the next run goes on, and so does the
same reprocess. The output file is replaced at the end, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.events import Event, Reprocessing, TaskCompleted
from gpt_batch_api.domain.request import GPTRequest, Kind, RequestKey
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.domain.words import count
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.deliver import deliver
from gpt_batch_api.engine.hand import hand
from gpt_batch_api.engine.intake import Intake
from gpt_batch_api.engine.loop import all_final, tell_task_completed
from gpt_batch_api.engine.session import Job, RunResult, open_task, opened
from gpt_batch_api.engine.start import start
from gpt_batch_api.planning.reprocess import Made, NewRequests, Preview, Tally, compare
from gpt_batch_api.store import outbox, replay, responses, samples, snapshot, tasks
from gpt_batch_api.store.connection import Store, reading
from gpt_batch_api.store.replay import StoredAnswer, StoredSample

PAGE = 200
"""So many samples are looked at together."""


def preview(job: Job, selection: Selection) -> Preview:
    """What the task's present code would make of stored answers. Raises UserError if there is nothing to show it."""
    with _looking(job) as context:
        intake = Intake(context, source=None)
        tally = Tally()
        for page in replay.stored_samples(context.db, selection, page=PAGE, max_retries=context.retrying.max_retries):
            rerun = _Rerun(context, intake, page)
            tally.take(
                (compare(sample.key, _now(sample), rerun.then(sample)) for sample in page),
                answers=rerun.answers,
                asks=rerun.asks(),
            )
        lost = replay.count_lost(context.db, selection)
        unfinished = responses.any_to_hand(context.db) or outbox.is_behind(context.db)
    if not tally.samples:
        raise _nothing_to_show(lost, selection)
    return Preview(tally, lost=lost, unfinished=unfinished)


async def run_reprocess(job: Job, selection: Selection) -> RunResult:
    """Do it. What the present code asks anew is queued for the next run. Raises GPTBatchError."""
    async with opened(replace(job, settings=job.settings.replace(run=False))) as context:
        _refuse_wiping(context)
        await start(context)
        return RunResult(_run(context, selection), snapshot.take(context.db))


def _run(context: Context, selection: Selection) -> Over:
    with context.transaction() as tx:
        was_complete = tasks.get_task(tx).complete
        done = replay.begin(tx, selection)
        context.tell(Reprocessing(samples=done.samples, rows=done.rows, answers=done.answers))
    intake = Intake(context, source=None)
    while responses.any_to_hand(context.db):
        if context.interruption.wanted:
            return Over(Ending.INTERRUPTED)
        hand(context, intake)
    deliver(context)
    if was_complete and all_final(context):
        with context.transaction() as tx:
            tasks.set_complete(tx, True)
            context.tell(TaskCompleted(rows=samples.count_rows(tx)))
        tell_task_completed(context)
    return Over(Ending.DONE)


# ---------------------------------------------------------------- look


class _LookingContext(Context):
    """A context that only reads: what is told is not written down."""

    def tell(self, event: Event) -> None:
        self._announce(event)


@contextmanager
def _looking(job: Job) -> Iterator[Context]:
    place = job.workplace
    if not place.store.exists():
        raise UserError(f"There is no task {place.prefix!r} in {place.folder}: it has no answers yet.")
    job = replace(job, settings=job.settings.replace(dedupe=False))  # whose index is made by those who write
    with reading(place.store) as db:
        store = Store(place.store, db=db)
        if not tasks.has_begun(db):
            raise UserError(f"The task {place.prefix!r} in {place.folder} has not begun: it has no answers yet.")
        context = job.context(store, open_task(job, store), session_id=0, kind=_LookingContext)
        _refuse_wiping(context)
        yield context


class _Rerun:
    """The task's code, run on the stored answers of some samples as if they came just now."""

    def __init__(self, context: Context, intake: Intake, page: Sequence[StoredSample]) -> None:
        self._context = context
        self._intake = intake
        self._stored = {stored.answer.key: stored for sample in page for stored in sample.answers}
        self._states: dict[int, str | None] = {sample.id: None for sample in page}
        self._rows: dict[int, list[str]] = {sample.id: [] for sample in page}
        self._endings: dict[RequestKey, RequestState] = {}
        self._asked: dict[RequestKey, GPTRequest] = {}
        self._again: list[StoredAnswer] = []
        due = [stored for stored in self._stored.values() if not stored.asked_by_task]
        while due:
            due = self._show(due)

    @property
    def answers(self) -> int:
        """How many answers were shown."""
        return len(self._endings)

    def then(self, sample: StoredSample) -> Made:
        """What *sample* would be. A follow-up that is not asked any more keeps its ending."""
        endings = (self._endings.get(stored.answer.key, stored.state) for stored in sample.answers)
        return Made(tuple(self._rows[sample.id]), self._states[sample.id], tuple(endings))

    def asks(self) -> NewRequests:
        """What would be asked that nobody has answered. Raises PayloadError if a follow-up was asked in another way."""
        new = self._intake.prepare_asked(list(self._asked.values()))
        cost_pico = sum(self._cost_pico(stored.kind, input_tokens=stored.input_tokens) for stored in self._again) + sum(
            self._cost_pico(
                Kind(
                    item.endpoint,
                    item.prepared.model,
                    item.prepared.max_output_tokens,
                    item.prepared.output_allowance,
                    self._context.schema_id(item.prepared.schema),
                ),
                input_tokens=item.prepared.input_tokens,
            )
            for item in new
        )
        return NewRequests(follow_ups=len(new), retries=len(self._again), expected_cost_pico=cost_pico)

    def _cost_pico(self, kind: Kind, *, input_tokens: int) -> int:
        return self._context.load(kind, size_bytes=0, input_tokens=input_tokens).expected_cost_pico

    def _show(self, due: Sequence[StoredAnswer]) -> list[StoredAnswer]:
        """Show some answers; those of follow-ups that were asked because of them are due next."""
        handed = self._context.hooks.hand([stored.answer for stored in due], self._states)
        self._states.update(handed.states)
        for sample_id, _, row in handed.rows:
            self._rows[sample_id].append(row)
        for stored, ended in zip(due, handed.ended, strict=True):
            self._endings[stored.answer.key] = ended.state
            if ended.state is RequestState.QUEUED:
                self._again.append(stored)
        self._asked.update({request.key: request for request in handed.asked})
        asked = {request.key: self._stored.get(request.key) for request in handed.asked}
        return [stored for key, stored in asked.items() if stored is not None and key not in self._endings]


def _now(sample: StoredSample) -> Made:
    return Made(sample.rows, sample.state, tuple(stored.state for stored in sample.answers))


def _refuse_wiping(context: Context) -> None:
    if tasks.get_task(context.db).wiping is not None:
        raise UserError("A wipe of this task was begun and not finished. Run the task once, then reprocess.")


def _nothing_to_show(lost: int, selection: Selection) -> UserError:
    if lost:
        return UserError(
            f"{count(lost, 'sample')} cannot be reprocessed: their answers were not kept (keep_responses was off). "
            "Nothing was changed. To ask them again: --wipe_task, or --wipe_failed for failed ones."
        )
    which = "There are no answers yet" if selection.everything else "No sample with an answer fits the selection"
    return UserError(f"{which}: nothing to reprocess.")
