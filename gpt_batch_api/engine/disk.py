"""A disk that refuses a write, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt_batch_api.domain.disk import refused_file
from gpt_batch_api.domain.errors import UserError


@contextmanager
def disk_explained(folder: Path) -> Iterator[None]:
    """Turn an OSError of our own files in *folder* into an error that says what to do. (The user's code has its own.)"""
    try:
        yield
    except OSError as error:
        raise UserError(refused_file(error, folder)) from error
