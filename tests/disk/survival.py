"""What a power cut leaves of the files, by the rules that a program may rely on, and no better.

  * The content of a file is durable up to its last fsync. Of what was written after that any part may have reached the
    disk: nothing, all, the first so many writes, or some writes and not others, each perhaps only in part.
  * What was to be made durable by an fsync that failed is gone, also if a later fsync says that all is well: the system
    thinks no more of it (as Linux does).
  * A name (a file made, renamed, removed) is durable after an fsync of its *folder*. Of later changes of names any may
    have happened or not; each by itself is whole (as on every journalling file system), and none happens whose
    beginning did not.

This is stricter than ext4, xfs or APFS are: they keep the order of names, and more.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.disk.watch import Change

SECTOR = 512
FATES = ("nothing", "all", "first", "some")
"""How much of what was not synced reaches the disk."""


@dataclass
class _Content:
    """The bytes of one file: what is durable, and the changes since."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.since:
            _apply(self.durable, change)
        self.since = []

    def after_cut(self, fate: str, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        for change in _chosen(self.since, fate, chance):
            _apply(content, _torn(change, chance) if fate in ("first", "some") else change)
        return bytes(content)


class Disk:
    """The files below *root*, as they are and as they would be after a cut. What is there at first is durable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.acknowledged: Any = None
        self._contents: list[_Content] = []
        self._names: dict[str, int | None] = {str(root): None}  # None: a folder
        for path in sorted(root.rglob("*")):
            self._names[str(path)] = None if path.is_dir() else self._add(path.read_bytes())
        self._durable_names = dict(self._names)
        self._renamings: list[tuple[Change, int | None]] = []

    def _add(self, durable: bytes = b"") -> int:
        self._contents.append(_Content(bytearray(durable)))
        return len(self._contents) - 1

    def play(self, changes: Iterable[Change]) -> None:
        """Let *changes* happen."""
        for change in changes:
            self._play(change)

    def _play(self, change: Change) -> None:
        if change.kind == "acknowledged":
            self.acknowledged = change.data
        elif change.kind in ("create", "mkdir", "rename", "unlink"):
            number = self._add() if change.kind == "create" else None
            self._renamings.append((change, number))
            _rename(self._names, change, number)
        elif change.kind == "sync_folder":
            mine = [entry for entry in self._renamings if _folder_of(entry[0]) == change.path]
            for entry in mine:
                _rename(self._durable_names, *entry)
                self._renamings.remove(entry)
        else:
            number = self._names[change.path]
            assert number is not None
            content = self._contents[number]
            if change.kind == "sync":
                content.sync()
            elif change.kind == "sync_failed":
                content.since = []
            else:
                content.since.append(change)

    def cut(self, target: Path, *, fate: str, chance: random.Random) -> None:
        """Write what the cut leaves into the empty folder *target*."""
        names = dict(self._durable_names)
        for entry in _chosen(self._renamings, fate, chance):
            _rename(names, *entry)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path, number in sorted(names.items()):
            if path == str(self.root) or not _has_parents(names, path):
                continue
            place = target / Path(path).relative_to(self.root)
            if number is None:
                place.mkdir()
            else:
                place.write_bytes(self._contents[number].after_cut(fate, chance))


def _folder_of(change: Change) -> str:
    return os.path.dirname(change.path)


def _has_parents(names: dict[str, int | None], path: str) -> bool:
    return os.path.dirname(path) in names


def _rename(names: dict[str, int | None], change: Change, number: int | None) -> None:
    """Change the names, if the change makes sense as they are."""
    if change.kind in ("create", "mkdir"):
        names.setdefault(change.path, number)
    elif change.path in names:
        moved = names.pop(change.path)
        if change.kind == "rename":
            names[change.data] = moved


def _chosen(changes: list[Any], fate: str, chance: random.Random) -> list[Any]:
    """Which of the changes that were not synced happened all the same."""
    if fate == "first":
        return changes[: chance.randint(0, len(changes))]
    kept = {"nothing": 0.0, "some": 0.5, "all": 1.0}[fate]
    return [change for change in changes if chance.random() < kept]


def _torn(change: Change, chance: random.Random) -> Change:
    """Perhaps only the first bytes of a write, to the end of some sector."""
    if change.kind != "write" or chance.random() < 0.5:
        return change
    offset, data = change.data
    last = chance.randint(offset // SECTOR, (offset + len(data)) // SECTOR) * SECTOR
    return change._replace(data=(offset, data[: max(0, last - offset)]))


def _apply(content: bytearray, change: Change) -> None:
    if change.kind == "truncate":
        size = change.data
    else:
        offset, data = change.data
        if not data:
            return
        size = max(len(content), offset + len(data))
    if size > len(content):
        content.extend(bytes(size - len(content)))
    if change.kind == "truncate":
        del content[size:]
    else:
        content[offset : offset + len(data)] = data
