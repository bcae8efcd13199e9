"""Amounts of money, for people."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.pricing.cost import dollars

UNIT = 10**12


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000000001"),
        (12, "$0.000000000012"),
        (124, "$0.00000000012"),
        (12_500, "$0.000000013"),
        (4_200_000_000, "$0.0042"),
        (4_249_999_999, "$0.0042"),
        (4_250_000_000, "$0.0043"),
        (10 * 10**9, "$0.01"),
        (99_400 * 10**6, "$0.099"),
        (99_500 * 10**6, "$0.10"),
        (375 * 10**9, "$0.38"),
        (994_999_999_999, "$0.99"),
        (995 * 10**9, "$1.00"),
        (UNIT, "$1.00"),
        (1_234 * 10**9, "$1.23"),
        (1_235 * 10**9, "$1.24"),
        (50 * UNIT, "$50.00"),
        (999_995 * 10**9, "$1,000.00"),
        (1_234_567 * UNIT, "$1,234,567.00"),
        (10**40, "$10,000,000,000,000,000,000,000,000,000.00"),
        (-1, "-$0.000000000001"),
        (-4_200_000_000, "-$0.0042"),
        (-1_234 * 10**9, "-$1.23"),
    ],
)
def test_amounts_are_written_for_people(pico: int, text: str) -> None:
    """Cents from a dollar on, two digits that count below, never an exponent."""
    assert dollars(pico) == text


@given(st.integers(-(10**24), 10**24))
def test_what_is_written_is_near_the_amount(pico: int) -> None:
    """Within half a cent, or within one part in twenty; only 0 is written as 0; the sign is kept."""
    written = Fraction(dollars(pico).replace("$", "").replace(",", "")) * UNIT
    assert abs(written - pico) <= min(Fraction(UNIT, 200), abs(Fraction(pico, 20)))
    assert (written == 0) == (pico == 0)
    assert "e" not in dollars(pico).lower()
