"""What the sandbox knows of models: which exist, how they count, what fits into them.

Facts by family name, so that a snapshot (`-2026-01-31`) or a fine-tuned model (`ft:base:…`) needs no line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_HARMONY = re.compile(r"^(o\d|gpt-(?:[5-9]|\d\d))")
_O_SERIES = re.compile(r"^o\d")
_CL100K = re.compile(r"^(gpt-4(?![o.\d])|gpt-3\.5|gpt-35|text-embedding|.*-instruct)")

EMBEDDING_SIZES = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}

# Tokens of input and output together; the first matching prefix counts.
_CONTEXT_TOKENS = (
    ("gpt-3.5", 16_385),
    ("gpt-4.1", 1_047_576),
    ("gpt-4o", 128_000),
    ("gpt-4-turbo", 128_000),
    ("gpt-4.5", 128_000),
    ("gpt-4", 8_192),
    ("o", 200_000),
    ("gpt-5.4", 1_050_000),
    ("gpt-5.5", 1_050_000),
    ("gpt-5.6", 1_050_000),
    ("gpt-5", 400_000),
    ("gpt-6", 1_050_000),
)
_CONTEXT_OTHERS = 128_000


def base_name(model: str) -> str:
    """The family name: without a date, and without the wrapping of a fine-tuned model."""
    if model.startswith("ft:"):
        model = model.split(":")[1]
    return _DATE.sub("", model)


def is_known(model: str, names: Collection[str]) -> bool:
    """Whether *model* is, or is a snapshot of, one of *names*. Without any names every model is known."""
    return not names or model in names or base_name(model) in names or base_name(model) in EMBEDDING_SIZES


def is_harmony(model: str) -> bool:
    """Whether *model* belongs to the o-series or to gpt-5 and later, which reason and frame messages their own way."""
    base = base_name(model)
    return bool(_HARMONY.match(base)) and "-chat" not in base


def is_o_series(model: str) -> bool:
    """Whether *model* is an o1, o3, o4 …"""
    return bool(_O_SERIES.match(base_name(model)))


def encoding_name(model: str) -> str:
    """The vocabulary that *model* reads with; an unknown model gets the newest."""
    return "cl100k_base" if _CL100K.match(base_name(model)) else "o200k_base"


def context_tokens(model: str) -> int:
    """How many tokens fit into *model*."""
    base = base_name(model)
    return next((tokens for prefix, tokens in _CONTEXT_TOKENS if base.startswith(prefix)), _CONTEXT_OTHERS)


def embedding_size(model: str) -> int:
    """How many numbers an embedding by *model* has."""
    return EMBEDDING_SIZES.get(base_name(model), 1536)
