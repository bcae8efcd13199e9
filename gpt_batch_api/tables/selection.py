"""The rows that are asked about, each with its key; and a look at all of them before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any

from gpt_batch_api.domain.columns import ColumnKind, common_kind, kind_of
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.store.key_book import KeyBook
from gpt_batch_api.tables.keys import row_key
from gpt_batch_api.tables.question import Question
from gpt_batch_api.tables.row import Row, Source
from gpt_batch_api.tables.values import as_plain

Keyed = tuple[str, Row]

_HINTS = {"prompt": " A literal brace is written twice: {{.", "where": ' A text stands in quotes: "text".'}


@dataclass(frozen=True)
class Selection:
    """The rows of a source that a question is about. *needed* are further columns that must be there."""

    source: Source
    question: Question
    needed: Sequence[str] = ()
    kinds: dict[str, Any] = field(default_factory=dict, init=False)
    """What each column of a file holds, as in `Source.kinds`; known once all rows have been looked at."""

    def rows(self, look: Callable[[Row], None] = lambda row: None) -> Iterator[Keyed]:
        """(key, row) of all rows that are asked about. *look* sees every row that is read."""
        question = self.question
        chosen = (
            row
            for row in _looked_at(self.source.rows(), look)
            if question.where is None or question.where.keeps(row.cells)
        )
        with closing(KeyBook()) as book:
            for row in islice(chosen, question.limit):
                key = row_key(row, question.key, columns=question.columns)
                if question.key is not None and (before := book.note(key, row.place)):
                    raise UserError(
                        f"The key {key!r} occurs twice in {self.source.name}: {before} and {row.place}. Keys must be "
                        "unique: take another key, or none."
                    )
                yield key, row

    def check(self, note: Callable[[str], None]) -> None:
        """Read all rows once: columns, keys and pictures are there. *note* is told of all keys.

        Raises UserError for the first thing that is wrong.
        """
        if self.source.columns is None:
            self._check_and_find_kinds(note)
            return
        self.check_columns(self.source.columns)
        self.kinds.update(self.source.kinds)
        self._check_rows(note, lambda row: None)

    def check_columns(self, there: Iterable[str]) -> None:
        """Raise UserError if a column is not *there*."""
        names = set(there)
        for what, column in (*self.question.named_columns(), *(("columns", name) for name in self.needed)):
            if column in names:
                continue
            close = get_close_matches(column, names, n=1)
            wish = f" Did you mean {close[0]!r}?" if close else ""
            raise UserError(
                f"{what} names the column {column!r}, which {self.source.name} does not have. There are: {', '.join(there)}."
                f"{wish}{_HINTS.get(what, '')}"
            )

    def _check_and_find_kinds(self, note: Callable[[str], None]) -> None:
        found: dict[str, set[ColumnKind]] = {}

        def look(row: Row) -> None:
            for name, value in row.cells.items():
                found.setdefault(name, set()).add(_kind(value))

        self._check_rows(note, look)
        if found:
            self.check_columns(found)
            self.kinds.update({name: common_kind(kinds) for name, kinds in found.items()})

    def _check_rows(self, note: Callable[[str], None], look: Callable[[Row], None]) -> None:
        for key, row in self.rows(look):
            self.question.check_pictures(row, folder=self.source.folder)
            note(key)


def _looked_at(rows: Iterator[Row], look: Callable[[Row], None]) -> Iterator[Row]:
    for row in rows:
        look(row)
        yield row


def _kind(value: Any) -> ColumnKind:
    try:
        return kind_of(as_plain(value))
    except TypeError:
        return ColumnKind.JSON
