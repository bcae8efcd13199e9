"""All figures that a watcher shows, each named, counted and explained once.

`figures` has the table: name, unit, meaning, and where in a snapshot it stands. Status, live view, summary, `watch`, wandb
and the page read from it, so they cannot disagree, and docs/monitoring.md is made from it. A figure that nobody knows
yet (a ratio before the first answer, the time left before the first batch) is not there at all, rather than 0.

Money is exact: whole picodollars under names that end in `_pico`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpt_batch_api.domain.errors import GPTBatchError
from gpt_batch_api.domain.settings import Settings, Source
from gpt_batch_api.monitor.figures import FAMILIES, FIGURES, Look, Number
from gpt_batch_api.store.snapshot import Snapshot


@dataclass(frozen=True)
class Facts:
    """One task at one moment, in named figures."""

    snapshot: Snapshot
    settings: Settings
    """Whose limits count."""
    now: float
    numbers: Mapping[str, Number]
    """Every figure that is known, by name, in its unit."""

    def __getitem__(self, name: str) -> Number:
        """The figure *name*; KeyError if it is not known (yet)."""
        return self.numbers[name]

    def get(self, name: str) -> Number | None:
        """The figure *name*; None if it is not known (yet)."""
        return self.numbers.get(name)

    def each(self, family: str) -> dict[str, Number]:
        """All figures of a family (`failed/`), by what follows its name."""
        return {name.removeprefix(family): value for name, value in self.numbers.items() if name.startswith(family)}

    def as_numbers(self) -> dict[str, Number]:
        """All of it as one flat mapping, for charts: money in dollars, under its name without `_pico`."""
        return {
            name.removesuffix("_pico"): value / 1e12 if name.endswith("_pico") else value
            for name, value in self.numbers.items()
        }


def facts_of(snapshot: Snapshot, *, settings: Settings, now: float) -> Facts:
    """Read all figures off *snapshot*."""
    look = Look(snapshot, settings, now)
    numbers: dict[str, Number] = {}
    for figure in FIGURES:
        value = figure.of(look)
        if value is not None:
            numbers[figure.name] = value
    for family in FAMILIES:
        numbers |= {f"{family.prefix}{kind}": value for kind, value in family.of(look).items()}
    return Facts(snapshot, settings, now, numbers)


def settings_of(snapshot: Snapshot) -> Settings:
    """The settings of the task's last run, for whoever looks on from outside; the defaults if they do not fit any more."""
    told = {} if snapshot.session is None else snapshot.session.settings
    try:
        return Settings.from_values(told, Source.FILE, environ={})
    except GPTBatchError:  # of another version
        return Settings.from_values({}, environ={})
