"""Small helpers for sentences that people read."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 request`, `2,000 batches`."""
    plural = "" if number == 1 else "es" if noun.endswith(("ch", "sh")) else "s"
    return f"{number:,} {noun}{plural}"
