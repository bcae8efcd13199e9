"""Limits as the engine counts them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.limits import BatchLimits, Measure, RemoteLimits, TotalLimits, effective_batch_limit
from gpt_batch_api.domain.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings.from_values(values, environ={})


def test_defaults_in_units_of_the_engine() -> None:
    """MB over 1.01, tokens over 1.05, rounded down; cost in picodollars."""
    plain = settings()
    assert BatchLimits.of(plain) == BatchLimits(
        requests=50_000, size_bytes=99_009_900, input_tokens=19_047_619, cost_pico=50 * 10**12
    )
    assert RemoteLimits.of(plain) == RemoteLimits(
        batches=15,
        requests=5_000_000,
        size_bytes=9_900_990_099,
        input_tokens=57_142_857,
        cost_pico=150 * 10**12,
    )
    assert TotalLimits.of_task(plain) == TotalLimits(
        requests=10_000_000, input_tokens=4_761_904_761, cost_pico=1000 * 10**12
    )
    assert TotalLimits.of_session(plain) == TotalLimits(
        requests=5_000_000, input_tokens=2_380_952_380, cost_pico=500 * 10**12
    )
    assert TotalLimits.of_direct(plain) == TotalLimits(requests=50, input_tokens=476_190, cost_pico=5 * 10**12)


def test_numbers_mean_what_the_user_wrote() -> None:
    """Not what binary fractions make of them: 105 over 1.05 is 100, not 99."""
    exact = settings(max_batch_ktokens=0.105, max_token_safety=1.05, max_batch_mb=1.01, max_batch_cost="0.000000000001")
    assert BatchLimits.of(exact) == BatchLimits(requests=50_000, size_bytes=10**6, input_tokens=100, cost_pico=1)


def test_a_fraction_of_a_picodollar_is_rounded_down() -> None:
    assert BatchLimits.of(settings(max_batch_cost="1.0000000000019")).cost_pico == 10**12 + 1


@pytest.mark.parametrize("measure", ["requests", "mb", "ktokens", "cost"])
def test_a_batch_limit_shrinks_to_what_may_be_on_the_server(measure: Measure) -> None:
    """One below, at, one above; and at 0, where nothing is sent, the batches keep their size."""
    default = settings().value(f"max_batch_{measure}")
    for remote, expected in [(default - 1, default - 1), (default, default), (default + 1, default), (0, default)]:
        assert effective_batch_limit(settings(**{f"max_remote_{measure}": remote}), measure) == expected


def test_a_given_batch_limit_is_bounded_by_a_default_on_the_server() -> None:
    assert effective_batch_limit(settings(max_batch_cost=200), "cost") == 150


def test_both_limits_are_divided_alike() -> None:
    """So that a full batch fits exactly."""
    both = settings(max_batch_ktokens=90, max_remote_ktokens=90, max_batch_mb=7, max_remote_mb=7)
    assert BatchLimits.of(both).input_tokens == RemoteLimits.of(both).input_tokens == 85_714
    assert BatchLimits.of(both).size_bytes == RemoteLimits.of(both).size_bytes == 6_930_693


@given(
    ktokens=st.decimals(min_value="0.001", max_value=10**9, places=3),
    safety=st.decimals(min_value=1, max_value=10, places=2),
)
def test_a_safety_factor_never_lets_more_through(ktokens: Any, safety: Any) -> None:
    """The limit is the greatest whole number that, times the factor, is no more than the user's."""
    limit = TotalLimits.of_task(settings(max_task_ktokens=ktokens, max_token_safety=safety)).input_tokens
    assert limit == Fraction(ktokens) * 1000 // Fraction(safety)
