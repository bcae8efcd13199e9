"""Group queued requests into batches: in order, none lost, none twice, no limit passed.

A batch is *full* when the next request would pass a limit. What is left at the end is a remainder; when that is sealed
is decided in `next_step`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from gpt_batch_api.domain.limits import BatchLimits, TotalLimits
from gpt_batch_api.domain.request import Load

LIMIT_SETTINGS = {
    "requests": "max_batch_requests",
    "size_bytes": "max_batch_mb",
    "input_tokens": "max_batch_ktokens",
    "cost_pico": "max_batch_cost",
}


@dataclass(frozen=True)
class Weighed:
    """A queued request and its weight."""

    id: int
    load: Load


@dataclass(frozen=True)
class Fill:
    """What fits into one batch. `full` names the measure that stopped it (`requests`, `size_bytes`, …), if one did."""

    ids: tuple[int, ...]
    load: Load
    full: str | None

    @property
    def too_heavy(self) -> bool:
        """Not even the first request fits."""
        return not self.ids and self.full is not None


def fill(queue: Iterable[Weighed], limits: BatchLimits) -> Fill:
    """Take requests from the front of *queue* until a limit is reached."""
    ids: list[int] = []
    load = Load()
    for request in queue:
        heavier = load + request.load
        measure = passed_limit(heavier, limits)
        if measure is not None:
            return Fill(tuple(ids), load, measure)
        ids.append(request.id)
        load = heavier
        if load.requests == limits.requests:
            return Fill(tuple(ids), load, "requests")
    return Fill(tuple(ids), load, None)


def passed_limit(load: Load, limits: BatchLimits) -> str | None:
    """The first measure in which *load* is more than *limits* allow; None if it fits."""
    for measure in LIMIT_SETTINGS:
        if getattr(load, measure) > getattr(limits, measure):
            return measure
    return None


def fills_a_batch(pile: Load, limits: BatchLimits) -> bool:
    """Whether the queued *pile* is enough for a batch that is full."""
    return pile.requests >= limits.requests or passed_limit(pile, limits) is not None


class Countable(Protocol):
    """What a total limit counts."""

    @property
    def requests(self) -> int: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def cost_pico(self) -> int: ...


@dataclass(frozen=True)
class Room:
    """What total limits still leave; 0 is none."""

    requests: int
    input_tokens: int
    cost_pico: int

    @classmethod
    def left(cls, limits: TotalLimits, *, after: Countable) -> Room:
        """What is left of *limits* when so much is used."""
        return cls(limits.requests, limits.input_tokens, limits.cost_pico).less(after)

    def less(self, used: Countable) -> Room:
        return Room(
            max(0, self.requests - used.requests),
            max(0, self.input_tokens - used.input_tokens),
            max(0, self.cost_pico - used.cost_pico),
        )

    def smaller(self, other: Room) -> Room:
        return Room(
            min(self.requests, other.requests),
            min(self.input_tokens, other.input_tokens),
            min(self.cost_pico, other.cost_pico),
        )

    def fits(self, load: Countable) -> bool:
        return (
            load.requests <= self.requests
            and load.input_tokens <= self.input_tokens
            and load.cost_pico <= self.cost_pico
        )

    @property
    def none(self) -> bool:
        return 0 in (self.requests, self.input_tokens, self.cost_pico)


def within(limits: BatchLimits, room: Room) -> BatchLimits:
    """*limits* lowered to what may still be sent, so that the last batch of a session fits exactly.

    Without any room left the limits stay: what is prepared now is for a later session.
    """
    if room.none:
        return limits
    return replace(
        limits,
        requests=min(limits.requests, room.requests),
        input_tokens=min(limits.input_tokens, room.input_tokens),
        cost_pico=min(limits.cost_pico, room.cost_pico),
    )
