"""How fast direct calls go out: each rule of the pace, one by one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.planning.pacing import (
    FIRST_WINDOW,
    GROWTH_PAUSE_S,
    LONGEST_RETRY_AFTER_S,
    Call,
    Ending,
    Pace,
)
from gpt_batch_api.planning.rate_headers import RateHeaders, duration_s

TOKENS = 100


def fill(pace: Pace, *, now_s: float, most: int = 10**6) -> list[Call]:
    """Start as many calls as the pace allows, at most *most*."""
    calls: list[Call] = []
    while len(calls) < most and pace.may_start(TOKENS, now_s=now_s):
        calls.append(pace.start(TOKENS, now_s=now_s))
    return calls


def end_all(pace: Pace, calls: list[Call], ending: Ending = Ending.ANSWERED, *, now_s: float) -> None:
    for call in calls:
        pace.end(call, ending, now_s=now_s)


def grown(size: int, *, ceiling: int = 1000) -> Pace:
    """A pace in slow start whose window has *size*."""
    pace, now_s = Pace(ceiling=ceiling), 0.0
    while pace.window < size:
        end_all(pace, fill(pace, now_s=now_s, most=min(pace.window, size)), now_s=now_s + 1)
        now_s += 1
    return pace


def requests(limit: int, remaining: int | None = None, reset_s: float | None = None) -> RateHeaders:
    return RateHeaders(limit_requests=limit, remaining_requests=remaining, reset_requests_s=reset_s)


def told(headers: RateHeaders, *, tokens: int = 0, used_tokens: int | None = None) -> Pace:
    """A pace that has had one answer, with *headers*, at second 0."""
    pace = Pace(ceiling=10**6)
    call = pace.start(tokens, now_s=0.0)
    pace.end(call, Ending.ANSWERED, now_s=0.0, headers=headers, used_tokens=used_tokens)
    return pace


# Headers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("7.66ms", 0.00766),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("500us", 0.0005),
        ("30", 30.0),
        ("0s", 0.0),
        (" 1s ", 1.0),
        ("2d", 172800.0),
        ("2d1s", None),
        ("1792108800000", None),
        ("-1s", None),
        ("", None),
        (None, None),
        ("soon", None),
        ("1s later", None),
        ("nan", None),
        ("inf", None),
        ("1" * 41, None),
    ],
)
def test_a_reset_is_read_as_servers_write_it(text: str | None, seconds: float | None) -> None:
    found = duration_s(text)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_all_six_headers_are_read_in_any_case() -> None:
    headers = {
        "X-RateLimit-Limit-Requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "6m0s",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-tokens": "1.5s",
        "content-type": "application/json",
    }
    assert RateHeaders.read(headers) == RateHeaders(5000, 4999, 360.0, 160000, 159976, 1.5)


@given(
    st.dictionaries(
        st.sampled_from(
            [f"x-ratelimit-{a}-{b}" for a in ("limit", "remaining", "reset") for b in ("requests", "tokens")]
        ),
        st.text(max_size=50),
    )
)
def test_garbage_in_headers_never_breaks_anything(headers: dict[str, str]) -> None:
    pace = told(RateHeaders.read(headers))
    assert pace.wait_s(TOKENS, now_s=0.0) is not None


# The window


@pytest.mark.parametrize(("ceiling", "first"), [(1, 1), (7, 7), (8, 8), (9, 8), (500, 8)])
def test_the_first_window_is_small(ceiling: int, first: int) -> None:
    pace = Pace(ceiling=ceiling)
    assert len(fill(pace, now_s=0.0)) == pace.window == first
    assert pace.wait_s(TOKENS, now_s=0.0) is None


def test_it_doubles_in_the_time_of_a_call() -> None:
    pace = Pace(ceiling=100)
    sizes = []
    for second in range(6):
        calls = fill(pace, now_s=second)
        sizes.append(len(calls))
        end_all(pace, calls, now_s=second + 0.9)
    assert sizes == [8, 16, 32, 64, 100, 100]


def test_it_does_not_grow_while_it_is_not_used() -> None:
    """One call short of full for a thousand rounds."""
    pace = Pace(ceiling=100)
    for second in range(1000):
        end_all(pace, fill(pace, now_s=second, most=FIRST_WINDOW - 1), now_s=second + 0.5)
    assert pace.window == FIRST_WINDOW


def test_after_the_first_trouble_it_grows_by_a_step_in_the_time_of_a_call() -> None:
    pace = grown(32, ceiling=50)
    size = pace.window
    call, *others = fill(pace, now_s=100)
    pace.end(call, Ending.TROUBLE, now_s=100)
    end_all(pace, others, now_s=100)
    assert pace.window == size
    for second in range(200, 205):
        end_all(pace, fill(pace, now_s=second), now_s=second + 0.5)
    assert size + 4 <= pace.window <= size + 5


def test_a_refusal_halves_it_once_per_episode() -> None:
    """All that were in flight are refused; only calls started after the cut can cut again."""
    pace = grown(64)
    size = pace.window
    end_all(pace, fill(pace, now_s=100), Ending.RATE_LIMITED, now_s=101)
    assert pace.window == size // 2
    call, *others = fill(pace, now_s=500, most=1)
    pace.end(call, Ending.RATE_LIMITED, now_s=501)
    assert (pace.window, others) == (size // 4, [])


def test_it_is_never_less_than_one() -> None:
    pace, now_s = Pace(ceiling=8), 0.0
    for _ in range(20):
        end_all(pace, fill(pace, now_s=now_s, most=1), Ending.RATE_LIMITED, now_s=now_s)
        now_s += 1000
    assert pace.window == 1
    assert pace.may_start(TOKENS, now_s=now_s)


def test_lone_trouble_pauses_growth_and_cuts_nothing() -> None:
    """And the pause is not renewed before growth had as long a turn."""
    pace = grown(16, ceiling=1000)
    size = pace.window
    call, *others = fill(pace, now_s=100)
    pace.end(call, Ending.TROUBLE, now_s=100)
    end_all(pace, others, now_s=100 + GROWTH_PAUSE_S - 1)
    assert pace.window == size
    call, *others = fill(pace, now_s=101 + GROWTH_PAUSE_S)
    pace.end(call, Ending.TROUBLE, now_s=101 + GROWTH_PAUSE_S)
    end_all(pace, others, now_s=101 + GROWTH_PAUSE_S)
    assert pace.window > size


def test_much_trouble_cuts_gently_and_once_per_episode() -> None:
    pace = grown(100)
    size = pace.window
    end_all(pace, fill(pace, now_s=100), Ending.TROUBLE, now_s=101)
    assert pace.window == int(size * 0.8)


def test_a_server_that_fails_for_long_is_asked_ever_more_rarely() -> None:
    pace, now_s, starts = Pace(ceiling=100), 0.0, 0
    while now_s < 600:
        calls = fill(pace, now_s=now_s)
        starts += len(calls)
        end_all(pace, calls, Ending.TROUBLE, now_s=now_s)
        now_s += pace.wait_s(TOKENS, now_s=now_s) or 0.01
    assert starts < 150


@pytest.mark.parametrize("ending", [Ending.OTHER, Ending.ANSWERED])
def test_other_endings_never_slow_it(ending: Ending) -> None:
    pace = grown(16)
    size = pace.window
    end_all(pace, fill(pace, now_s=100), ending, now_s=101)
    assert pace.window >= size
    assert pace.may_start(TOKENS, now_s=101)


# What the server asks for


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize(("asked_s", "kept_s"), [(7.0, 7.0), (10**9, LONGEST_RETRY_AFTER_S), (math.inf, 300.0)])
def test_nothing_starts_before_retry_after_is_over(ending: Ending, asked_s: float, kept_s: float) -> None:
    """Whatever it came with; an absurd one is capped."""
    pace = Pace(ceiling=8)
    pace.end(pace.start(TOKENS, now_s=50), ending, now_s=50, retry_after_s=asked_s)
    assert pace.wait_s(TOKENS, now_s=50) == pytest.approx(kept_s)
    assert not pace.may_start(TOKENS, now_s=50 + kept_s - 0.01)
    assert pace.may_start(TOKENS, now_s=50 + kept_s)


@pytest.mark.parametrize("asked_s", [None, 0.0, -5.0, math.nan])
def test_a_retry_after_that_says_nothing_is_ignored(asked_s: float | None) -> None:
    pace = Pace(ceiling=8)
    pace.end(pace.start(TOKENS, now_s=50), Ending.OTHER, now_s=50, retry_after_s=asked_s)
    assert pace.may_start(TOKENS, now_s=50)


def test_episodes_in_a_row_without_an_answer_wait_twice_as_long_each_time() -> None:
    pace, now_s, waits = Pace(ceiling=8), 0.0, []
    for _ in range(13):
        pace.end(pace.start(0, now_s=now_s), Ending.TROUBLE, now_s=now_s)
        waits.append(pace.wait_s(0, now_s=now_s) or 0.0)
        now_s += waits[-1]
    assert [wait_s for wait_s in waits if wait_s] == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    pace.end(pace.start(0, now_s=now_s), Ending.ANSWERED, now_s=now_s)
    pace.end(pace.start(0, now_s=now_s), Ending.TROUBLE, now_s=now_s)
    assert pace.may_start(0, now_s=now_s)


# Buckets


def test_requests_go_as_fast_as_the_limit_refills() -> None:
    """60 a minute, nothing left: one a second once the small reserve is there."""
    pace = told(requests(60, 0, 60.0))
    now_s, starts = 0.0, list[float]()
    while len(starts) < 20:
        now_s += pace.wait_s(0, now_s=now_s) or 0.0
        pace.end(pace.start(0, now_s=now_s), Ending.OTHER, now_s=now_s)
        starts.append(now_s)
    assert starts[0] == pytest.approx(1 + 60 * 0.04)
    assert starts[-1] - starts[0] == pytest.approx(19.0)


def test_a_limit_per_day_is_told_by_its_reset() -> None:
    """200 a day: a hundred used come back in half a day."""
    pace = told(requests(200, 100, 43200.0))
    assert pace.requests_per_minute == pytest.approx(200 / 1440, rel=0.02)


def test_a_faster_refill_is_believed_when_seen_at_two_levels() -> None:
    """1000 in 0.6 s. One reading could as well be the end of a window."""
    pace = told(requests(1000, 900, 0.06))
    assert pace.requests_per_minute == pytest.approx(1000)
    pace.end(pace.start(0, now_s=1), Ending.ANSWERED, now_s=1, headers=requests(1000, 500, 0.3))
    assert pace.requests_per_minute == pytest.approx(100_000, rel=0.02)


def test_a_window_that_ends_at_once_is_recognised_and_waited_for() -> None:
    """Fewer and fewer remain, and the end comes nearer: nothing is refilled before."""
    pace = told(requests(100, 60, 30.0))
    pace.end(pace.start(0, now_s=10), Ending.ANSWERED, now_s=10, headers=requests(100, 20, 20.0))
    pace.end(pace.start(0, now_s=15), Ending.ANSWERED, now_s=15, headers=requests(100, 0, 15.0))
    assert pace.wait_s(0, now_s=15) == pytest.approx(15.0)
    assert pace.wait_s(0, now_s=29) == pytest.approx(1.0)
    assert pace.may_start(0, now_s=30)


def tokens_left(remaining: int) -> RateHeaders:
    """1000 a minute."""
    return RateHeaders(limit_tokens=1000, remaining_tokens=remaining, reset_tokens_s=(1000 - remaining) * 0.06)


def level(pace: Pace, *, now_s: float) -> float:
    """What the pace thinks is left of 1000 tokens a minute, told by how long a call must wait that needs all."""
    wait_s = pace.wait_s(1000, now_s=now_s)
    assert wait_s is not None
    return 1000 * (1 - wait_s / 60)


def test_calls_in_flight_are_not_counted_twice() -> None:
    """Seven calls leave together; their replies, in the wrong order, repeat what we already know."""
    pace = told(tokens_left(500))
    calls = [pace.start(10, now_s=0.0) for _ in range(7)]
    assert level(pace, now_s=0.0) == pytest.approx(430)
    for place, call in reversed(list(enumerate(calls, start=1))):
        pace.end(call, Ending.ANSWERED, now_s=0.0, headers=tokens_left(500 - 10 * place))
    assert level(pace, now_s=0.0) == pytest.approx(430)


def test_a_late_reply_is_compared_with_its_own_start() -> None:
    """Its call took 20 s, in which 20 others took 200 tokens and 333 came back."""
    pace = told(tokens_left(500))
    slow = pace.start(10, now_s=0.0)
    for _ in range(20):
        pace.end(pace.start(10, now_s=0.0), Ending.OTHER, now_s=0.0)
    pace.end(slow, Ending.ANSWERED, now_s=20.0, headers=tokens_left(490))
    assert level(pace, now_s=20.0) == pytest.approx(500 - 210 + 1000 / 3)


def test_what_others_take_is_seen_in_the_headers() -> None:
    pace = told(requests(1000, 900, 6.0))
    pace.end(pace.start(0, now_s=0.0), Ending.ANSWERED, now_s=0.0, headers=requests(1000, 10, 59.4))
    assert not pace.may_start(0, now_s=0.0)


def test_tokens_are_respected_by_estimate() -> None:
    pace = told(RateHeaders(limit_tokens=6000, remaining_tokens=3000, reset_tokens_s=30.0))
    assert pace.may_start(2700, now_s=0.0)
    assert not pace.may_start(2800, now_s=0.0)
    pace.start(2000, now_s=0.0)
    assert not pace.may_start(1000, now_s=0.0)
    assert pace.may_start(0, now_s=0.0)
    assert pace.wait_s(1760, now_s=0.0) == pytest.approx(10.0)


@pytest.mark.parametrize(("used", "fits"), [(50, True), (100, False), (200, False)])
def test_estimates_are_corrected_by_true_usage(used: int, fits: bool) -> None:
    """After many calls of 100 estimated tokens we know what 2700 estimated ones will be."""
    pace = told(RateHeaders(limit_tokens=6000))
    for second in range(1, 60):
        pace.end(pace.start(100, now_s=2.0 * second), Ending.ANSWERED, now_s=2.0 * second, used_tokens=used)
    pace.start(3000, now_s=1000.0)
    assert pace.may_start(2800, now_s=1000.0) == fits


def test_a_call_larger_than_the_whole_limit_starts_when_the_bucket_is_full() -> None:
    pace = told(RateHeaders(limit_tokens=1000, remaining_tokens=500, reset_tokens_s=30.0))
    assert pace.wait_s(5000, now_s=0.0) == pytest.approx(30.0)
    assert pace.may_start(5000, now_s=30.0)
    pace.start(5000, now_s=30.0)
    assert pace.wait_s(5000, now_s=30.0) == pytest.approx(120.0)


def test_a_lower_limit_takes_effect_and_old_replies_do_not_bring_the_old_one_back() -> None:
    pace = told(requests(5000, 4000, 12.0))
    old = pace.start(0, now_s=0.0)
    new = pace.start(0, now_s=0.0)
    pace.end(new, Ending.ANSWERED, now_s=1.0, headers=requests(50, 25, 30.0))
    pace.end(old, Ending.ANSWERED, now_s=2.0, headers=requests(5000, 3999, 12.0))
    assert pace.requests_per_minute == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(
    "headers",
    [
        requests(0, 0, 60.0),
        requests(-5, 3, 60.0),
        RateHeaders(remaining_requests=0, reset_requests_s=60.0),
        RateHeaders(remaining_tokens=0),
        requests(100, 500, 60.0),
        requests(100, -1, -1.0),
        requests(100, None, math.nan),
        requests(100, 100, math.inf),
    ],
)
def test_headers_that_make_no_sense_hold_nothing_up(headers: RateHeaders) -> None:
    """No limit of zero, no more left than there is, nothing negative."""
    assert told(headers).may_start(TOKENS, now_s=0.0)


# Servers that say nothing


def rate(pace: Pace) -> float | None:
    return pace.requests_per_minute


def test_without_headers_a_refusal_teaches_a_rate() -> None:
    """Ten a second were answered; the next try is slower than that, and speeds up while nothing is refused."""
    pace = Pace(ceiling=1000)
    for tenth in range(100):
        pace.end(pace.start(0, now_s=tenth / 10), Ending.ANSWERED, now_s=tenth / 10)
    assert rate(pace) is None
    pace.end(pace.start(0, now_s=10.0), Ending.RATE_LIMITED, now_s=10.0)
    learnt = rate(pace)
    assert learnt is not None
    assert learnt == pytest.approx(0.85 * 600, rel=0.02)
    now_s = 10.0
    while now_s < 70:
        now_s += pace.wait_s(0, now_s=now_s) or 0.0
        pace.end(pace.start(0, now_s=now_s), Ending.ANSWERED, now_s=now_s)
    assert 1.3 * learnt < (rate(pace) or 0) < 2 * learnt


def test_a_rate_that_is_not_used_up_does_not_rise() -> None:
    pace = Pace(ceiling=1000)
    for second in range(100):
        ending = Ending.ANSWERED if second < 99 else Ending.RATE_LIMITED
        pace.end(pace.start(0, now_s=second), ending, now_s=second)
    learnt = rate(pace)
    for second in range(110, 1000, 5):
        pace.end(pace.start(0, now_s=second), Ending.ANSWERED, now_s=second)
    assert learnt is not None
    assert learnt == pytest.approx(51, rel=0.05)
    assert rate(pace) == pytest.approx(learnt, rel=0.02)


def test_a_refusal_that_headers_explain_teaches_no_other_rate() -> None:
    pace = told(requests(600, 300, 30.0))
    pace.end(pace.start(0, now_s=0), Ending.RATE_LIMITED, now_s=0, headers=requests(600, 0, 60.0))
    assert 400 < (rate(pace) or 0) <= 600


# Whatever happens


def test_a_start_that_was_not_allowed_is_our_own_fault() -> None:
    pace = Pace(ceiling=1)
    pace.start(0, now_s=0)
    with pytest.raises(InternalError):
        pace.start(0, now_s=0)


def test_the_second_end_of_a_call_says_nothing() -> None:
    pace = Pace(ceiling=8)
    call = pace.start(0, now_s=0)
    pace.end(call, Ending.ANSWERED, now_s=1)
    pace.end(call, Ending.RATE_LIMITED, now_s=1)
    assert (pace.in_flight, pace.window) == (0, 8)


def test_a_clock_that_steps_back_prolongs_no_wait() -> None:
    pace = Pace(ceiling=8)
    pace.end(pace.start(0, now_s=1000), Ending.OTHER, now_s=1000, retry_after_s=10)
    assert pace.wait_s(0, now_s=5) == pytest.approx(10.0)
    assert pace.may_start(0, now_s=15)


numbers = st.one_of(st.none(), st.integers(-5, 300), st.integers(0, 10**7))
resets = st.one_of(st.none(), st.floats(-1, 200), st.sampled_from([0.0, 1e-9, 90000.0, math.inf, math.nan]))
all_headers = st.one_of(st.none(), st.builds(RateHeaders, numbers, numbers, resets, numbers, numbers, resets))
steps = st.lists(
    st.tuples(
        st.floats(-5, 100),  # how the clock moves
        st.integers(0, 12),  # how many calls we would like to start
        st.integers(0, 5000),  # of so many tokens
        st.lists(st.tuples(st.integers(0, 50), st.sampled_from(Ending), all_headers, resets), max_size=6),
        numbers,
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(ceiling=st.integers(1, 40), story=steps)
def test_the_promises_hold_in_any_story(
    ceiling: int,
    story: list[tuple[float, int, int, list[tuple[int, Ending, RateHeaders | None, float | None]], int | None]],
) -> None:
    """Never more than the ceiling in flight; a call may start after the wait that was said; there is always a way on."""
    pace, now_s, flying = Pace(ceiling=ceiling), 0.0, list[Call]()
    for moves_s, wanted, tokens, ends, used in story:
        now_s += moves_s
        flying += [pace.start(tokens, now_s=now_s) for _ in range(wanted) if pace.may_start(tokens, now_s=now_s)]
        assert pace.in_flight == len(flying) <= ceiling
        assert 1 <= pace.window <= ceiling
        for place, ending, headers, retry_after_s in ends:
            if flying:
                call = flying.pop(place % len(flying))
                pace.end(call, ending, now_s=now_s, used_tokens=used, headers=headers, retry_after_s=retry_after_s)
        wait_s = pace.wait_s(tokens, now_s=now_s)
        assert (wait_s == 0.0) == pace.may_start(tokens, now_s=now_s)
        assert (wait_s is None) == (pace.in_flight >= pace.window)
        if wait_s is not None:
            assert 0.0 <= wait_s < math.inf
            now_s += wait_s + 1e-6
            assert pace.may_start(tokens, now_s=now_s)
