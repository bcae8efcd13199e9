"""What is tried again later in this run, while everything else goes on. In memory: the next run begins anew."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LEAST_LOOKS = 10
"""A file is looked at so often before it is given up, however slow the looks are: one that hangs must not use up the time."""


@dataclass
class Search:
    """The looks at the result files of one batch. Times are of the monotonic clock."""

    looks: int = 0
    failures: int = 0
    """How many looks in a row came to nothing because the server failed, or refused."""
    until_s: float = 0.0
    """When they are given up at the earliest; it runs from the end of the first look, however long that took."""
    due_s: float = 0.0
    """When to look again."""
    told: dict[str, int] = field(default_factory=dict)
    """The sizes that the server has told, by the file's id."""
    _pause_s: float = FIRST_PAUSE_S

    def is_over(self, now_s: float) -> bool:
        """Whether it was looked for long enough, and often enough."""
        return self.looks >= LEAST_LOOKS and now_s >= self.until_s

    def put_off(self, now_s: float, *, least_s: float = 0.0, most_s: float = LONGEST_PAUSE_S) -> None:
        """Look again after a pause that grows from time to time, of *least_s* to *most_s*."""
        self.due_s = now_s + max(least_s, min(self._pause_s, most_s))
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)


@dataclass
class PutOff:
    """The deleting of files on the server, which fails although the server is there."""

    failures: int = 0
    due_s: float = 0.0
