"""Figures of the task's own, from its code to the trackers: told with the answers that they follow from, or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real


class OwnFigures:
    """What the task's code has logged and the store has not been told yet; the latest value of each name."""

    def __init__(self) -> None:
        self._pending: dict[str, int | float] = {}

    def log(self, figures: Mapping[str, object]) -> None:
        """Note some figures. Raises TypeError or ValueError if one is no finite number; then none is noted."""
        self._pending |= {name: _plain(name, value) for name, value in figures.items()}

    def take(self) -> dict[str, int | float]:
        """What was logged since this was last asked."""
        taken, self._pending = self._pending, {}
        return taken

    @contextmanager
    def forgotten_on_error(self) -> Iterator[None]:
        """Forget what is logged inside if it ends with an exception: nothing that it follows from is recorded."""
        before = dict(self._pending)
        try:
            yield
        except BaseException:
            self._pending = before
            raise


def _plain(name: str, value: object) -> int | float:
    """*value* as a number of Python's own, whatever library it came from."""
    if not isinstance(value, Real):
        raise TypeError(f"the figure {name} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"the figure {name} must be finite, not {value!r}")
    return int(value) if isinstance(value, Integral) else float(value)
