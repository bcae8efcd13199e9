"""The disk: names that last, and a refused write in one sentence: which disk, why, what is safe, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(folder: Path) -> None:
    """Make names in *folder* durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refused_write(path: Path, why: str, *, full: bool, safe: str = "Nothing committed is lost") -> str:
    """Say that the disk did not take what was written to *path*; *full* if it is only a matter of room."""
    folder = path.parent.absolute()
    advice = "make room there" if full else "make sure that there is room and that the disk is sound"
    return (
        f"The disk of {folder} refused to write {path.name} ({why}{_free(folder)}). "
        f"{safe}: {advice}, then run the same command again."
    )


def refused_file(error: OSError, folder: Path, *, safe: str = "Nothing committed is lost") -> str:
    """The same of an error of the system's; *folder* is where the file was, if the error does not name it."""
    path = folder / (os.fsdecode(error.filename) if error.filename else "a file")
    return refused_write(path, error.strerror or str(error), full=error.errno in _FULL, safe=safe)


def _free(folder: Path) -> str:
    try:
        return f"; {shutil.disk_usage(folder).free / 1e6:,.1f} MB are free"
    except OSError:
        return ""
