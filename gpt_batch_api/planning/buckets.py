"""The server's count of requests and tokens, as its replies show it, or as its refusals do.

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
limit that was lifted.

Always true: after `wait_s` there is enough, however much is asked for (at the latest when the bucket is full). Time is
given and never goes back; `pacing` sees to that, and to the calls in flight.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from gpt_batch_api.planning.rate_headers import LONGEST_RESET_S

MINUTE_S = 60.0
MOST_CHARGE = 8.0


@dataclass(frozen=True)
class Reading:
    """What one reply says about one bucket."""

    limit: int
    remaining: int | None
    reset_s: float | None

    @classmethod
    def of(cls, limit: int | None, remaining: int | None, reset_s: float | None) -> Reading | None:
        """A reading one can work with, or None. A limit of zero is none: it would forbid every call."""
        if limit is None or limit <= 0:
            return None
        within = None if remaining is None or remaining < 0 else min(remaining, limit)
        return cls(limit, within, reset_s if reset_s is not None and 0 <= reset_s <= LONGEST_RESET_S else None)


@dataclass(frozen=True)
class Mark:
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

    mark: Mark
    remaining: float
    at_s: float
    unsure: int


class Bucket:
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

    def take(self, amount: float, *, flying: int, now_s: float) -> Mark:
        """Take *amount* off for a call; with it, *flying* calls are in flight."""
        self._fill(now_s)
        self._taken += amount
        self._number += 1
        if self._limit is not None:
            self._level = max(-float(self._limit), self._level - amount * self._charge)
        return Mark(self._number, flying, self._epoch, self._level, self._shifted, self._taken)

    def used(self, amount: int, *, estimated: int) -> None:
        """A call of *estimated* tokens has used *amount*: that is the charge, as long as readings have not shown it."""
        if estimated > 0 and amount >= 0 and not self._charge_is_measured:
            self._charge += (_within(amount / estimated, self._least_charge, MOST_CHARGE) - self._charge) / 8

    def refused_once(self) -> None:
        """An episode of refusals began: if the bucket is nearly empty, the server takes more than we thought."""
        if self._limit is not None and not self._refill.at_once and self._level < 0.2 * self._limit:
            self._charge = min(MOST_CHARGE, 1.2 * self._charge)

    def explains(self, reading: Reading, amount: float) -> bool:
        """Whether *reading*, given with a refusal, says that the bucket had too little for *amount*."""
        return reading.remaining is not None and reading.remaining < max(amount * self._charge, 0.1 * reading.limit)

    def read(
        self, reading: Reading, mark: Mark, amount: float, *, refused: bool, started_s: float, now_s: float
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

    def _shift(self, remaining: int, mark: Mark) -> float:
        """How far a reading moves the level."""
        assert self._limit is not None
        found = remaining - (mark.level + self._shifted - mark.shifted)
        if not self._refill.at_once:
            return found * min(1.0, 2 / mark.flying) / (3 if found > 0 else 1)
        overtaken_by = (self._taken - mark.taken) * self._charge
        has_overtaken = (mark.flying - 1) * self._charge * mark.taken / mark.number
        return found - _within(found, -overtaken_by, has_overtaken)

    def _set_anew(self, reading: Reading, mark: Mark, *, started_s: float, now_s: float) -> None:
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

    def _is_of_the_window_before(self, reading: Reading, *, started_s: float) -> bool:
        """Whether a call of this window arrived at the server while that still counted the one before."""
        if not self._refill.at_once or reading.reset_s is None:
            return False
        return started_s + reading.reset_s < self._began_s + self._refill.longest_reset_s / 2

    def _note_end(self, reading: Reading, *, started_s: float, now_s: float) -> None:
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

    def _measure_charge(self, remaining: float, mark: Mark, *, started_s: float) -> None:
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

    def learn(self, reading: Reading) -> None:
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


class LearntRate:
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
