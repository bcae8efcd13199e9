"""Look at a store without touching a byte of it or of its folder, whoever may be writing to it.

The folder gets no new file: SQLite opens a store at rest as immutable, and one with a journal beside it is read from a
twin elsewhere. As long as the journal is the same one, file and then journal can be copied in peace: what a checkpoint
writes into the file stands in the journal too, and is read from there. If the journal begins anew, comes or goes, what
was read is thrown away and read again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.store.connection import connect, explained, refuse_foreign

T = TypeVar("T")

_ATTEMPTS = 50
_PAUSE_S = 0.1


class _Disturbed(Exception):
    """Somebody wrote to what was being read."""


def quietly(original: Path, folder: Path, look: Callable[[Path], T]) -> T:
    """What *look* finds in a store that stands where *original* stands; the twin, if one is needed, is in *folder*.

    *look* gets the path of a file that is to be opened with `immutable_address`. It may be called several times.
    """
    with explained(original, only_reads=True):
        refuse_foreign(original)
        for _ in range(_ATTEMPTS):
            with suppress(_Disturbed):
                return _look_once(original, folder, look)
            time.sleep(_PAUSE_S)
    raise StoreError(f"The store {original.name} is being written to all the time. Try again later.")


def immutable_address(path: Path) -> str:
    """The address under which SQLite reads the store at *path* as it is, and makes no files for it."""
    return f"{path.absolute().as_uri()}?immutable=1"


def _look_once(original: Path, folder: Path, look: Callable[[Path], T]) -> T:
    source = original
    if _journal(original).exists():
        shutil.rmtree(folder / "twin", ignore_errors=True)
        source = folder / "twin" / original.name
        source.parent.mkdir()
        with _undisturbed(original):
            shutil.copyfile(original, source)
            try:
                shutil.copyfile(_journal(original), _journal(source))
            except FileNotFoundError as error:  # gone since it was seen
                raise _Disturbed from error
        connect(source).close()  # takes the journal in
    with _undisturbed(source):
        return look(source)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


@contextmanager
def _undisturbed(path: Path) -> Iterator[None]:
    """Raise _Disturbed if somebody writes to the store at *path* meanwhile, whatever else was the trouble."""
    before = _stamp(path)
    try:
        yield
    except Exception as error:
        if _stamp(path) != before:
            raise _Disturbed from error
        raise
    if _stamp(path) != before:
        raise _Disturbed


def _stamp(path: Path) -> object:
    """What stays the same while file and journal fit together: the journal's head, or the file where there is none."""
    with suppress(FileNotFoundError), _journal(path).open("rb") as journal:
        if head := journal.read(32):
            return head
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
