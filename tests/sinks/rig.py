"""Output rows as the store keeps them, and what a delivery of them commits."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpt_batch_api.domain.delivery import UNCERTAIN, Delivered, Output, Progress


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Store:
    """Rows with numbers that only grow, a generation, and the committed position of the delivery."""

    numbered: list[tuple[int, str]] = field(default_factory=list)
    generation: int = 1
    delivered: list[Delivered] = field(default_factory=list)
    kill_after: int | None = None
    """The process ends while it reads the row after so many."""
    last: int = 0

    # ------------------------------------------------------------ what a sink reads

    def after(self, last_output: int) -> Iterator[tuple[int, str]]:
        return self._read([row for row in self.numbered if row[0] > last_output])

    def by_sample(self) -> Iterator[str]:
        return (row for _, row in self._read(self.numbered))

    def newest(self) -> int:
        return self.numbered[-1][0] if self.numbered else 0

    def _read(self, rows: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        for place, row in enumerate(rows):
            if place == self.kill_after:
                raise Killed
            yield row

    # ------------------------------------------------------------ what happens to it

    def add(self, *rows: str) -> Store:
        for row in rows:
            self.last += 1
            self.numbered.append((self.last, row))
        return self

    def take_back(self, keep: int) -> None:
        """A wipe or a reprocess: only the first *keep* rows stay."""
        self.take_out(range(keep, len(self.numbered)))

    def take_out(self, places: Collection[int]) -> None:
        """A wipe or a reprocess: the rows at these places are gone. As in the real store, the output begins anew only if
        one of them was delivered.
        """
        last_delivered = max((part.last_output for part in self.delivered), default=0)
        if any(number <= last_delivered for place, (number, _) in enumerate(self.numbered) if place in places):
            self.generation += 1
        self.numbered = [row for place, row in enumerate(self.numbered) if place not in places]

    def commit(self, progress: Progress) -> None:
        if progress.begins:
            self.delivered = [replace(part, generation=UNCERTAIN) for part in self.delivered]
        kept = {} if progress.replaces_all else {part.part: part for part in self.delivered}
        kept |= {part.part: part for part in progress.parts}
        self.delivered = [kept[number] for number in sorted(kept)]

    @property
    def rows(self) -> list[str]:
        return [row for _, row in self.numbered]


def deliver(output: Output, store: Store) -> list[Progress]:
    """Deliver what is missing and commit each step; what was committed."""
    steps = []
    for progress in output.deliver(store, store.delivered, generation=store.generation):
        store.commit(progress)
        if not progress.begins:
            steps.append(progress)
    return steps


def deliver_until_killed(output: Output, store: Store, *, commits: int = 0, rows: int | None = None) -> None:
    """Deliver, but the process ends after so many commits: just before the next, or while it reads the row after *rows*."""
    store.kill_after = rows
    try:
        for progress in output.deliver(store, store.delivered, generation=store.generation):
            if not progress.begins and commits == 0:
                return
            store.commit(progress)
            commits -= not progress.begins
    except Killed:
        return
    finally:
        store.kill_after = None


def row(number: int, *, width: int = 0) -> str:
    """A row as JSON text, with as many more characters as *width*."""
    return json.dumps({"i": number, "text": "é" * width}, ensure_ascii=False, separators=(",", ":"))


def rows(first: int, last: int) -> list[str]:
    return [row(number) for number in range(first, last + 1)]


def lines_of(*paths: Path) -> list[str]:
    """The lines of files one after the other; each file must end with a line feed, or be empty."""
    found: list[str] = []
    for path in paths:
        text = path.read_bytes().decode()
        assert text.endswith("\n") or not text
        found += text.split("\n")[:-1]
    return found
