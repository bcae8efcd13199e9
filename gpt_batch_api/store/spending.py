"""What the answers that are stored cost, by model, road, attempt and outcome: what did retries and failures cost?

The sums are kept by triggers with every answer that is booked, judged by the task, or wiped (`schema.sql`). Together they
are what the books have as spent, but for what no stored answer shows (`unlinked_pico`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Spent:
    """The sum of some answers. Input contains what was cached and what was written to the cache, output the reasoning."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.answers + other.answers,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_pico + other.cost_pico,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True)
class Line:
    """All answers that have these in common. `verdict` and `reason` are the task's, once it has seen them."""

    model: str
    road: str
    attempt: int
    verdict: str
    reason: str
    spent: Spent

    @property
    def good(self) -> bool:
        """Whether the answers are of use. What is not was asked again, or failed in the end."""
        return self.verdict == "success"


def lines(db: sqlite3.Connection) -> tuple[Line, ...]:
    """All of it, in the order of models, roads and attempts."""
    rows = db.execute(
        "SELECT model, road, attempt, verdict, reason, answers, input_tokens, output_tokens, cost_pico, cached_tokens, "
        "cache_write_tokens, reasoning_tokens FROM spending WHERE answers > 0 ORDER BY model, road, attempt, verdict, reason"
    )
    return tuple(
        Line(model, road, attempt, verdict, reason, Spent(*sums))
        for model, road, attempt, verdict, reason, *sums in rows
    )


def summed(lines: Iterable[Line], by: Callable[[Line], K]) -> dict[K, Spent]:
    """The sums by something that lines have, in the order of its first line."""
    found: dict[K, Spent] = {}
    for line in lines:
        found[by(line)] = found.get(by(line), Spent()) + line.spent
    return found
