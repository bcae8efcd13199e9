"""Small helpers for sentences that people read."""

from __future__ import annotations

import datetime


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 request`, `2,000 batches`."""
    plural = "" if number == 1 else "es" if noun.endswith(("ch", "sh")) else "s"
    return f"{number:,} {noun}{plural}"


def sentence(text: str) -> str:
    """*text* with one full stop at its end, if nothing ends it already."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def duration(seconds: float) -> str:
    """A length of time in the unit that a person would choose: `40 s`, `25 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{max(0.0, seconds):,.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:,.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 86400:,.1f} days"


def moment(at: float) -> str:
    """A time, in seconds since 1970, to the second."""
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
