"""What a check of a task found, in words that the engine and the monitor share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How one part of a task is."""

    OK = "ok"
    NEXT_RUN = "next run"
    """Left half done, by a kill for instance; the next run of the task finishes it."""
    WRONG = "wrong"
    """No run makes it so, and none can mend it alone."""


@dataclass(frozen=True)
class Check:
    """What was found about one part of a task, and what mends it."""

    name: str
    health: Health
    found: tuple[str, ...]
    mended_by: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All that was found about one task."""

    prefix: str
    kind: str | None
    """The class of the task, as far as the store tells."""
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong. (What the next run finishes is not.)"""
        return all(check.health is not Health.WRONG for check in self.checks)
