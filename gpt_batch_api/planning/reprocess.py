"""What it would change to show stored answers to the task's present code: sample by sample, pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gpt_batch_api.domain.states import RequestState

MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Made:
    """What follows from the answers of one sample."""

    rows: tuple[str, ...] = ()
    """JSON texts."""
    state: str | None = None
    endings: tuple[RequestState, ...] = ()
    """How each of its answered requests ends, always in the same order."""


@dataclass(frozen=True)
class Change:
    """The difference in one sample: rows that are there now, and those that would be in their place."""

    key: str
    taken: tuple[str, ...]
    given: tuple[str, ...]
    endings: Counter[tuple[RequestState, RequestState]]
    """Requests that would end in another way: (now, then)."""
    state: bool
    """Whether the task's own state of it would be another."""

    @property
    def nothing(self) -> bool:
        return not (self.taken or self.given or self.endings or self.state)


def compare(key: str, now: Made, then: Made) -> Change:
    """The difference between what a sample has and what it would have."""
    taken, given = Counter(now.rows), Counter(then.rows)
    endings = Counter(pair for pair in zip(now.endings, then.endings, strict=True) if pair[0] is not pair[1])
    return Change(
        key,
        taken=_in_order(now.rows, taken - given),
        given=_in_order(then.rows, given - taken),
        endings=endings,
        state=now.state != then.state,
    )


def _in_order(rows: Sequence[str], wanted: Counter[str]) -> tuple[str, ...]:
    """Those of *rows* that are *wanted*, each as often as it is wanted."""
    left = Counter(wanted)
    found = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
            found.append(row)
    return tuple(found)


@dataclass(frozen=True)
class NewRequests:
    """What the present code would ask that nobody has answered yet, and what that is expected to cost in batches."""

    follow_ups: int = 0
    retries: int = 0
    expected_cost_pico: int = 0

    @property
    def requests(self) -> int:
        return self.follow_ups + self.retries

    def __add__(self, other: NewRequests) -> NewRequests:
        return NewRequests(
            self.follow_ups + other.follow_ups,
            self.retries + other.retries,
            self.expected_cost_pico + other.expected_cost_pico,
        )


@dataclass
class Tally:
    """Sums over the samples that were looked at; memory does not grow with their number."""

    samples: int = 0
    answers: int = 0
    changed: int = 0
    rows_added: int = 0
    rows_removed: int = 0
    rows_changed: int = 0
    states: int = 0
    endings: Counter[tuple[RequestState, RequestState]] = field(default_factory=Counter)
    examples: list[Change] = field(default_factory=list)
    asks: NewRequests = NewRequests()

    def take(self, changes: Iterable[Change], *, answers: int, asks: NewRequests) -> None:
        """Count some samples that were shown so many answers."""
        self.answers += answers
        self.asks += asks
        for change in changes:
            self.samples += 1
            if change.nothing:
                continue
            paired = min(len(change.taken), len(change.given))
            self.changed += 1
            self.rows_changed += paired
            self.rows_removed += len(change.taken) - paired
            self.rows_added += len(change.given) - paired
            self.states += change.state
            self.endings.update(change.endings)
            if len(self.examples) < MOST_EXAMPLES:
                self.examples.append(change)


@dataclass(frozen=True)
class Preview:
    """What a reprocess would do."""

    tally: Tally
    lost: int
    """Samples that cannot be made anew, because an answer of theirs was not kept."""
    unfinished: bool
    """Answers wait for the task's code, or rows for their file: a reprocess or a run was broken off before."""

    @property
    def changes_something(self) -> bool:
        return self.tally.changed > 0 or self.tally.asks.requests > 0 or self.unfinished
