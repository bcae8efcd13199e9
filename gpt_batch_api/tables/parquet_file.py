"""Rows of a Parquet file, read a thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import MissingExtra, UserError
from gpt_batch_api.tables.csv_file import unique_columns
from gpt_batch_api.tables.row import Row

_PAGE = 1000


class ParquetFile:
    """A Parquet file; its own types go over into an output of the same format."""

    repeatable = True

    def __init__(self, path: Path) -> None:
        require_pyarrow(f"The input {path}")
        self.path = path
        self.name = str(path)
        self.folder = path.parent
        schema = self._open().schema_arrow
        self.columns: tuple[str, ...] | None = unique_columns(list(schema.names), path)
        self.kinds: Mapping[str, Any] = {field.name: field.type for field in schema}

    def rows(self) -> Iterator[Row]:
        number = 0
        for batch in self._open().iter_batches(batch_size=_PAGE):
            for cells in batch.to_pylist():
                number += 1
                yield Row(number, cells, cells, f"row {number}")

    def _open(self) -> Any:
        import pyarrow
        from pyarrow.parquet import ParquetFile as Reader

        try:
            return Reader(self.path)
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"The input {self.path} cannot be read as Parquet: {error}") from error


def require_pyarrow(what: str) -> None:
    """Raise MissingExtra if there is no library for Parquet."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("parquet", what) from error
