"""Time as a dependency: rooms ask a `Clock`, so that tests can turn the hands themselves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What the library knows of time."""

    def now(self) -> float:
        """Wall-clock time: seconds since 1970. May jump; only for what is shown, stored or compared with a server."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; never goes back. For every wait within one process."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Let *delay_s* seconds pass."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


@dataclass(frozen=True)
class HurriedClock:
    """A clock whose time began to run faster at some moment, as a sandbox's does (`time_scale`)."""

    began_at: float
    scale: float

    def now(self) -> float:
        return self.began_at + (time.time() - self.began_at) * self.scale

    def monotonic(self) -> float:
        return time.monotonic() * self.scale

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / self.scale)


class ManualClock:
    """A clock that moves only when told; a sleep moves it at once. For tests and simulations."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._elapsed = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._now += seconds
        self._elapsed += seconds

    def set_back(self, seconds: float) -> None:
        """Turn the wall clock back, as a user or a time server may; elapsed time is not touched."""
        self._now -= seconds

    async def sleep(self, delay_s: float) -> None:
        self.advance(delay_s)
        await asyncio.sleep(0)
