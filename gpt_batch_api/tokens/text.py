"""Tokens of plain text, for any text at all.

Strings that look like special tokens are ordinary text, lone surrogates are replaced, and the one thing that makes
the tokeniser fail (a run of about a million blanks overflows its matcher) is cut into pieces first. Nothing here
raises on a string.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

from gpt_batch_api.data import load_encoding

_LONGEST_BLANK_RUN = 400_000
_BLANK_RUN = re.compile(rf"\s{{{_LONGEST_BLANK_RUN}}}")
LONGEST_KEPT = 50_000


def count_tokens(text: str, encoding: str) -> int:
    """How many tokens of *encoding* the text *text* is."""
    encode = load_encoding(encoding).encode_ordinary
    if len(text) > _LONGEST_BLANK_RUN:
        return sum(len(encode(piece)) for piece in _pieces(text))
    return len(encode(text))


def count_shared_tokens(text: str, encoding: str) -> int:
    """The same, remembering the answer: for instructions, tools and schemas that many requests share."""
    if len(text) > LONGEST_KEPT:
        return count_tokens(text, encoding)
    return _count_kept(text, encoding)


def compact_json(value: Any) -> str:
    """*value* as JSON without blanks, the way schemas and arguments are shown to the models."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=256)
def _count_kept(text: str, encoding: str) -> int:
    return count_tokens(text, encoding)


def _pieces(text: str) -> list[str]:
    """*text* cut so that no piece has a run of blanks that the tokeniser cannot take."""
    cuts = [0, *(match.end() for match in _BLANK_RUN.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]
