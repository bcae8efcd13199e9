"""What an estimate is: a number of tokens, how sure it is, and why it is not surer.

Parts of a request are counted one by one and added. A sum is only as sure as its least sure part; what had to be
guessed is said in a sentence, and equal sentences are said once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Sureness(StrEnum):
    """How far a count can be trusted. The worst of all parts wins."""

    EXACT = "exact"
    FITTED = "fitted"
    GUESS = "guess"


_RANKS = {Sureness.EXACT: 0, Sureness.FITTED: 1, Sureness.GUESS: 2}


@dataclass(frozen=True)
class Count:
    """Tokens of a request or of a part of it."""

    tokens: int
    sureness: Sureness
    notes: tuple[str, ...] = ()

    def __add__(self, other: Count) -> Count:
        """Both parts together."""
        if other is NOTHING:
            return self
        return Count(
            self.tokens + other.tokens,
            max(self.sureness, other.sureness, key=_RANKS.__getitem__),
            self.notes + tuple(note for note in other.notes if note not in self.notes),
        )


NOTHING = Count(0, Sureness.EXACT)


def exact(tokens: int) -> Count:
    """A part whose rule has no known exception."""
    return Count(tokens, Sureness.EXACT)


def fitted(tokens: int) -> Count:
    """A part whose rule was measured, and is right but for a token or two."""
    return Count(tokens, Sureness.FITTED)


def guess(tokens: int, note: str) -> Count:
    """A part that cannot be known here; *note* says what was assumed."""
    return Count(tokens, Sureness.GUESS, (note,))
