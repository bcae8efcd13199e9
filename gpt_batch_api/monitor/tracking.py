"""What a run logs to a tracker, and when.

Only committed facts: each look is taken from the store through a connection of its own, so after a rollback nothing
wrong remains. Nothing is logged twice: the steps of a session begin at its number times a million, so those of the next
one are higher, whatever became of this one. Figures are cumulative; the table of batches that a session ends with holds
all of them, also those that a kill kept from being charted.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from gpt_batch_api.domain.clock import Clock, SystemClock
from gpt_batch_api.domain.errors import GPTBatchError
from gpt_batch_api.domain.events import BatchSettled, Event, FiguresLogged, RunBegan, SessionEnded
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.endpoints.base import batch_usage
from gpt_batch_api.monitor.facts import facts_of
from gpt_batch_api.monitor.tracker import Background, Figures, Table, TrackedRun, Tracker
from gpt_batch_api.store import snapshot, tasks
from gpt_batch_api.store.connection import connect_readonly
from gpt_batch_api.store.finished import FinishedBatch, finished
from gpt_batch_api.store.snapshot import Snapshot

logger = logging.getLogger("gpt_batch_api")

PACE_S = 10.0
"""How often a look is logged, besides one for each batch and one at the end."""
TABLE_PACE_S = 3600.0
"""How often all batches are logged as a table, besides at the end."""
STEPS_PER_SESSION = 1_000_000
BATCHES = "batches"
OWN = "own/"
"""Stands before the names of figures that the task's code logs."""

Number = int | float


def chosen_tracker(settings: Settings) -> Tracker | None:
    """The tracker that a run with these settings logs to, if any. Nothing heavy is imported to find out."""
    from gpt_batch_api.monitor import trackio_run, wandb_host, wandb_process

    chosen = settings.wandb
    if chosen.wandb is False or not settings.task.run or settings.general.dryrun or settings.extra.estimate:
        return None
    if chosen.tracker == "trackio":
        return trackio_run.TrackioTracker()
    if chosen.wandb is None and not wandb_host.may_be_logged_in():
        return None
    return wandb_process.Wandb(asked_for=chosen.wandb is True, quiet=settings.extra.verbosity == "quiet")


@contextmanager
def tracking(settings: Settings, workplace: Workplace) -> Iterator[Tracking]:
    """A listener that logs the run to the tracker that the settings choose, or does nothing if they want none."""
    found = Tracking(chosen_tracker(settings), settings, workplace, clock=SystemClock())
    try:
        yield found
    finally:
        found.finish()


class Tracking:
    """Takes looks at the store as the run goes on, and hands them to the tracker's thread."""

    def __init__(self, tracker: Tracker | None, settings: Settings, workplace: Workplace, *, clock: Clock) -> None:
        self._tracker = tracker
        self._settings = settings
        self._workplace = workplace
        self._clock = clock
        self._background: Background | None = None
        self._taken = 0
        self._own: dict[str, Number] = {}
        self._due_at = float("-inf")
        self._table_due_at = time.monotonic() + TABLE_PACE_S

    def __call__(self, event: Event) -> None:
        """Look at the store if it is time to."""
        if self._tracker is None or (self._background is None and not isinstance(event, RunBegan)):
            return  # before a run begins another process may own the task
        if isinstance(event, FiguresLogged):
            self._own |= {OWN + name: value for name, value in event.figures.items()}
        if isinstance(event, SessionEnded):
            self._look(table=True)  # the last chance: the store is closed as soon as this returns
        elif isinstance(event, BatchSettled):
            self._look(batch=event.batch, table=time.monotonic() >= self._table_due_at)
        elif time.monotonic() >= self._due_at:
            self._look()

    def finish(self) -> None:
        """Let the tracker come to its end, if it does so soon."""
        if self._background is not None:
            self._background.finish()

    def _look(self, *, batch: int | None = None, table: bool = False) -> None:
        now = time.monotonic()
        self._due_at = now + PACE_S
        if table:
            self._table_due_at = now + TABLE_PACE_S
        try:
            with closing(connect_readonly(self._workplace.store)) as db:
                taken = snapshot.take(db)
                self._background = self._background or self._begin(db, taken)
                self._log(taken, self._figures(db, taken, batch=batch))
                self._own.clear()
                if table and (batches := finished(db)):  # by itself, because it may take a tracker long
                    self._log(taken, {BATCHES: batch_table(batches)})
        except (GPTBatchError, sqlite3.Error, OSError) as error:  # the run itself will meet it if it matters
            logger.debug("No figures were logged: %s", error)

    def _figures(self, db: sqlite3.Connection, taken: Snapshot, *, batch: int | None) -> dict[str, Number | str]:
        facts = facts_of(taken, settings=self._settings, now=self._clock.now())
        found: dict[str, Number | str] = {**facts.as_numbers(), **self._own}
        if batch is not None:
            for one in finished(db, only=batch):
                found |= {f"batch/{name}": value for name, value in batch_figures(one).items()}
        return found

    def _log(self, taken: Snapshot, figures: Figures) -> None:
        assert self._background is not None
        assert taken.session is not None
        self._background.log(figures, step=taken.session.id * STEPS_PER_SESSION + self._taken)
        self._taken += 1

    def _begin(self, db: sqlite3.Connection, taken: Snapshot) -> Background:
        """Wake the tracker, now that the task is known."""
        assert self._tracker is not None
        chosen, task = self._settings.wandb, taken.task
        run = TrackedRun(
            id=chosen.wandb_run_id or tasks.latest_setting(db, "wandb_run_id") or own_run_id(task.uuid, era=task.era),
            task_prefix=self._workplace.prefix,
            project=chosen.wandb_project,
            entity=chosen.wandb_entity,
            name=chosen.wandb_name or self._workplace.prefix,
            group=chosen.wandb_group or task.kind,
            folder=chosen.wandb_dir,
            config={
                "task": {"class": task.kind, "uuid": task.uuid, "prefix": self._workplace.prefix},
                "metadata": task.metadata,
                "settings": self._settings.public(),
            },
        )
        return Background(self._tracker, run, quiet=self._settings.extra.verbosity == "quiet")


def own_run_id(uuid: str, *, era: int) -> str:
    """The run that all sessions of a task continue, if the user names none; another one after a `--wipe_task`."""
    return uuid if era == 1 else f"{uuid}-{era}"


def batch_table(batches: Sequence[FinishedBatch]) -> Table:
    """All finished batches, a row each."""
    rows = [batch_figures(batch) for batch in batches]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(columns, [[row.get(name) for name in columns] for row in rows])


def batch_figures(batch: FinishedBatch) -> dict[str, Number | str]:
    """One finished batch in figures, money in dollars; what is not known is left out."""
    usage = batch_usage(batch.report)
    ran = batch.requests - batch.free
    found: dict[str, Number | str | None] = {
        "number": batch.id,
        "model": batch.model,
        "status": batch.status,
        "requests": batch.requests,
        "size_bytes": batch.size_bytes,
        "succeeded": batch.succeeded,
        "retried": batch.retried,
        "failed": batch.failed,
        "held": batch.held,
        "not_run": batch.free,
        "pass_ratio": batch.succeeded / ran if ran else None,
        "predicted_input_tokens": batch.expected_input_tokens,
        "input_tokens": batch.input_tokens,
        "cached_tokens": usage.cached_tokens if usage else None,
        "predicted_output_tokens": batch.expected_output_tokens,
        "output_tokens": batch.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
        "completion_ratio": batch.output_tokens / batch.output_allowance
        if batch.output_tokens is not None and batch.output_allowance
        else None,
        "longest_output_tokens": batch.longest_output_tokens,
        "predicted_cost": batch.expected_cost_pico / 1e12,
        "cost": None if batch.cost_pico is None else batch.cost_pico / 1e12,
        "hours": (batch.ended_at - batch.pushed_at) / 3600
        if batch.ended_at is not None and batch.pushed_at is not None
        else None,
    }
    return {name: value for name, value in found.items() if value is not None}
