"""A disk that refuses a write, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpt_batch_api.domain.errors import UserError


@contextmanager
def disk_explained() -> Iterator[None]:
    """Turn an OSError of our own files into an error that says what to do. (The user's code has errors of its own.)"""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"A file could not be written ({error}). Nothing committed is lost: make room and run the same command again."
        ) from error
