"""Write files so that nobody ever sees half of one.

A durable replacement is: write a temporary file, fsync it, rename it, fsync the folder. Without the last step a power
cut can lose the file, without the first leave it empty.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from gpt_batch_api.domain.disk import sync_folder

TEMPORARY = ".tmp"


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let *write* fill a new file and put it in the place of *path*, all or nothing."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def replace_with(path: Path, chunks: Iterable[bytes]) -> None:
    """Put a file that consists of *chunks* in the place of *path*."""

    def write(stream: BinaryIO) -> None:
        stream.writelines(chunks)

    replace_file(path, write)


def remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    path.unlink(missing_ok=True)
