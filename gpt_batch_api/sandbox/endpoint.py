"""What an emulated endpoint is: it judges a body, counts it, and answers it.

Chat Completions, Responses and Embeddings are one module each. Direct calls and the lines of a batch go through the
same three methods, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gpt_batch_api.sandbox import errors
from gpt_batch_api.sandbox.billing import Usage
from gpt_batch_api.sandbox.chance import Asker
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.plan import Answers

Body = dict[str, Any]


@dataclass(frozen=True)
class Spoilt:
    """What goes wrong with an answer, or is special about it."""

    refusal: bool = False
    length: bool = False
    broken_json: bool = False
    wrong_json: bool = False
    content_filter: bool = False
    empty: bool = False
    blank_id: bool = False
    no_usage: bool = False
    cached: bool = False
    cache_write: bool = False

    @property
    def calls_nothing(self) -> bool:
        """Whether the answer is bound to be words, or none: no function is called."""
        return self.refusal or self.length or self.content_filter or self.empty


@dataclass(frozen=True)
class Asked:
    """A judged and counted body, and all that its answer depends on."""

    body: Body
    asker: Asker
    input_tokens: int
    at: float
    answers: Answers
    spoilt: Spoilt = Spoilt()

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def cached_tokens(self) -> int:
        """How many input tokens come from the cache."""
        return _cacheable(self.input_tokens) if self.spoilt.cached else 0

    @property
    def cache_write_tokens(self) -> int:
        """How many input tokens are written to the cache, for those who charge for that."""
        return _cacheable(self.input_tokens) if self.spoilt.cache_write and not self.spoilt.cached else 0


@dataclass(frozen=True)
class Answered:
    """An answer with status 200, and what it is charged for."""

    body: Body
    usage: Usage


class Endpoint(Protocol):
    """One endpoint of the API."""

    @property
    def path(self) -> str:
        """Its path, as batches name it."""
        ...

    @property
    def operation(self) -> str:
        """Its name in plans and in the log of calls."""
        ...

    def missing_in_batch(self, body: Body) -> tuple[str, str] | None:
        """The first thing besides the model that a batch line lacks: its name and its parameter."""
        ...

    def check(self, body: Body, *, models: Collection[str]) -> None:
        """Raise the `ApiError` that the service answers, if *body* is wrong."""
        ...

    def count_input(self, body: Body) -> int:
        """The input tokens of *body*; never raises."""
        ...

    def overflow(self, tokens: int, limit: int) -> ApiError:
        """What the service says when *tokens* of input do not fit into *limit*."""
        ...

    def answer(self, asked: Asked) -> Answered:
        """Answer a body that has passed `check`."""
        ...


def check_names(body: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a parameter that the endpoint does not know."""
    for name in body:
        if name not in known:
            raise ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def check_model(body: Mapping[str, Any]) -> str:
    """The model's name; an error if there is none."""
    model = body.get("model")
    if model is None or model == "":
        raise ApiError(400, "you must provide a model parameter")
    if not isinstance(model, str):
        raise errors.wrong_type("model", expected="a string", value=model)
    return model


def check_number(
    body: Mapping[str, Any], name: str, *, least: float, most: float | None = None, whole: bool = False
) -> None:
    """Refuse a number of the wrong type or out of range; null and absent are fine."""
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise errors.wrong_type(name, expected="an integer" if whole else "a decimal", value=value)
    if value < least:
        raise errors.out_of_range(name, value=value, bound=least, above=False)
    if most is not None and value > most:
        raise errors.out_of_range(name, value=value, bound=most, above=True)


def check_not_streamed(body: Mapping[str, Any]) -> None:
    """Refuse a stream: the sandbox has none."""
    if body.get("stream"):
        raise ApiError(400, "The sandbox does not emulate streaming.", param="stream", code="unsupported_value")


def _cacheable(tokens: int) -> int:
    """The service caches prompts of 1,024 tokens or more, in steps of 128."""
    return tokens // 128 * 128 if tokens >= 1024 else 0
