"""By which key a row is known, in this run and in all that come after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.row import Row
from gpt_batch_api.tables.values import as_plain, as_text

Key = str | Callable[[Any], Any] | None
"""A column, a function of the item, or nothing: then number and content of a row are its key."""


def row_key(row: Row, key: Key, *, columns: Sequence[str] | None) -> str:
    """The key of *row*. Without a wanted one: its number, and a hash of what stands in *columns* (None: in all)."""
    if key is None:
        return f"{row.number}-{_hash(row, columns)}"
    found = key(row.item) if callable(key) else row.cells.get(key)
    named = "The key function" if callable(key) else f"The key column {key!r}"
    try:
        text = as_text(found)
    except TypeError as error:
        raise UserError(f"{named} is no key for {row.place}: {error}. Keys are texts or numbers.") from error
    if not text:
        raise UserError(f"{named} is empty for {row.place}. Each row needs a key of its own.")
    if "\0" in text or text.encode(errors="replace").decode() != text:
        raise UserError(f"The key of {row.place} is {text!r:.60}, but must be a text of whole characters.")
    return text


def _hash(row: Row, columns: Sequence[str] | None) -> str:
    cells: Mapping[str, Any] = row.cells if columns is None else {name: row.cells.get(name) for name in columns}
    try:
        content = json.dumps(as_plain(cells), sort_keys=True, ensure_ascii=False)
    except TypeError as error:
        raise UserError(
            f"{row.place.capitalize()} cannot be told from others by its content ({error}). Say by what it is known: key=…"
        ) from error
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:12]
