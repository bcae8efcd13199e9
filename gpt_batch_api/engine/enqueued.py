"""Read the limit of enqueued tokens out of the server's refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gpt_batch_api.endpoints.verdict import ServerError

TOKEN_LIMIT_CODES = frozenset({"token_limit_exceeded"})
_LIMIT = re.compile(r"Limit:\s*(\d[\d,]*)\s*enqueued tokens", re.IGNORECASE)


def named_limit(error: ServerError) -> int | None:
    """The number of enqueued tokens that *error* names; 0 if it names none; None if it is not about that limit."""
    if not ({error.code, error.type} & TOKEN_LIMIT_CODES) and "enqueued token" not in error.message.lower():
        return None
    found = _LIMIT.search(error.message)
    return int(found.group(1).replace(",", "")) if found else 0


def batch_limit(errors: tuple[Mapping[str, Any], ...]) -> tuple[int, str] | None:
    """(limit, message) if a batch failed because of that limit."""
    for item in errors:
        error = ServerError.read(item)
        limit = named_limit(error)
        if limit is not None:
            return limit, error.message
    return None
