"""The pace against simulated servers, in simulated time.

A client that always has a next request starts calls as the pace allows. A call arrives at the server after a tenth of
its latency, more or less, is counted there, and the reply comes after the rest; so calls overtake each other and
headers are as old as calls are long. What is promised is measured after the first minute, in which the limits are
learnt.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import pytest

from gpt_batch_api.planning.pacing import Call, Ending, Pace
from gpt_batch_api.planning.rate_headers import RateHeaders
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.plan import RateLimits
from gpt_batch_api.sandbox.rate_limits import RateLimiter, duration_text

MINUTE_S = 60.0
UNLIMITED = 10**9


@dataclass(frozen=True)
class Reply:
    """What the server says to one call."""

    ending: Ending = Ending.ANSWERED
    headers: dict[str, str] = field(default_factory=dict)


class Server(Protocol):
    """Says yes or no to a call."""

    def ask(self, tokens: int, *, now_s: float) -> Reply: ...


class NoLimit:
    """Takes all there is; fails a share of it."""

    def __init__(self, *, trouble: float = 0.0) -> None:
        self.trouble = trouble
        self._random = Random(5)

    def ask(self, tokens: int, *, now_s: float) -> Reply:
        return Reply(Ending.TROUBLE if self._random.random() < self.trouble else Ending.ANSWERED)


class Sandbox:
    """The limiter of the sandbox itself, in a simulated time that may run faster."""

    def __init__(self, *, rpm: int | None = None, tpm: int | None = None, time_scale: float = 1.0) -> None:
        self._limiter = RateLimiter()
        self._limits = RateLimits(requests_per_minute=rpm, tokens_per_minute=tpm, retry_after=True)
        self._time_scale = time_scale
        self._last_s = 0.0

    def ask(self, tokens: int, *, now_s: float) -> Reply:
        self._last_s = max(self._last_s, now_s)
        try:
            headers = self._limiter.admit(
                "m",
                characters=4 * tokens,
                limits=self._limits,
                now=self._last_s * self._time_scale,
                time_scale=self._time_scale,
            )
        except ApiError as error:
            return Reply(Ending.RATE_LIMITED, dict(error.headers or {}))
        return Reply(headers=headers)


class Service:
    """A bucket for requests and one for tokens, refilled without pause, or at once at the end of a window.

    A refused call counts as well, as a provider says of itself. It may tell its limits, or not; it never says when to
    come again.
    """

    def __init__(
        self,
        *,
        rpm: float = UNLIMITED,
        tpm: float = UNLIMITED,
        period_s: float = MINUTE_S,
        at_once: bool = False,
        tells: bool = True,
        full: float = 1.0,
        begins_s: float = 0.0,
        others: float = 0.0,
    ) -> None:
        self.limits = {"requests": rpm, "tokens": tpm}
        self._period_s, self._at_once, self._tells, self._others = period_s, at_once, tells, others
        self._levels = {kind: limit * full for kind, limit in self.limits.items()}
        self._at_s, self._window = 0.0, 0
        self._begins_s = begins_s

    def ask(self, tokens: int, *, now_s: float) -> Reply:
        self._refill(now_s)
        wanted = {"requests": 1.0, "tokens": float(tokens)}
        fits = all(self._levels[kind] >= amount for kind, amount in wanted.items())
        for kind, amount in wanted.items():
            if fits or kind == "requests":
                self._levels[kind] = max(0.0, self._levels[kind] - amount)
        return Reply(Ending.ANSWERED if fits else Ending.RATE_LIMITED, self._headers(now_s) if self._tells else {})

    def _refill(self, now_s: float) -> None:
        window = math.floor((now_s + self._begins_s) / self._period_s)
        for kind, limit in self.limits.items():
            if not self._at_once:
                gain = max(0.0, now_s - self._at_s) * limit / self._period_s * (1 - self._others)
                self._levels[kind] = min(limit, self._levels[kind] + gain)
            elif window > self._window:
                self._levels[kind] = limit
        self._at_s, self._window = max(now_s, self._at_s), max(window, self._window)

    def _headers(self, now_s: float) -> dict[str, str]:
        found = {}
        for kind, limit in self.limits.items():
            if limit == UNLIMITED:
                continue
            level = self._levels[kind]
            reset_s = (limit - level) * self._period_s / limit
            if self._at_once:
                reset_s = (self._window + 1) * self._period_s - self._begins_s - now_s
            found[f"x-ratelimit-limit-{kind}"] = str(int(limit))
            found[f"x-ratelimit-remaining-{kind}"] = str(int(level))
            found[f"x-ratelimit-reset-{kind}"] = duration_text(reset_s)
        return found


@dataclass(frozen=True)
class Moment:
    """The end of one call."""

    at_s: float
    ending: Ending
    tokens: int


class World:
    """A client, a pace and a server; events in the order of their times."""

    def __init__(
        self, server: Server, *, latency_s: float, ceiling: int = 5000, tokens: int = 100, misjudged: float = 1.0
    ) -> None:
        self.server = server
        self.pace = Pace(ceiling=ceiling)
        self.now_s = 0.0
        self.ends: list[Moment] = []
        self.widths: list[tuple[float, int]] = []
        self._latency_s, self._tokens, self._misjudged = latency_s, tokens, misjudged
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._random = Random(11)
        self._wakes_s = math.inf
        self._next_tokens = tokens

    def run(self, until_s: float) -> World:
        """Let time pass."""
        self._start_calls()
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            self._start_calls()
        self.now_s = until_s
        return self

    def refused(self, *, since_s: float) -> float:
        """The share of calls that were answered 429."""
        ended = [end.ending for end in self.ends if end.at_s >= since_s]
        return ended.count(Ending.RATE_LIMITED) / max(1, len(ended))

    def answered_per_minute(self, *, since_s: float) -> float:
        answered = sum(end.ending is Ending.ANSWERED for end in self.ends if end.at_s >= since_s)
        return answered * MINUTE_S / (self.now_s - since_s)

    def tokens_per_minute(self, *, since_s: float) -> float:
        answered = sum(end.tokens for end in self.ends if end.at_s >= since_s and end.ending is Ending.ANSWERED)
        return answered * MINUTE_S / (self.now_s - since_s)

    def _start_calls(self) -> None:
        while self.pace.may_start(self._next_tokens, now_s=self.now_s):
            call = self.pace.start(self._next_tokens, now_s=self.now_s)
            self._next_tokens = round(self._tokens * self._random.uniform(0.5, 1.5))
            way_s = self._latency_s * self._random.uniform(0.05, 0.15)
            self._at(self.now_s + way_s, lambda call=call: self._arrive(call))  # type: ignore[misc]
        wait_s = self.pace.wait_s(self._next_tokens, now_s=self.now_s)
        if wait_s is not None and (self.now_s >= self._wakes_s or self.now_s + wait_s < self._wakes_s):
            self._wakes_s = self.now_s + wait_s
            self._at(self._wakes_s, lambda: None)

    def _arrive(self, call: Call) -> None:
        charged = round(call.tokens * self._misjudged)
        reply = self.server.ask(charged, now_s=self.now_s)
        rest_s = self._latency_s * self._random.uniform(0.7, 1.1)
        if reply.ending is Ending.RATE_LIMITED:
            rest_s = min(rest_s, 0.1)
        self._at(self.now_s + rest_s, lambda: self._end(call, reply, charged))

    def _end(self, call: Call, reply: Reply, charged: int) -> None:
        retry_after = reply.headers.get("retry-after")
        self.pace.end(
            call,
            reply.ending,
            now_s=self.now_s,
            used_tokens=charged,
            headers=RateHeaders.read(reply.headers),
            retry_after_s=None if retry_after is None else float(retry_after),
        )
        self.ends.append(Moment(self.now_s, reply.ending, charged))
        self.widths.append((self.now_s, self.pace.window))

    def _at(self, at_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._numbers), event))


# Servers that state their limits

MAKERS: dict[str, Callable[[int], Server]] = {
    "sandbox": lambda rpm: Sandbox(rpm=rpm),
    "refilled without pause, empty at first": lambda rpm: Service(rpm=rpm, full=0.0),
    "refilled at the end of a minute": lambda rpm: Service(rpm=rpm, at_once=True, begins_s=20),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("rpm", "latency_s"), [(60, 0.05), (60, 1), (60, 20), (300, 0.05), (300, 20)])
def test_a_stated_limit_is_used_and_not_passed(maker: Callable[[int], Server], rpm: int, latency_s: float) -> None:
    """After the first minute at most 3 % are refused, and more than 90 % of the limit is used."""
    world = World(maker(rpm), latency_s=latency_s).run(3 * MINUTE_S)
    assert world.refused(since_s=MINUTE_S) <= 0.03
    assert world.answered_per_minute(since_s=MINUTE_S) > 0.9 * rpm


@pytest.mark.parametrize(("name", "latency_s"), list(zip(MAKERS, (0.05, 20, 1), strict=True)))
def test_a_high_limit_is_used_and_not_passed(name: str, latency_s: float) -> None:
    """1500 a minute: with calls of 20 s this takes 500 in flight."""
    world = World(MAKERS[name](1500), latency_s=latency_s).run(2 * MINUTE_S)
    assert world.refused(since_s=MINUTE_S) <= 0.03
    assert world.answered_per_minute(since_s=MINUTE_S) > 0.9 * 1500


@pytest.mark.parametrize("misjudged", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("tokens", "latency_s"), [(1000, 0.05), (1000, 20), (5000, 1)])
@pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "service"])
def test_a_limit_of_tokens_is_used_and_not_passed(
    sandbox: bool, tokens: int, latency_s: float, misjudged: float
) -> None:
    """Also if the server counts a third of what we estimate, or three times as many."""
    tpm = 100_000
    server = Sandbox(rpm=5000, tpm=tpm) if sandbox else Service(rpm=5000, tpm=tpm)
    world = World(server, latency_s=latency_s, tokens=tokens, misjudged=misjudged).run(3 * MINUTE_S)
    assert world.refused(since_s=MINUTE_S) <= 0.03
    assert world.tokens_per_minute(since_s=MINUTE_S) > 0.9 * tpm


@pytest.mark.parametrize("seed", range(8))
def test_any_stated_limit_is_used_and_not_passed(seed: int) -> None:
    """Limits, durations and the moment at which we come are drawn; the last may be in the middle of a window."""
    draw = Random(seed)
    rpm, latency_s = round(10 ** draw.uniform(1.2, 2.6)), 10 ** draw.uniform(-1.5, 1.3)
    begins_s = draw.uniform(0, 59)
    full, at_once = draw.choice([0.0, 0.5, 1.0]), bool(seed % 2)
    server = Service(rpm=rpm, full=full, at_once=at_once, begins_s=begins_s)
    world = World(server, latency_s=latency_s).run(4 * MINUTE_S)
    assert world.refused(since_s=MINUTE_S) <= 0.03
    assert world.answered_per_minute(since_s=MINUTE_S) > 0.9 * rpm


def test_a_limit_is_followed_where_minutes_are_short() -> None:
    """The sandbox at a hundred times the speed."""
    world = World(Sandbox(rpm=300, time_scale=100), latency_s=0.05).run(4.0)
    assert world.refused(since_s=2.0) <= 0.03
    assert world.answered_per_minute(since_s=2.0) > 0.9 * 300 * 100


def test_a_limit_per_day_is_followed() -> None:
    world = World(Service(rpm=2000, period_s=86400, full=0.01), latency_s=1).run(6 * 3600.0)
    assert world.refused(since_s=MINUTE_S) <= 0.03
    assert world.answered_per_minute(since_s=MINUTE_S) > 0.9 * 2000 / 1440


def test_a_limit_that_others_use_too_is_shared() -> None:
    """They take half of it; what is left is used."""
    world = World(Service(rpm=300, others=0.5), latency_s=5).run(4 * MINUTE_S)
    assert world.refused(since_s=MINUTE_S) <= 0.03
    assert world.answered_per_minute(since_s=MINUTE_S) > 0.9 * 150


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("rpm", [100, 800])
def test_a_limit_that_changes_is_followed(at_once: bool, rpm: int) -> None:
    """500 a minute at first, then less or more."""
    server = Service(rpm=500, at_once=at_once)
    world = World(server, latency_s=0.5).run(1.2 * MINUTE_S)
    server.limits["requests"] = rpm
    world.run(5 * MINUTE_S)
    assert world.refused(since_s=3 * MINUTE_S) <= 0.03
    assert world.answered_per_minute(since_s=3 * MINUTE_S) > 0.9 * rpm


# Servers that say nothing


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("rpm", "latency_s"), [(60, 0.05), (60, 1), (500, 0.05), (500, 5)])
def test_a_silent_limit_is_learnt(at_once: bool, rpm: int, latency_s: float) -> None:
    """Neither hammered nor starved."""
    world = World(Service(rpm=rpm, at_once=at_once, tells=False), latency_s=latency_s).run(6 * MINUTE_S)
    assert world.refused(since_s=2 * MINUTE_S) <= 0.06
    assert world.answered_per_minute(since_s=2 * MINUTE_S) > 0.75 * rpm


@pytest.mark.parametrize(("rpm", "minutes"), [(100, 3), (800, 4)])
def test_a_silent_limit_that_changes_is_followed(rpm: int, minutes: int) -> None:
    """A higher one is found only by trying."""
    server = Service(rpm=500, tells=False)
    world = World(server, latency_s=0.5).run(3 * MINUTE_S)
    server.limits["requests"] = rpm
    world.run((6 + minutes) * MINUTE_S)
    since_s = (3 + minutes) * MINUTE_S
    assert world.refused(since_s=since_s) <= 0.06
    assert world.answered_per_minute(since_s=since_s) > 0.75 * rpm


# Servers without a limit


def test_without_a_limit_the_ceiling_is_reached_in_a_second_and_kept() -> None:
    world = World(NoLimit(), latency_s=0.05, ceiling=100).run(3.0)
    assert min(width for at_s, width in world.widths if at_s > 1.0) == 100
    assert world.answered_per_minute(since_s=1.0) > 0.95 * 100 / 0.05 * MINUTE_S


@pytest.mark.parametrize("latency_s", [0.05, 1.0])
def test_a_server_that_always_fails_some_calls_is_still_used(latency_s: float) -> None:
    """One in ten."""
    world = World(NoLimit(trouble=0.1), latency_s=latency_s, ceiling=100).run(10 if latency_s < 1 else 120)
    assert world.pace.window > 50


def test_after_an_outage_it_goes_on() -> None:
    """Two minutes in which everything fails: few calls then, many soon after."""
    server = NoLimit()
    world = World(server, latency_s=0.2, ceiling=50).run(10.0)
    server.trouble = 1.0
    asked = len(world.run(20.0).ends)
    assert len(world.run(130.0).ends) - asked < 150
    server.trouble = 0.0
    world.run(160.0)
    assert world.pace.window == 50
