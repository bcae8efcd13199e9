"""An answer as the task's code sees it: parsed, with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.outcome import Outcome, Usage, Verdict
from gpt_batch_api.domain.request import ResponseSchema
from gpt_batch_api.endpoints.base import Choice, get_endpoint, raw_body, read_json
from gpt_batch_api.endpoints.schemas import find_model

if TYPE_CHECKING:
    from pydantic import BaseModel

    from gpt_batch_api.domain.hooks import ToHand


class Result:
    """The final answer to one request, or its final failure.

    `ok` tells which. `value` is what was asked for: an instance of the pydantic model given as `response_format`, the
    decoded JSON for a plain JSON schema, otherwise the text; None if `ok` is false. With several choices (`n`) the
    usable ones are in `values`. `reason` and `message` say why a request failed.
    """

    def __init__(self, answer: ToHand, *, outcome: Outcome, values: tuple[Any, ...] = ()) -> None:
        self._answer = answer
        self.outcome = outcome
        self.values = values
        self._decision: Decision | None = None

    def __repr__(self) -> str:
        return f"<Result {self._answer.key}: {self.outcome.reason}>"

    @property
    def ok(self) -> bool:
        """Whether there is an answer of use."""
        return self.outcome.ok

    @property
    def value(self) -> Any:
        """The (first usable) answer; None if there is none."""
        return self.values[0] if self.values else None

    @property
    def reason(self) -> str:
        """A short, stable code: `ok`, `cut_off`, `refusal`, `parse_failure`, `expired`, `invalid_request`, …"""
        return self.outcome.reason

    @property
    def message(self) -> str:
        """What a person reads about a failure; the server's own words where it gave any."""
        return self.outcome.message

    @property
    def sample_key(self) -> str:
        return self._answer.key.sample_key

    @property
    def purpose(self) -> str:
        return self._answer.key.purpose

    @property
    def number(self) -> int:
        return self._answer.key.number

    @property
    def meta(self) -> Any:
        """What the request carried as `meta`."""
        return self._answer.meta

    @property
    def model(self) -> str:
        return self._answer.model

    @property
    def attempt(self) -> int:
        """Which attempt this answer is, from 1."""
        return self._answer.attempt

    @property
    def usage(self) -> Usage:
        """Tokens that the server counted for this answer."""
        return self._answer.usage

    @property
    def cost_pico(self) -> int:
        """What this answer cost, in whole picodollars (10^12 to the dollar)."""
        return self._answer.cost_pico

    @cached_property
    def raw(self) -> dict[str, Any]:
        """The reply's body as the server sent it; empty if there is none."""
        return raw_body(self._answer.raw)

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """All alternative answers, usable or not: text, refusal, finish reason, tool calls."""
        return get_endpoint(self._answer.endpoint).choices(self.raw)

    @property
    def text(self) -> str | None:
        """The text of the first choice that has one, rather of one that was not cut off."""
        return next((choice.text for choice in complete_first(self.choices) if choice.text is not None), None)

    @property
    def tool_calls(self) -> tuple[dict[str, Any], ...]:
        """The tool calls of the first choice that has any."""
        return next((choice.tool_calls for choice in self.choices if choice.tool_calls), ())

    @property
    def may_retry(self) -> bool:
        """Whether the request has an attempt left."""
        return self._answer.may_retry

    def retry(self, reason: str) -> None:
        """Ask the request once more, because the answer is no good. Without attempts left it fails with this reason."""
        self._decide(Decision(again=True, reason=reason))

    def fail(self, reason: str) -> None:
        """Count the request as failed: the answer is no good, and asking again would not help."""
        self._decide(Decision(again=False, reason=reason))

    def _decide(self, decision: Decision) -> None:
        if not self.ok:
            raise UserError(f"Request {self._answer.key} has failed for good already: check result.ok first.")
        self._decision = decision

    @property
    def decision(self) -> Decision | None:
        """What the task's code decided, if it did."""
        return self._decision


@dataclass(frozen=True)
class Decision:
    """The task's own verdict on an answer."""

    again: bool
    reason: str


@dataclass
class Parser:
    """Turns raw answers into results. Models are found again by name and remembered."""

    auto_parse: bool = True
    _models: dict[ResponseSchema, type[BaseModel]] = field(default_factory=dict)

    def parse(self, answer: ToHand) -> Result:
        """The result of *answer*: its values, or why there are none. Never raises for what the server sent."""
        if not answer.outcome.ok:
            return Result(answer, outcome=answer.outcome)
        choices = get_endpoint(answer.endpoint).choices(raw_body(answer.raw))
        values: list[Any] = []
        failure: Outcome | None = None
        for choice in complete_first(choices):
            if choice.text is None or choice.refusal is not None:
                continue
            try:
                values.append(self._value(choice.text, answer.schema))
            except ValueError as error:
                failure = Outcome(Verdict.RETRYABLE, "parse_failure", f"the answer does not fit: {_first_error(error)}")
        if failure is not None and not values:
            return Result(answer, outcome=failure)
        return Result(answer, outcome=answer.outcome, values=tuple(values))

    def _value(self, text: str, schema: ResponseSchema | None) -> Any:
        if schema is None or not self.auto_parse:
            return text
        if schema.python is None:
            return read_json(text)
        if schema not in self._models:
            self._models[schema] = find_model(schema)
        return self._models[schema].model_validate_json(text)


def complete_first(choices: tuple[Choice, ...]) -> list[Choice]:
    """*choices* in their order, but those that were cut off last."""
    return sorted(choices, key=lambda choice: choice.cut_off)


def _first_error(error: ValueError) -> str:
    """The first complaint of a pydantic error, in one line."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        first = errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return str(error).splitlines()[0]
