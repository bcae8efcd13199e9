"""Rows that can be read only once, kept on disk in their order as they pass."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Iterator

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.row import Row


class Spool:
    """(key, row) pairs in a file that nobody else sees and that ends with this object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the spool
        self._end = 0
        weakref.finalize(self, self._file.close)

    def add(self, key: str, row: Row) -> None:
        """Append one."""
        try:
            text = pickle.dumps((key, row))
        except Exception as error:  # each type of item has its own way to refuse
            raise UserError(
                f"{row.place.capitalize()} cannot be kept until its answer comes ({error}). Give the items as a list."
            ) from error
        self._file.seek(self._end)
        self._file.write(text)
        self._end = self._file.tell()

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        at = 0
        while at < self._end:
            self._file.seek(at)
            pair: tuple[str, Row] = pickle.load(self._file)
            at = self._file.tell()
            yield pair
