"""What is asked about each row: the messages of its request, and what its answer has to look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import GPTBatchError, SchemaError, SettingError, UserError
from gpt_batch_api.domain.request import ResponseSchema
from gpt_batch_api.endpoints import schemas
from gpt_batch_api.tables.images import image_path, image_url, is_address
from gpt_batch_api.tables.keys import Key
from gpt_batch_api.tables.row import Row
from gpt_batch_api.tables.template import Template
from gpt_batch_api.tables.where import Where

Prompt = Template | Callable[[Any], Any]


@dataclass(frozen=True)
class Question:
    """What is asked about each row, and about which rows."""

    prompt: Prompt
    """A template, or a function of the item that gives a text or a list of messages."""
    system: str | None = None
    schema: type | Mapping[str, Any] | None = None
    """A pydantic model, a JSON schema, or None for an answer of plain text."""
    images: tuple[str, ...] = ()
    """Columns with pictures."""
    key: Key = None
    where: Where | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and (not isinstance(self.limit, int) or self.limit < 0):
            raise SettingError(f"limit is {self.limit!r:.60}, but must be a whole number, at least 0.", "limit")
        if not isinstance(self.schema, type | Mapping | None):
            raise SchemaError(
                f"schema is {self.schema!r:.60}, which is neither a pydantic model nor a JSON schema. Give the model's class "
                "itself; a list, a choice or an optional value stands in a field of a model (ratings: list[Rating]). Or give a "
                "JSON schema as a dict, or None for answers of plain text."
            )

    # ------------------------------------------------------------ columns

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that a request is made of; None: only the prompt function knows."""
        return (*self.prompt.columns, *self.images) if isinstance(self.prompt, Template) else None

    def named_columns(self) -> Iterator[tuple[str, str]]:
        """(who names it, column) of all that must be there."""
        yield from (("prompt", name) for name in (self.prompt.columns if isinstance(self.prompt, Template) else ()))
        yield from (("image", name) for name in self.images)
        yield from (("where", name) for name in (self.where.columns if self.where else ()))
        if isinstance(self.key, str):
            yield "key", self.key

    @property
    def key_tells_payload(self) -> bool:
        """Whether the same key means the same payload, because the key was made of all that the payload is made of."""
        return self.key is None and isinstance(self.prompt, Template)

    def in_words(self) -> dict[str, Any]:
        """The question as plain JSON, by which another one is told from it."""
        schema = self.response_schema
        return {
            "prompt": self.prompt.text if isinstance(self.prompt, Template) else _name(self.prompt),
            "system": self.system,
            "schema": None if schema is None else {"name": schema.name, "schema": json.loads(schema.json)},
            "images": list(self.images),
            "key": _name(self.key) if callable(self.key) else self.key,
        }

    # ------------------------------------------------------------ answers

    @cached_property
    def response_schema(self) -> ResponseSchema | None:
        """What answers have to look like, checked; None: they are plain text. Raises SchemaError."""
        if self.schema is None:
            return None
        if isinstance(self.schema, type):
            return schemas.of_model(self.schema)
        return schemas.of_json_schema(_named(self.schema))

    @cached_property
    def response_format(self) -> Any:
        """The same as a payload has it."""
        if self.schema is None or isinstance(self.schema, type):
            return self.schema
        return {"type": "json_schema", "json_schema": _named(self.schema)}

    # ------------------------------------------------------------ messages

    def messages(self, row: Row, *, folder: Path) -> list[Any]:
        """The messages about one row; relative paths of pictures begin at *folder*."""
        asked = self._asked(row)
        if isinstance(asked, str):
            content = [{"type": "text", "text": asked}, *self._images(row, folder)] if self.images else asked
            asked = [{"role": "user", "content": content}]
        return [{"role": "system", "content": self.system}, *asked] if self.system else list(asked)

    def check_pictures(self, row: Row, *, folder: Path) -> None:
        """Raise UserError if a picture of *row* is not there."""
        for name, cell in self._pictures(row):
            if isinstance(cell, str) and not is_address(cell):
                image_path(cell, folder=folder, where=_place(row, name))

    def _asked(self, row: Row) -> str | list[Any]:
        if isinstance(self.prompt, Template):
            return self._filled(self.prompt, row)
        made = self._called(self.prompt, row)
        if isinstance(made, str):
            return made
        if isinstance(made, list | tuple):
            return list(made)
        raise UserError(
            f"{_name(self.prompt)} gives {made!r:.60} for {row.place}, but must give a text or a list of messages."
        )

    def _filled(self, prompt: Template, row: Row) -> str:
        try:
            return prompt.fill(row.cells)
        except TypeError as error:
            raise UserError(f"{row.place.capitalize()} cannot be put into the prompt: {error}.") from error

    def _called(self, prompt: Callable[[Any], Any], row: Row) -> Any:
        try:
            return prompt(row.item)
        except GPTBatchError:
            raise
        except Exception as error:
            raise UserError(
                f"{_name(prompt)} raised {type(error).__name__} for {row.place}: {error}. No paid answer is lost: correct "
                "it and run again."
            ) from error

    def _images(self, row: Row, folder: Path) -> Iterator[dict[str, Any]]:
        for name, cell in self._pictures(row):
            url = image_url(cell, folder=folder, where=_place(row, name))
            yield {"type": "image_url", "image_url": {"url": url}}

    def _pictures(self, row: Row) -> Iterator[tuple[str, Any]]:
        """(column, cell) of the pictures of a row; an empty cell is none."""
        cells = ((name, row.cells.get(name)) for name in self.images)
        return ((name, cell) for name, cell in cells if cell)


def _place(row: Row, column: str) -> str:
    return f"{row.place.capitalize()}, column {column!r}"


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', type(function).__name__)}()"


def _named(schema: Mapping[str, Any]) -> dict[str, Any]:
    """*schema* as the API names it: with a name, and strict. It may have that around it already.

    A bare JSON schema is completed: all properties are required, and no others are allowed.
    """
    if schema.get("type") == "json_schema":
        schema = schema.get("json_schema") or {}
    if "schema" in schema:
        return {"name": "answer", "strict": True, **schema}
    title = "".join(letter if letter.isalnum() else "_" for letter in str(schema.get("title", "")))
    name = title if schemas.NAME.fullmatch(title) else "answer"
    return {"name": name, "strict": True, "schema": schemas.completed(schema)}
