"""Predict what a request's prompt will be billed.

`TokenEstimator.count` says how many input tokens a request body is, how sure that is, and why it is not surer. It is
exact where the rules are known, says so where a number was fitted or guessed, and never raises: a body that makes no
sense is counted as its compact JSON. Nothing is fetched from the network. What is returned is for limits and forecasts;
money is booked by the usage that the server reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpt_batch_api.tokens.count import Count, Sureness, guess
from gpt_batch_api.tokens.messages import count_chat
from gpt_batch_api.tokens.models import Model, resolve
from gpt_batch_api.tokens.plain_text import count_suffix, count_texts
from gpt_batch_api.tokens.responses_input import count_responses
from gpt_batch_api.tokens.text import compact_json

__all__ = ["Count", "Sureness", "TokenEstimator"]

_CHARS_PER_TOKEN = 4


class TokenEstimator:
    """Counts prompts. Hold one and use it for all requests; threads may share it."""

    def count(self, *, endpoint: str, body: Mapping[str, Any]) -> Count:
        """Tokens of the prompt of *body*, sent to *endpoint* (a path like `/v1/chat/completions`)."""
        model = _model(body.get("model") if isinstance(body, Mapping) else None)
        try:
            counted = _count_body(endpoint, body, model=model)
        except Exception:  # a body may be anything at all; the promise is an answer
            counted = guess(_json_tokens(body, model=model), "request that could not be read: counted as its JSON")
        return counted if model.known and not model.approximate else counted + _doubts(model)

    def count_text(self, text: str, *, model: str) -> int:
        """Tokens of *text* alone, as *model* reads it."""
        return _model(model).n(text)


def _model(name: Any) -> Model:
    return resolve(name if isinstance(name, str) else "")


def _count_body(endpoint: str, body: Mapping[str, Any], *, model: Model) -> Count:
    path = endpoint.partition("?")[0].rstrip("/").removesuffix("/input_tokens")
    if path.endswith("chat/completions"):
        return count_chat(body, model=model)
    if path.endswith("responses"):
        return count_responses(body, model=model)
    if path.endswith("embeddings"):
        return count_texts(body["input"], model=model)
    if path.endswith("completions"):
        return count_texts(body["prompt"], model=model) + count_suffix(body.get("suffix"), model=model)
    return guess(_json_tokens(body, model=model), f"endpoint {endpoint}: no rule is known, counted as its JSON")


def _doubts(model: Model) -> Count:
    if model.known:
        return guess(0, f"model {model.name!r}: its own encoding is not packaged, counted with {model.encoding}")
    unknown = f"model {model.name!r} is of no known family" if model.name else "no model is named"
    return guess(0, f"{unknown}: counted like {model.family}")


def _json_tokens(body: Any, *, model: Model) -> int:
    """Tokens of the body's compact JSON; for one that cannot even be written as JSON, by the length of its texts."""
    try:
        return model.n(compact_json(body))
    except (TypeError, ValueError, RecursionError):
        return _length(body) // _CHARS_PER_TOKEN


def _length(value: Any) -> int:
    """The characters of all texts in *value*, however deep, each container once."""
    length, left, seen = 0, [value], set()
    while left:
        item = left.pop()
        if isinstance(item, str):
            length += len(item)
        elif isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            left += [*item.keys(), *item.values()] if isinstance(item, Mapping) else item
    return length
