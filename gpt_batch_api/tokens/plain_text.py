"""Endpoints without messages: embeddings and the old completions.

Texts cost their tokens, an empty one still costs one, and token lists their length.
"""

from __future__ import annotations

from typing import Any

from gpt_batch_api.tokens.count import NOTHING, Count, exact, fitted
from gpt_batch_api.tokens.models import Model


def count_texts(value: Any, *, model: Model) -> Count:
    """Tokens of *value*: a text, a list of texts, token numbers, or lists of those. `TypeError` for anything else."""
    return exact(_tokens(value, model=model))


def count_suffix(value: Any, *, model: Model) -> Count:
    """Tokens of the text that shall follow the completion."""
    return fitted(model.n(value)) if isinstance(value, str) else NOTHING


def _tokens(value: Any, *, model: Model) -> int:
    if isinstance(value, str):
        return max(1, model.n(value))
    if not isinstance(value, list):
        raise TypeError("neither text nor a list")
    if value and isinstance(value[0], int):
        return len(value)
    return sum(_tokens(item, model=model) for item in value)
