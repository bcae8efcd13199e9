"""How fast direct calls of one model go out: as fast as the server takes them, and no faster.

Nobody knows beforehand what a server takes. It says so in three ways: by the headers of its replies, by refusing (429),
and by faltering (5xx, timeouts). Three parts listen, and a call starts only if all of them, and any stated wait, agree.

**The window** limits calls in flight. It starts at 8 and grows by one with every answer, so it doubles in the time of a
call (*slow start*), until the first trouble; from then on by a fiftieth of the ceiling, after the first 429 by one, in
the time of a call. It grows only by answers of calls that were in flight when it was full: a window that is not used
proves nothing. Where a rate is known, so are the calls in flight that it needs (Little's law: rate times duration), and
growth up to there is faster. A 429 halves the window, once per episode: refusals of calls started before the last cut
are echoes of the same event. Other trouble pauses growth; the pause is not renewed before growth had as long a turn, so
that a server which always fails a few calls is still used. Only if a large share fails is the window cut, gently, and
also once per episode.

**The buckets**, one for requests and one for tokens, repeat the server's own count, and **the learnt rate** takes their
place where a server says nothing. How both find out what there is stands in `buckets`.
Refusals in a row with no answer between them make all wait, each twice as long as the one before.

Always true: calls in flight never exceed the ceiling; with none in flight `wait_s` is a number, and after that wait the
call may start, however many tokens it needs (at the latest when the bucket is full). Time is given and never goes back
here. One thread uses it, so there are no locks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.planning.buckets import MINUTE_S, Bucket, LearntRate, Mark, Reading
from gpt_batch_api.planning.rate_headers import RateHeaders

__all__ = ["Call", "Ending", "Pace", "RateHeaders"]

FIRST_WINDOW = 8
LONGEST_RETRY_AFTER_S = 300.0
LONGEST_BACKOFF_S = 30.0
FIRST_BACKOFF_S = 0.5
GROWTH_PAUSE_S = 5.0
MUCH_TROUBLE = 0.3
"""From this share of the recent calls on, trouble cuts the window."""


class Ending(StrEnum):
    """How a call ended, as far as its pace is concerned."""

    ANSWERED = "answered"
    RATE_LIMITED = "rate_limited"
    """429, because of too many calls or tokens; not for billing, nor for a request that can never fit."""
    TROUBLE = "trouble"
    """5xx, a timeout, a lost connection, a server that says it is overloaded."""
    OTHER = "other"
    """Anything that tells nothing about the pace, like 400."""


@dataclass(frozen=True)
class Call:
    """A call in flight: what `start` gives and `end` takes back. The marks are the buckets' memory of its start."""

    number: int
    started_s: float
    tokens: int
    request_mark: Mark
    token_mark: Mark


class Pace:
    """The pace of direct calls of one model."""

    def __init__(self, *, ceiling: int) -> None:
        self._window = _Window(ceiling)
        self._requests = Bucket(least_charge=1.0)
        self._tokens = Bucket(least_charge=0.25)
        self._learnt = LearntRate()
        self._flying: set[int] = set()
        self._next_number = 0
        self._clock = _ForwardClock()
        self._held_until_s = 0.0
        self._fruitless = 0
        """Episodes of trouble since the last answer."""

    @property
    def in_flight(self) -> int:
        """Calls that have started and not ended."""
        return len(self._flying)

    @property
    def window(self) -> int:
        """Most calls in flight at present."""
        return self._window.calls

    @property
    def requests_per_minute(self) -> float | None:
        """The rate of requests in force, stated by the server or learnt from its refusals; None if there is none."""
        rates = [rate for rate in (self._requests.rate, self._learnt.rate) if rate is not None]
        return min(rates) * MINUTE_S if rates else None

    def may_start(self, tokens: int, *, now_s: float) -> bool:
        """Say whether a call of estimated *tokens* (those that count against the token limit) may start now."""
        return self.wait_s(tokens, now_s=now_s) == 0.0

    def wait_s(self, tokens: int, *, now_s: float) -> float | None:
        """Say how long until a call may start if nothing else happens; None if only the end of a call makes room."""
        now_s = self._clock.read(now_s)
        if self.in_flight >= self._window.calls:
            return None
        return max(
            0.0,
            self._held_until_s - now_s,
            self._requests.wait_s(1, now_s=now_s),
            self._tokens.wait_s(max(0, tokens), now_s=now_s),
            self._learnt.wait_s(now_s=now_s),
        )

    def start(self, tokens: int, *, now_s: float) -> Call:
        """Count a call that starts now. Only after `may_start`."""
        if not self.may_start(tokens, now_s=now_s):
            raise InternalError("A direct call was started although its pace did not allow it.")
        now_s, tokens = self._clock.read(now_s), max(0, tokens)
        self._learnt.take(now_s=now_s)
        call = Call(
            number=self._next_number,
            started_s=now_s,
            tokens=tokens,
            request_mark=self._requests.take(1, flying=self.in_flight + 1, now_s=now_s),
            token_mark=self._tokens.take(tokens, flying=self.in_flight + 1, now_s=now_s),
        )
        self._next_number += 1
        self._flying.add(call.number)
        self._window.filled_by(call.number, in_flight=self.in_flight)
        return call

    def end(
        self,
        call: Call,
        ending: Ending,
        *,
        now_s: float,
        used_tokens: int | None = None,
        headers: RateHeaders | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Count the end of *call* and learn from it. A second end of the same call says nothing."""
        if call.number not in self._flying:
            return
        now_s = self._clock.read(now_s)
        self._flying.remove(call.number)
        refused = ending is Ending.RATE_LIMITED
        explained = self._read(call, headers or RateHeaders(), refused=refused, now_s=now_s)
        self._window.noticed(trouble=ending is Ending.TROUBLE)
        if ending is Ending.ANSWERED:
            self._answered(call, used_tokens, now_s=now_s)
        elif refused and self._window.cut_half(call.number, latest=self._next_number):
            self._fruitless += 1
            if not explained:
                self._learnt.cut(now_s=now_s, again=self._fruitless > 1)
            if self._fruitless > 1 or not explained:
                self._hold(self._backoff_s(), now_s=now_s)
            self._requests.refused_once()
            self._tokens.refused_once()
        elif ending is Ending.TROUBLE and self._window.troubled(call.number, latest=self._next_number, now_s=now_s):
            self._fruitless += 1
            if self._fruitless > 1:
                self._hold(self._backoff_s(), now_s=now_s)
        if retry_after_s is not None and retry_after_s > 0:
            self._hold(min(retry_after_s, LONGEST_RETRY_AFTER_S), now_s=now_s)

    def _answered(self, call: Call, used_tokens: int | None, *, now_s: float) -> None:
        if call.number >= self._window.cut_before:
            self._fruitless = 0
        self._learnt.answered(now_s=now_s)
        if used_tokens is not None:
            self._tokens.used(used_tokens, estimated=call.tokens)
        self._window.answered(
            call.number,
            lasted_s=now_s - call.started_s,
            stated_rate=self._requests.rate,
            learnt_rate=self._learnt.rate,
            now_s=now_s,
        )

    def _read(self, call: Call, headers: RateHeaders, *, refused: bool, now_s: float) -> bool:
        """Give both buckets their reading; say whether one of them explains a refusal."""
        requests = Reading.of(headers.limit_requests, headers.remaining_requests, headers.reset_requests_s)
        tokens = Reading.of(headers.limit_tokens, headers.remaining_tokens, headers.reset_tokens_s)
        sides = (
            (self._requests, requests, call.request_mark, 1),
            (self._tokens, tokens, call.token_mark, call.tokens),
        )
        explained = False
        for bucket, reading, mark, amount in sides:
            if reading is not None:
                bucket.read(reading, mark, amount, refused=refused, started_s=call.started_s, now_s=now_s)
                explained = explained or bucket.explains(reading, amount)
        return explained

    def _hold(self, wait_s: float, *, now_s: float) -> None:
        self._held_until_s = max(self._held_until_s, now_s + wait_s)

    def _backoff_s(self) -> float:
        return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self._fruitless - 1, 10))


class _ForwardClock:
    """Time since it was first read. A step back counts as no time at all."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._passed_s = 0.0

    def read(self, now_s: float) -> float:
        if math.isfinite(now_s):
            if self._last_s is not None:
                self._passed_s += max(0.0, now_s - self._last_s)
            self._last_s = now_s
        return self._passed_s


class _Window:
    """How many calls may be in flight."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = max(1, ceiling)
        self._size = float(min(FIRST_WINDOW, self._ceiling))
        self._slow_start = True
        self._step = max(1.0, self._ceiling / 50)
        """Growth in the time of a call, after slow start."""
        self._filled_by = -1
        self.cut_before = 0
        """Calls with lower numbers started before the last cut."""
        self._lasts_s: float | None = None
        self._trouble_share = 0.0
        self._pause_ends_s = 0.0
        self._turn_ends_s = 0.0

    @property
    def calls(self) -> int:
        return int(self._size)

    def filled_by(self, number: int, *, in_flight: int) -> None:
        """Call *number* has started. Remember it if it was the one that filled the window."""
        if in_flight >= self.calls:
            self._filled_by = number

    def answered(
        self, number: int, *, lasted_s: float, stated_rate: float | None, learnt_rate: float | None, now_s: float
    ) -> None:
        """Grow, if the window was full while call *number* was in flight."""
        self._lasts_s = lasted_s if self._lasts_s is None else self._lasts_s + (lasted_s - self._lasts_s) / 8
        if number > self._filled_by or now_s < self._pause_ends_s:
            return
        needed = self._lasts_s * (learnt_rate or 0.0)
        if stated_rate is not None and learnt_rate is None:
            needed = FIRST_WINDOW + 1.5 * self._lasts_s * stated_rate
        if self._size < needed:
            self._size = min(needed, self._size * 1.25 + 1)
        else:
            self._size += 1.0 if self._slow_start else self._step / self._size
        self._size = min(self._size, float(self._ceiling))

    def cut_half(self, number: int, *, latest: int) -> bool:
        """Call *number* was refused: halve the window if it started after the last cut. Say whether it did."""
        self._step = 1.0
        return self._cut(0.5, number, latest=latest)

    def noticed(self, *, trouble: bool) -> None:
        """Keep the share of trouble among recent endings."""
        self._trouble_share += (trouble - self._trouble_share) / 16

    def troubled(self, number: int, *, latest: int, now_s: float) -> bool:
        """Call *number* failed: pause growth, or if many do, cut gently. Say whether it did the latter."""
        self._slow_start = False
        if now_s >= self._turn_ends_s:
            self._pause_ends_s = now_s + GROWTH_PAUSE_S
            self._turn_ends_s = self._pause_ends_s + GROWTH_PAUSE_S
        return self._trouble_share > MUCH_TROUBLE and self._cut(0.8, number, latest=latest)

    def _cut(self, factor: float, number: int, *, latest: int) -> bool:
        if number < self.cut_before:
            return False
        self._slow_start = False
        self._size = max(1.0, self._size * factor)
        self.cut_before = latest
        self._filled_by = -1
        return True
