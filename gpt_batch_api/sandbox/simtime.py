"""Simulated time: it starts at the real time, runs `time_scale` times as fast, jumps on demand, never goes back.

It is anchored to the wall clock in the store, so it goes on while the server is down: batches under way move meanwhile,
as they do at a provider.
"""

from __future__ import annotations

import threading

from gpt_batch_api.domain.clock import Clock
from gpt_batch_api.sandbox.store import Store


class SimulatedTime:
    """The sandbox's clock."""

    def __init__(self, store: Store, clock: Clock, *, scale: float, not_before: float = 0.0) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._real = float(store.meta("anchor_real") or clock.now())
        self._simulated = float(store.meta("anchor_simulated") or self._real)
        self._scale = float(store.meta("time_scale") or scale)
        self._latest = not_before
        self.set_scale(scale)

    @property
    def scale(self) -> float:
        """Simulated seconds per real second."""
        return self._scale

    def now(self) -> float:
        """Seconds since 1970, simulated."""
        with self._lock:
            return self._now()

    def advance(self, seconds: float) -> float:
        """Jump ahead by *seconds* and return the new time."""
        return self._anchor(jump=seconds, scale=self._scale)

    def set_scale(self, scale: float) -> None:
        """Let time run at *scale* from now on."""
        self._anchor(jump=0.0, scale=scale)

    def _anchor(self, *, jump: float, scale: float) -> float:
        with self._lock:
            simulated = self._now() + jump
            real = self._clock.now()
            self._real, self._simulated, self._scale, self._latest = real, simulated, scale, simulated
        # Outside the lock: whoever holds the store may ask the time.
        self._store.remember(anchor_real=repr(real), anchor_simulated=repr(simulated), time_scale=repr(scale))
        return simulated

    def _now(self) -> float:
        elapsed = self._clock.now() - self._real
        self._latest = max(self._latest, self._simulated + elapsed * self._scale)
        return self._latest
