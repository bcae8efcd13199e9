"""A prompt with columns in it: `Rate this review: {text}`. A literal brace is written twice: `{{`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.values import as_text

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Template:
    """What stands between braces is the name of a column, whole and as it is."""

    text: str

    def __post_init__(self) -> None:
        for match in _PART.finditer(self.text):
            if match.group() in ("{", "}"):
                around = self.text[max(0, match.start() - 20) : match.start() + 20]
                raise UserError(
                    f"The prompt has a single brace at {around!r}. Write a literal one twice: {match.group() * 2}. "
                    "A column is written {name}."
                )
            if match.group(1) is not None and not match.group(1).strip():
                raise UserError("The prompt has {} without a name in it. Write the column: {name}.")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        return tuple(dict.fromkeys(match.group(1) for match in _PART.finditer(self.text) if match.group(1)))

    def fill(self, cells: Mapping[str, Any]) -> str:
        """The prompt of one row. A missing cell is empty."""

        def part(match: re.Match[str]) -> str:
            name = match.group(1)
            return match.group()[0] if name is None else as_text(cells.get(name))

        return _PART.sub(part, self.text)
