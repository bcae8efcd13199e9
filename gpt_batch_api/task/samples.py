"""A sample as the task's code sees it: its state, and what the code does for it. Nothing here is undone by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.request import GPTRequest


@dataclass
class Sample:
    """One sample of the task.

    `state` is the task's own small document about it: change it as you like, it is saved with everything else that
    this answer leads to, or not at all. It begins as an empty dict, or as an instance of the task's `state_type`.
    """

    key: str
    state: Any
    _rows: list[Any] = field(default_factory=list)
    _asked: list[GPTRequest] = field(default_factory=list)

    def emit(self, row: Any) -> None:
        """Add a row to the output: an instance of the output's dataclass, a pydantic model, or a dict."""
        self._rows.append(row)

    def ask(self, request: GPTRequest) -> None:
        """Ask a follow-up request for this sample: another purpose or number. Known ones do no harm."""
        if request.sample_key != self.key:
            raise UserError(f"Sample {self.key!r} asks a follow-up for another sample, {request.sample_key!r}.")
        self._asked.append(request)

    def forget_call(self, state: Any) -> None:
        """Take back what the last call did: its answer is asked again, so it counts as never seen."""
        self.state = state
        self._rows.clear()
        self._asked.clear()

    def take_rows(self) -> list[Any]:
        """The rows added since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def take_asked(self) -> list[GPTRequest]:
        """The follow-ups asked since the last call."""
        asked, self._asked = self._asked, []
        return asked


class StateCodec:
    """Turns a task's state of a sample into JSON text and back. *kind* is a dataclass, a pydantic model, or None."""

    def __init__(self, kind: type | None) -> None:
        from pydantic import TypeAdapter

        self._make: Callable[[], Any] = kind or dict
        self._is_plain = kind is None
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind or Any)

    def load(self, text: str | None) -> Any:
        """The state that `dump` wrote; a fresh one for None."""
        return self._make() if text is None else self._adapter.validate_json(text)

    def dump(self, state: Any) -> str:
        """The state as JSON text. Raises ValueError if it would not come back as it is."""
        try:
            text = self._adapter.dump_json(state).decode()
        except Exception as error:  # pydantic's own errors have many types
            raise ValueError(f"sample.state is no JSON: {error}") from error
        if self._is_plain and json.loads(text) != state:
            raise ValueError(
                "sample.state would come back changed: use text keys, lists and plain values, or a state_type"
            )
        return text
