"""How a batch moves through time: pure functions of what is written about it.

    validating ─┬─> in_progress ─┬─> finalizing ──> completed
                │                ├─> expired            (its window is over, or a fault of the plan)
                ├─> failed       └─> cancelling ──> cancelled
                └─> cancelling

A batch spends `validating_s` being validated; then its requests finish evenly over the duration of its `Course`; then
it spends `finalizing_s`. When several things could happen, the earliest does. A cancelled batch still finishes the
requests that are in flight: those that would be done within a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gpt_batch_api.sandbox.plan import BatchRule, Timing

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
_IN_FLIGHT_S = 1.0


class Columns(Protocol):
    """The row of a batch, or a dictionary of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Course:
    """When the requests of a batch finish: evenly, one after the other; never more than `most` of them."""

    started_at: float
    requests: int
    duration_s: float
    most: int

    @property
    def end(self) -> float:
        return self.started_at + self.duration_s

    def done(self, at: float) -> int:
        """How many requests are done at the time *at*."""
        if at >= self.end:
            return self.most
        if at <= self.started_at:
            return 0
        return min(self.most, int(self.requests * (at - self.started_at) / self.duration_s))

    def finished_at(self, position: int) -> float:
        """When the request number *position* (from 0) is done."""
        return self.started_at + self.duration_s * (position + 1) / self.requests


@dataclass(frozen=True)
class Move:
    """The next thing that happens to a batch by itself: it becomes `to`, with `done` of its requests done."""

    to: Status
    at: float
    done: int = 0


def course_of(batch: Columns, *, timing: Timing, fault: BatchRule | None, started_at: float) -> Course:
    """The course of *batch* if its requests are begun at *started_at*."""
    requests = int(batch["total"])
    duration = max(timing.minimum_s, requests / timing.requests_per_s)
    if timing.maximum_s is not None:
        duration = min(duration, timing.maximum_s)
    held = fault is not None and fault.fault in ("expire", "stuck")
    most = int(requests * fault.after_fraction) if held and fault is not None else requests
    return Course(started_at, requests, duration, most)


def next_move(batch: Columns, *, timing: Timing, fault: BatchRule | None) -> Move | None:
    """What happens to *batch* next if nobody touches it; None if it stays as it is."""
    status = batch["status"]
    if status == "validating":
        return Move("in_progress", batch["created_at"] + timing.validating_s)
    if status == "finalizing":
        return Move("completed", batch["finalizing_at"] + timing.finalizing_s, int(batch["total"]))
    if status == "cancelling":
        return _end_of_cancelling(batch, timing, fault)
    if status != "in_progress" or (fault is not None and fault.fault == "stuck"):
        return None
    return _end_of_progress(batch, timing, fault)


def _end_of_progress(batch: Columns, timing: Timing, fault: BatchRule | None) -> Move:
    course = course_of(batch, timing=timing, fault=fault, started_at=batch["in_progress_at"])
    move = Move("finalizing", course.end, course.requests)
    if fault is not None and fault.fault == "expire":
        move = Move("expired", course.end, course.most)
    if fault is not None and fault.fault == "cancel":
        at = course.started_at + fault.after_fraction * course.duration_s
        move = Move("cancelling", at, course.done(at))
    if batch["expires_at"] < move.at:
        # Never before the batch has begun: a window shorter than the validation expires at once.
        at = max(batch["expires_at"], course.started_at)
        move = Move("expired", at, course.done(at))
    return move


def _end_of_cancelling(batch: Columns, timing: Timing, fault: BatchRule | None) -> Move:
    at = batch["cancelling_at"] + timing.cancelling_s
    if batch["in_progress_at"] is None:
        return Move("cancelled", at)
    course = course_of(batch, timing=timing, fault=fault, started_at=batch["in_progress_at"])
    return Move("cancelled", at, course.done(min(at, batch["cancelling_at"] + _IN_FLIGHT_S)))
