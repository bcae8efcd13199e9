"""Small helpers for sentences that people read."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 request`, `2,000 batches`."""
    plural = "" if number == 1 else "es" if noun.endswith(("ch", "sh")) else "s"
    return f"{number:,} {noun}{plural}"


def duration(seconds: float) -> str:
    """A length of time in the unit that a person would choose: `40 s`, `25 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{max(0.0, seconds):,.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:,.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 86400:,.1f} days"
