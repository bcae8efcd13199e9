"""When a deadline makes a job leave the Batch API."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.planning.deadline import GUESSED_CALLS_PER_S, SLACK_S, Hurry, calls_per_s, hurry

seconds = st.floats(0, 1e7)
amounts = st.integers(0, 10**7)
rates = st.floats(0.01, 1e4)


@pytest.mark.parametrize(
    ("left_s", "way"),
    [
        (2 * (60 + SLACK_S) + 1, Hurry.NONE),
        (2 * (60 + SLACK_S), Hurry.FLEX),
        (60 + SLACK_S + 1, Hurry.FLEX),
        (60 + SLACK_S, Hurry.DIRECT),
        (0, Hurry.DIRECT),
        (-5, Hurry.DIRECT),
    ],
)
def test_the_way_changes_exactly_when_the_rest_would_be_too_late(left_s: float, way: Hurry) -> None:
    """600 requests at 10 per second need a minute."""
    assert hurry(left_s=left_s, requests=600, calls_per_s=10) is way


ORDER = [Hurry.NONE, Hurry.FLEX, Hurry.DIRECT]


@given(left_s=seconds, less_s=seconds, requests=amounts, rate=rates)
def test_less_time_never_means_less_hurry(left_s: float, less_s: float, requests: int, rate: float) -> None:
    early = hurry(left_s=left_s, requests=requests, calls_per_s=rate)
    late = hurry(left_s=left_s - less_s, requests=requests, calls_per_s=rate)
    assert ORDER.index(late) >= ORDER.index(early)


@given(left_s=seconds, requests=amounts, more=amounts, rate=rates)
def test_more_work_never_means_less_hurry(left_s: float, requests: int, more: int, rate: float) -> None:
    few = hurry(left_s=left_s, requests=requests, calls_per_s=rate)
    many = hurry(left_s=left_s, requests=requests + more, calls_per_s=rate)
    assert ORDER.index(many) >= ORDER.index(few)


@given(left_s=st.floats(SLACK_S, 1e7), requests=amounts, rate=rates)
def test_as_long_as_batches_go_on_direct_calls_could_still_be_in_time(
    left_s: float, requests: int, rate: float
) -> None:
    if hurry(left_s=left_s, requests=requests, calls_per_s=rate) is not Hurry.DIRECT:
        assert requests / rate + SLACK_S <= left_s


def test_the_rate_that_was_seen_counts_more_than_a_guess() -> None:
    assert calls_per_s(42.0, ceiling=3) == 42.0
    assert calls_per_s(None, ceiling=None) == GUESSED_CALLS_PER_S
    assert calls_per_s(None, ceiling=3) == 0.3
    assert calls_per_s(None, ceiling=500) == GUESSED_CALLS_PER_S
