"""How output rows reach a file, in words that the store, the sinks and the engine share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

UNCERTAIN = 0
"""The generation of parts that are being replaced: nobody knows what their files hold. Real ones begin at 1."""


@dataclass(frozen=True)
class Delivered:
    """What of the output one file holds: its first `size_bytes` bytes, with this checksum, are ours."""

    part: int
    generation: int
    """Which generation of the output it belongs to; raised when delivered rows are taken back."""
    file_name: str
    rows: int
    size_bytes: int
    crc32: int
    last_output: int
    """The newest output row that stands in the file; rows are numbered upwards as they are made."""


@dataclass(frozen=True)
class Progress:
    """One durable step of a delivery, to be committed: these parts hold this much now.

    `begins`: nothing is changed yet, but all files are about to be replaced; until the next step is committed their
    content is uncertain. `replaces_all`: they were, and parts delivered earlier are gone. `cut_bytes`: so much stood behind
    the delivered rows and is gone.
    """

    parts: tuple[Delivered, ...] = ()
    begins: bool = False
    replaces_all: bool = False
    cut_bytes: int = 0


class Rows(Protocol):
    """The output rows in the store, as JSON texts."""

    def after(self, last_output: int) -> Iterator[tuple[int, str]]:
        """(number, row) of the rows made after row *last_output*, oldest first."""
        ...

    def by_sample(self) -> Iterator[str]:
        """All rows in the order in which their samples were first asked about."""
        ...

    def newest(self) -> int:
        """The number of the newest row; 0 if there is none."""
        ...


class Output(Protocol):
    """A file, or several, that the rows are delivered into."""

    continuous: bool
    """Deliver whenever there are new rows; otherwise only when a run ends."""

    def check(self, delivered: Sequence[Delivered]) -> bool:
        """Whether all files are there; if not, they are to be written anew. Raises OutputError if one was changed by hand."""
        ...

    def deliver(self, rows: Rows, delivered: Sequence[Delivered], *, generation: int) -> Iterable[Progress]:
        """Write what is missing, and cut off what was never delivered. Each step is durable when it is yielded.

        Of parts that are all there and of this generation the last one is enough to know.
        """
        ...

    def files(self) -> Sequence[Path]:
        """The files that are there now."""
        ...

    def remove(self) -> None:
        """Remove all files of the output (the task is wiped)."""
        ...
