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

**The buckets**, one for requests and one for tokens, repeat the server's own count. Each has a limit and a level; a call
takes off what it needs, time refills. Headers tell the limit, the level (`remaining`), and by `reset` how it refills:

- *continuously*: `reset` is the time until the bucket is full, so `reset / used` is the same in every reply. Readings
  are rounded, so each gives a range; the ranges must have something in common. A minute is assumed until they do not
  allow it (limits per day exist), and a faster refill is believed only when it was seen at different levels.
- *at once, at the end of a window*: then the ranges contradict each other soon. The level stays until `reset` is over.
  Within a window our own count is exact, so a reading counts only where no order of the calls explains it.

A reading is as old as its call is long, and calls overtake each other. So a call remembers the level after its own
start; a reading is compared with that, plus what was corrected since, so nothing is counted twice. The more calls were
in flight, the more of the difference is chance, and the smaller a part of it shifts the level of now; upwards it moves
three times more slowly, for a level that is too low costs nothing in the long run (the refill counts), one too high
costs refusals. It is kept a little above zero, for calls that bunch on the way. What the server charges for an estimated
token (or takes for others who share the limit) is the *charge*, measured over many calls between two readings; until
that is possible, true usage tells it.

**The learnt rate** exists only after a 429 that no header explains. It is cut to what was really answered per second in
the last minute (by 15 to 50 %), and rises while it is what holds calls back, slowly at first, then faster, to find a
limit that was lifted. Refusals in a row with no answer between them make it wait, each twice as long as the one before.

Always true: calls in flight never exceed the ceiling; with none in flight `wait_s` is a number, and after that wait the
call may start, however many tokens it needs (at the latest when the bucket is full). Time is given and never goes back
here. One thread uses it, so there are no locks.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpt_batch_api.domain.errors import InternalError

FIRST_WINDOW = 8
MINUTE_S = 60.0
LONGEST_RETRY_AFTER_S = 300.0
LONGEST_RESET_S = 2 * 86400.0
LONGEST_BACKOFF_S = 30.0
FIRST_BACKOFF_S = 0.5
GROWTH_PAUSE_S = 5.0
MOST_CHARGE = 8.0
MUCH_TROUBLE = 0.3
"""From this share of the recent calls on, trouble cuts the window."""

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LONGEST_TEXT = 40
_LARGEST_LIMIT = 10**12


@dataclass(frozen=True)
class RateHeaders:
    """What a reply says about the limits of its model. None: nothing, or nothing that can be believed."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RateHeaders:
        """Read `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, in whatever case they are written."""
        found = {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-ratelimit-")}
        return cls(
            limit_requests=_count(found.get("x-ratelimit-limit-requests")),
            remaining_requests=_count(found.get("x-ratelimit-remaining-requests")),
            reset_requests_s=duration_s(found.get("x-ratelimit-reset-requests")),
            limit_tokens=_count(found.get("x-ratelimit-limit-tokens")),
            remaining_tokens=_count(found.get("x-ratelimit-remaining-tokens")),
            reset_tokens_s=duration_s(found.get("x-ratelimit-reset-tokens")),
        )


def duration_s(text: str | None) -> float | None:
    """Read a duration like `20ms`, `6m0s` or `1h2m3.5s`; a bare number counts seconds. None if it makes no sense."""
    text = (text or "").strip()
    if len(text) > _LONGEST_TEXT:
        return None
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        return None
    return seconds if seconds <= LONGEST_RESET_S else None


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    if len(text) > _LONGEST_TEXT or not _NUMBER.fullmatch(text):
        return None
    number = int(float(text))
    return number if number <= _LARGEST_LIMIT else None


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
    request_mark: _Mark
    token_mark: _Mark


class Pace:
    """The pace of direct calls of one model."""

    def __init__(self, *, ceiling: int) -> None:
        self._window = _Window(ceiling)
        self._requests = _Bucket(least_charge=1.0)
        self._tokens = _Bucket(least_charge=0.25)
        self._learnt = _LearntRate()
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
        requests = _Reading.of(headers.limit_requests, headers.remaining_requests, headers.reset_requests_s)
        tokens = _Reading.of(headers.limit_tokens, headers.remaining_tokens, headers.reset_tokens_s)
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


@dataclass(frozen=True)
class _Reading:
    """What one reply says about one bucket."""

    limit: int
    remaining: int | None
    reset_s: float | None

    @classmethod
    def of(cls, limit: int | None, remaining: int | None, reset_s: float | None) -> _Reading | None:
        """A reading one can work with, or None. A limit of zero is none: it would forbid every call."""
        if limit is None or limit <= 0:
            return None
        within = None if remaining is None or remaining < 0 else min(remaining, limit)
        return cls(limit, within, reset_s if reset_s is not None and 0 <= reset_s <= LONGEST_RESET_S else None)


@dataclass(frozen=True)
class _Mark:
    """How a bucket stood right after a call had taken its part."""

    number: int
    flying: int
    epoch: int
    level: float
    shifted: float
    taken: float


@dataclass(frozen=True)
class _Anchor:
    """A reading from which the charge is measured."""

    mark: _Mark
    remaining: float
    at_s: float
    unsure: int


class _Bucket:
    """The server's count of one kind, requests or tokens, as far as it is known. Without a limit it lets all pass."""

    def __init__(self, *, least_charge: float) -> None:
        self._least_charge = least_charge
        self._limit: int | None = None
        self._limit_told_by = -1
        self._level = 0.0
        self._at_s = 0.0
        self._epoch = 0
        """Marks of another epoch cannot be compared: the bucket was set anew since."""
        self._number = 0
        self._taken = 0.0
        self._shifted = 0.0
        self._charge = 1.0
        self._charge_is_measured = False
        self._refill = _Refill()
        self._began_s = -math.inf
        self._ends_s = math.inf
        """When the window began, if that was seen, and when it ends. Only for a bucket that refills at once."""
        self._ends_is_told = False
        self._anchor: _Anchor | None = None

    @property
    def rate(self) -> float | None:
        """What may be taken per second in the long run."""
        return None if self._limit is None else self._limit / self._refill.period_s(self._limit) / self._charge

    def wait_s(self, amount: float, *, now_s: float) -> float:
        """How long until *amount* is there, or the bucket is full, whichever comes first."""
        if self._limit is None:
            return 0.0
        self._fill(now_s)
        missing = min(amount * self._charge + self._reserve(amount), self._limit) - self._level
        if missing <= 1e-6 * self._limit:
            return 0.0
        if self._refill.at_once:
            return max(1e-3, self._ends_s - now_s)
        return missing * self._refill.period_s(self._limit) / self._limit

    def _reserve(self, amount: float) -> float:
        """What is left in the bucket. It is lost once if the bucket refills steadily, else in every window."""
        assert self._limit is not None
        if self._refill.at_once:
            return 0.02 * self._limit
        return min(0.04 * self._limit, 5 * self._limit / self._refill.period_s(self._limit) + 4 * amount)

    def take(self, amount: float, *, flying: int, now_s: float) -> _Mark:
        """Take *amount* off for a call; with it, *flying* calls are in flight."""
        self._fill(now_s)
        self._taken += amount
        self._number += 1
        if self._limit is not None:
            self._level = max(-float(self._limit), self._level - amount * self._charge)
        return _Mark(self._number, flying, self._epoch, self._level, self._shifted, self._taken)

    def used(self, amount: int, *, estimated: int) -> None:
        """A call of *estimated* tokens has used *amount*: that is the charge, as long as readings have not shown it."""
        if estimated > 0 and amount >= 0 and not self._charge_is_measured:
            self._charge += (_within(amount / estimated, self._least_charge, MOST_CHARGE) - self._charge) / 8

    def refused_once(self) -> None:
        """An episode of refusals began: if the bucket is nearly empty, the server takes more than we thought."""
        if self._limit is not None and not self._refill.at_once and self._level < 0.2 * self._limit:
            self._charge = min(MOST_CHARGE, 1.2 * self._charge)

    def explains(self, reading: _Reading, amount: float) -> bool:
        """Whether *reading*, given with a refusal, says that the bucket had too little for *amount*."""
        return reading.remaining is not None and reading.remaining < max(amount * self._charge, 0.1 * reading.limit)

    def read(
        self, reading: _Reading, mark: _Mark, amount: float, *, refused: bool, started_s: float, now_s: float
    ) -> None:
        """Correct the bucket by a *reading* from a reply to the call of *mark*, which took *amount*."""
        self._fill(now_s)
        newest = mark.number > self._limit_told_by
        if reading.limit != self._limit and not newest:
            return  # an old reply that was overtaken
        self._limit_told_by = max(mark.number, self._limit_told_by)
        was_at_once = self._refill.at_once
        self._refill.learn(reading)
        if reading.limit != self._limit or self._refill.at_once != was_at_once:
            self._set_anew(reading, mark, started_s=started_s, now_s=now_s)
            return
        if mark.epoch != self._epoch or self._is_of_the_window_before(reading, started_s=started_s):
            return
        self._note_end(reading, started_s=started_s, now_s=now_s)
        if reading.remaining is None:
            return
        shift = self._shift(reading.remaining, mark)
        self._shifted += shift
        self._level = min(self._limit, self._level + shift)
        if refused and self._refill.at_once and self.explains(reading, amount):
            self._level = min(self._level, 0.0)  # nothing comes back before the end of the window
        if refused:
            self._anchor = None  # some servers count refused calls, some do not
        else:
            self._measure_charge(reading.remaining, mark, started_s=started_s)

    def _shift(self, remaining: int, mark: _Mark) -> float:
        """How far a reading moves the level."""
        assert self._limit is not None
        found = remaining - (mark.level + self._shifted - mark.shifted)
        if not self._refill.at_once:
            return found * min(1.0, 2 / mark.flying) / (3 if found > 0 else 1)
        overtaken_by = (self._taken - mark.taken) * self._charge
        has_overtaken = (mark.flying - 1) * self._charge * mark.taken / mark.number
        return found - _within(found, -overtaken_by, has_overtaken)

    def _set_anew(self, reading: _Reading, mark: _Mark, *, started_s: float, now_s: float) -> None:
        """Take over the *reading*, less what was taken since."""
        if self._limit is None:
            self._refill = _Refill()
            self._refill.learn(reading)
        self._limit = reading.limit
        remaining = reading.limit if reading.remaining is None else reading.remaining
        refilled = 0.0
        if not self._refill.at_once:
            refilled = (now_s - started_s) * reading.limit / self._refill.period_s(reading.limit)
        since = (self._taken - mark.taken) * self._charge
        self._level = max(-float(reading.limit), min(reading.limit, remaining + refilled - since))
        self._epoch += 1
        self._anchor = None
        if self._refill.at_once and not self._charge_is_measured:
            self._charge = 1.0  # what was guessed by refusals was the end of a window
        self._began_s = -math.inf
        self._ends_s, self._ends_is_told = started_s + self._refill.longest_reset_s, False
        self._note_end(reading, started_s=started_s, now_s=now_s)

    def _is_of_the_window_before(self, reading: _Reading, *, started_s: float) -> bool:
        """Whether a call of this window arrived at the server while that still counted the one before."""
        if not self._refill.at_once or reading.reset_s is None:
            return False
        return started_s + reading.reset_s < self._began_s + self._refill.longest_reset_s / 2

    def _note_end(self, reading: _Reading, *, started_s: float, now_s: float) -> None:
        """The reading was taken on the way, so the window ends no earlier than this. A little later does no harm."""
        if reading.reset_s is not None:
            told = started_s + reading.reset_s + 0.1 * (now_s - started_s)
            self._ends_s = max(self._ends_s, told) if self._ends_is_told else told
            self._ends_is_told = True

    def _fill(self, now_s: float) -> None:
        if self._limit is None:
            return
        if not self._refill.at_once:
            refilled = max(0.0, now_s - self._at_s) * self._limit / self._refill.period_s(self._limit)
            self._level = min(self._limit, self._level + refilled)
        elif now_s >= self._ends_s:
            self._level = self._limit
            self._epoch += 1
            self._anchor = None
            self._began_s = now_s
            self._ends_s, self._ends_is_told = now_s + self._refill.longest_reset_s, False
        self._at_s = now_s

    def _measure_charge(self, remaining: float, mark: _Mark, *, started_s: float) -> None:
        """Compare what the server has taken between two readings with what we think we took."""
        assert self._limit is not None
        if remaining > 0.98 * self._limit:
            self._anchor = None  # a full bucket hides what was taken
            return
        unsure = (
            mark.flying + self._number - mark.number
        )  # so many calls may have overtaken this one, or been overtaken
        here = _Anchor(mark, remaining, started_s, unsure)
        first = self._anchor
        if first is None or unsure < first.unsure / 2:
            self._anchor = here
            return
        taken = mark.taken - first.mark.taken
        if taken < 0.25 * self._limit or mark.number - first.mark.number < 2 * max(4, unsure, first.unsure):
            return
        refilled = 0.0
        if not self._refill.at_once:
            refilled = (started_s - first.at_s) * self._limit / self._refill.period_s(self._limit)
        measured = _within((first.remaining - remaining + refilled) / taken, self._least_charge, MOST_CHARGE)
        self._charge += 0.3 * (measured - self._charge)
        self._charge_is_measured = True
        self._anchor = here


@dataclass
class _Refill:
    """How a bucket fills up again, as far as readings have shown it."""

    at_once: bool = False
    longest_reset_s: float = 1e-3
    _limit: int = 0
    _least: float = 0.0
    _most: float = math.inf
    """The range of seconds per unit that all readings agree on."""
    _used: list[int] = field(default_factory=list)
    """Least and most that was seen to be used, in these readings."""
    _readings: int = 0

    def period_s(self, limit: int) -> float:
        """The time in which a whole *limit* is refilled."""
        if self.at_once:
            return self.longest_reset_s
        if self._limit != limit:
            return MINUTE_S
        middle = _within(MINUTE_S / limit, self._least, max(self._least, self._most))
        return limit * (middle if self._seen_at_different_levels else max(middle, MINUTE_S / limit))

    @property
    def _seen_at_different_levels(self) -> bool:
        return bool(self._used) and self._used[1] >= 1.5 * self._used[0]

    def learn(self, reading: _Reading) -> None:
        """Narrow the range by *reading*; if nothing is left of it, the bucket refills at once."""
        if reading.remaining is None or reading.reset_s is None or reading.remaining == reading.limit:
            return
        if reading.limit != self._limit:
            self._forget()
            self._limit, self.longest_reset_s = reading.limit, 1e-3
        self.longest_reset_s = max(self.longest_reset_s, reading.reset_s)
        used, rounding_s = reading.limit - reading.remaining, 1.0 if reading.reset_s == int(reading.reset_s) else 1e-3
        self._least = max(self._least, (reading.reset_s - rounding_s) / used)
        self._most = min(self._most, (reading.reset_s + rounding_s) / (used - 1) if used > 1 else math.inf)
        self._readings += 1
        self._used = [min(used, *self._used), max(used, *self._used)] if self._used else [used, used]
        if self._least > 1.25 * self._most:
            self.at_once = True
            self._forget()
        elif self._readings >= 16 and self._used[1] >= 2 * self._used[0] > 2 and self._most < 1.25 * self._least:
            self.at_once = False

    def _forget(self) -> None:
        self._least, self._most, self._used, self._readings = 0.0, math.inf, [], 0


class _LearntRate:
    """Calls per second that a server without headers was found to take; no limit before its first refusal."""

    def __init__(self) -> None:
        self._base: float | None = None
        self._pressed_s = 0.0
        """For how long since the last cut the rate was what held calls back."""
        self._level = 0.0
        self._at_s = 0.0
        self._first_s: float | None = None
        self._answers: deque[list[int]] = deque()
        """Seconds and the number of answers in each, for the last minute."""

    @property
    def rate(self) -> float | None:
        """Calls per second; None if nothing had to be learnt."""
        if self._base is None:
            return None
        return self._base * (1 + 0.005 * self._pressed_s * (1 + (self._pressed_s / 60) ** 2))

    def wait_s(self, *, now_s: float) -> float:
        """How long until a call may start."""
        rate = self.rate
        if rate is None:
            return 0.0
        missing = 1 - self._filled(rate, now_s)
        return missing / rate if missing > 1e-6 else 0.0

    def take(self, *, now_s: float) -> None:
        """A call starts."""
        self._first_s = now_s if self._first_s is None else self._first_s
        rate = self.rate
        if rate is not None:
            level = self._filled(rate, now_s)
            if level < self._burst(rate):
                self._pressed_s += min(now_s - self._at_s, 2 / rate)
            self._level = level - 1
        self._at_s = now_s

    def answered(self, *, now_s: float) -> None:
        """Count an answer."""
        second = int(now_s)
        if self._answers and self._answers[-1][0] == second:
            self._answers[-1][1] += 1
        else:
            self._answers.append([second, 1])
        self._drop_old(now_s)

    def cut(self, *, again: bool, now_s: float) -> None:
        """Lower the rate to what the last minute has shown to pass. If cut *again* before an answer, no lower."""
        self._drop_old(now_s)
        span_s = _within(now_s - (self._first_s or 0.0), 1.0, MINUTE_S)
        passed = max(1, sum(count for _, count in self._answers)) / span_s
        rate = self.rate
        self._base = 0.85 * passed if rate is None else _within(passed, 0.5 * rate, rate if again else 0.85 * rate)
        self._base = max(self._base, 1 / MINUTE_S)
        self._pressed_s, self._level, self._at_s = 0.0, 0.0, now_s

    def _filled(self, rate: float, now_s: float) -> float:
        return min(self._burst(rate), self._level + (now_s - self._at_s) * rate)

    def _burst(self, rate: float) -> float:
        """As many calls may start at once."""
        return max(1.0, 0.25 * rate)

    def _drop_old(self, now_s: float) -> None:
        while self._answers and self._answers[0][0] < now_s - MINUTE_S:
            self._answers.popleft()


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
