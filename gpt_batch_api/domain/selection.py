"""Which requests, or which samples, a command means. Nothing given means all of them."""

from __future__ import annotations

from dataclasses import dataclass

from gpt_batch_api.domain.states import RequestState


@dataclass(frozen=True)
class Selection:
    """What must hold, all of it. A sample is meant if one of its requests is."""

    key: str | None = None
    """The sample's key; with a star at its end all keys that begin so."""
    states: frozenset[RequestState] = frozenset()
    reason: str | None = None
    """Why it is held or failed, or what any of its answers was thought of: `refusal`, `parse_failure` …"""
    batch: int | None = None
    """It is in this batch, or was answered by it."""
    since: float | None = None
    """It has an answer that came at or after this moment, in seconds since 1970."""
    until: float | None = None
    """It has an answer that came before this moment."""

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()
