"""How a run ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STOPPED_AT_ONCE = "Stopped at once. Nothing committed is lost; the same command continues."
"""What a command that works says after it was broken off."""


class Ending(StrEnum):
    DONE = "done"
    WORK_LEFT = "work left"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> int:
        """What a script exits with: 0 done, 3 work left, 1 stopped, 130 interrupted."""
        return {Ending.DONE: 0, Ending.WORK_LEFT: 3, Ending.STOPPED: 1, Ending.INTERRUPTED: 130}[self]


@dataclass(frozen=True)
class Over:
    """The run ends, for these reasons."""

    ending: Ending
    reasons: tuple[str, ...] = ()
