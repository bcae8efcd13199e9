"""Rows as JSON lines, appended as they come, in one file or in parts.

Delivered lines never change. The position (bytes and checksum) is committed after the bytes are durable; whatever lies
behind it is cut off before anything is delivered, even if nothing is: a run that was killed may have written rows that
were taken back since. If delivered rows were taken back, the files are built anew beside the old ones and replace them.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpt_batch_api.domain.delivery import UNCERTAIN, Delivered, Progress, Rows
from gpt_batch_api.domain.disk import sync_folder
from gpt_batch_api.domain.errors import OutputError
from gpt_batch_api.sinks.checksum import crc32_of
from gpt_batch_api.sinks.publish import TEMPORARY, remove

_STEP_BYTES = 1 << 24
"""How much is appended before the position is committed."""


@dataclass(frozen=True)
class Parts:
    """When a new part begins; None for each limit that is not wanted. Both None: one file."""

    max_entries: int | None = None
    max_bytes: int | None = None

    @property
    def single(self) -> bool:
        return self.max_entries is None and self.max_bytes is None

    def is_full(self, part: Delivered, next_line: bytes) -> bool:
        if part.rows == 0:
            return False
        if self.max_entries is not None and part.rows >= self.max_entries:
            return True
        return self.max_bytes is not None and part.size_bytes + len(next_line) > self.max_bytes


class JsonLines:
    """An output of JSON lines: `<base>.jsonl`, or `<base>_part001.jsonl`, `<base>_part002.jsonl` …"""

    continuous = True

    def __init__(self, base: Path, *, parts: Parts = Parts()) -> None:
        self.base = base
        self.parts = parts

    def part_path(self, part: int) -> Path:
        """Where part *part* (from 1) lies."""
        return self.base.with_name(
            f"{self.base.name}.jsonl" if self.parts.single else f"{self.base.name}_part{part:03}.jsonl"
        )

    def check(self, delivered: Sequence[Delivered]) -> bool:
        complete = True
        for part in delivered:
            path = self.base.with_name(part.file_name)
            if part.generation == UNCERTAIN or not path.exists():
                complete = False
            elif path.stat().st_size < part.size_bytes or crc32_of(path, part.size_bytes) != part.crc32:
                raise _edited(part)
        return complete

    def deliver(self, rows: Rows, delivered: Sequence[Delivered], *, generation: int) -> Iterator[Progress]:
        if self._must_rebuild(delivered, generation):
            yield Progress(begins=True)
            yield self._rebuild(rows, generation, old=[part.file_name for part in delivered])
        else:
            yield from self._append(rows, delivered, generation)

    def files(self) -> list[Path]:
        if self.parts.single:
            return [path for path in (self.part_path(1),) if path.exists()]
        return [path for _, path in sorted(self._parts_there(r"\.jsonl"))]

    def remove(self) -> None:
        for path in [*self.files(), *self._temporary_files()]:
            remove(path)

    def _parts_there(self, ending: str) -> Iterator[tuple[int, Path]]:
        """(number, file) of what is named like a part, with *ending*."""
        pattern = re.compile(rf"{re.escape(self.base.name)}_part(\d{{3}}|[1-9]\d{{3,}}){ending}")
        for path in self.base.parent.iterdir():
            if match := pattern.fullmatch(path.name):
                yield int(match.group(1)), path

    def _temporary_files(self) -> list[Path]:
        """What a rebuild that was killed left behind."""
        single = self.base.with_name(f"{self.base.name}.jsonl{TEMPORARY}")
        return [*(path for _, path in self._parts_there(rf"\.jsonl{re.escape(TEMPORARY)}")), single]

    def _must_rebuild(self, delivered: Sequence[Delivered], generation: int) -> bool:
        if not delivered:
            return bool(self.files())  # left by a first delivery that was never committed
        return any(
            part.generation != generation
            or part.file_name != self.part_path(part.part).name
            or not self.part_path(part.part).exists()
            for part in delivered
        )

    def _append(self, rows: Rows, delivered: Sequence[Delivered], generation: int) -> Iterator[Progress]:
        part = delivered[-1] if delivered else self._empty(1, generation)
        if cut_bytes := self._cut_behind(part):
            yield Progress(cut_bytes=cut_bytes)
        todo = _Todo(rows.after(part.last_output))
        while todo:
            if self.parts.is_full(part, todo.line):
                part = self._empty(part.part + 1, generation, last_output=part.last_output)
            part = _extend(self.part_path(part.part), part, todo, parts=self.parts, step_bytes=_STEP_BYTES)
            yield Progress((part,))

    def _cut_behind(self, last: Delivered) -> int:
        """Take away what stands behind the *last* delivered part, and a part after it, durably; how many bytes."""
        path, following = self.part_path(last.part), self.part_path(last.part + 1)
        cut_bytes = 0
        if path.exists() and path.stat().st_size > last.size_bytes:
            cut_bytes = _cut(path, last.size_bytes)
        if not self.parts.single and following.exists():
            cut_bytes += following.stat().st_size
            remove(following)
            sync_folder(following.parent)
        return cut_bytes

    def _rebuild(self, rows: Rows, generation: int, *, old: Sequence[str]) -> Progress:
        """Write all files beside the old ones, then put them in their place, then remove those that are left over."""
        for path in self._temporary_files():
            remove(path)
        todo = _Todo(rows.after(0))
        parts: list[Delivered] = []
        while todo:
            part = self._empty(len(parts) + 1, generation, last_output=parts[-1].last_output if parts else 0)
            parts.append(_extend(self._temporary(part), part, todo, parts=self.parts, step_bytes=None))
        for part in parts:
            self._temporary(part).replace(self.part_path(part.part))
        for name in {*old, *(path.name for path in self.files())} - {part.file_name for part in parts}:
            remove(self.base.with_name(name))
        sync_folder(self.base.parent)
        return Progress(tuple(parts), replaces_all=True)

    def _empty(self, part: int, generation: int, *, last_output: int = 0) -> Delivered:
        return Delivered(part, generation, self.part_path(part).name, 0, 0, 0, last_output)

    def _temporary(self, part: Delivered) -> Path:
        return self.base.with_name(part.file_name + TEMPORARY)


def as_delivered(rows: Iterable[tuple[int, bytes]], parts: Sequence[Delivered]) -> Iterator[Delivered]:
    """What each of *parts* would be if its rows, (number, JSON text) of all, were written now. Reads them one by one.

    Where a part ends is taken from it: with the newest row that it holds.
    """
    todo = iter(rows)
    following = next(todo, None)
    for part in parts:
        made = replace(part, rows=0, size_bytes=0, crc32=0, last_output=0)
        while following is not None and following[0] <= part.last_output:
            made = _grown(made, following[1] + b"\n", following[0])
            following = next(todo, None)
        yield made


class _Todo:
    """Rows that are not written yet; the next one can be looked at before it is taken."""

    def __init__(self, rows: Iterator[tuple[int, str]]) -> None:
        self._rows = rows
        self._advance()

    def __bool__(self) -> bool:
        return self._next is not None

    @property
    def line(self) -> bytes:
        """The next row as a line."""
        assert self._next is not None
        return self._next[1].encode() + b"\n"

    def take(self) -> int:
        """Take the next row away; its number."""
        assert self._next is not None
        number = self._next[0]
        self._advance()
        return number

    def _advance(self) -> None:
        self._next = next(self._rows, None)


def _extend(path: Path, part: Delivered, todo: _Todo, *, parts: Parts, step_bytes: int | None) -> Delivered:
    """Append rows to the part at *path*, which ends where the part does, until it is full, the step is big enough, or
    there are no more. The bytes are durable on return.
    """
    is_new = not path.exists()
    begin = part.size_bytes
    with path.open("ab") as stream:
        if stream.tell() != part.size_bytes:
            raise _edited(part)
        while todo and not parts.is_full(part, todo.line):
            if step_bytes is not None and part.size_bytes - begin >= step_bytes:
                break
            line = todo.line
            stream.write(line)
            part = _grown(part, line, todo.take())
        stream.flush()
        os.fsync(stream.fileno())
    if is_new:
        sync_folder(path.parent)
    return part


def _cut(path: Path, size_bytes: int) -> int:
    """Cut the file at *path* back to *size_bytes*; how many bytes are gone."""
    with path.open("r+b") as stream:
        cut_bytes = stream.seek(0, os.SEEK_END) - size_bytes
        stream.truncate(size_bytes)
        os.fsync(stream.fileno())
    return cut_bytes


def _grown(part: Delivered, line: bytes, output_id: int) -> Delivered:
    """The part with one line more."""
    return replace(
        part,
        rows=part.rows + 1,
        size_bytes=part.size_bytes + len(line),
        crc32=zlib.crc32(line, part.crc32),
        last_output=output_id,
    )


def _edited(part: Delivered) -> OutputError:
    return OutputError(
        f"The output file {part.file_name} was changed by hand after it was delivered. "
        "Move it away: it will be built anew from the store."
    )
