"""What responses cost, against sums done by hand and against what must always hold."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.data import load_prices
from gpt_batch_api.domain.outcome import Road, Usage
from gpt_batch_api.pricing.catalogue import Catalogue, ModelPrices, PriceFlags
from gpt_batch_api.pricing.cost import cost_pico, expected_cost_pico, worst_cost_pico

CATALOGUE = Catalogue.load()
LIMIT = 272_000

models = st.sampled_from(sorted(load_prices()["models"]))
roads = st.sampled_from(list(Road))
counts = st.integers(0, 2_000_000)


@st.composite
def usages(draw: st.DrawFn, most_input: int = 600_000) -> Usage:
    """Usage as an honest server reports it: details within their totals."""
    total = draw(st.integers(0, most_input))
    cached = draw(st.integers(0, total))
    written = draw(st.integers(0, total - cached))
    return Usage(total, cached, written, draw(st.integers(0, 200_000)))


def cost(model: str, road: Road, **tokens: int) -> int:
    usage = Usage(**{f"{kind}_tokens": count for kind, count in tokens.items()})
    return cost_pico(usage, CATALOGUE.prices(model), road=road)


class TestByHand:
    """Dollars worked out on paper."""

    @pytest.mark.parametrize(
        ("model", "road", "tokens", "dollars"),
        [
            # 1,000,000 × 0.15 + 1,000,000 × 0.60
            ("gpt-4o-mini", Road.DIRECT, {"input": 10**6, "output": 10**6}, "0.75"),
            ("gpt-4o-mini", Road.BATCH, {"input": 10**6, "output": 10**6}, "0.375"),
            ("gpt-4o-mini", Road.FLEX, {"input": 10**6, "output": 10**6}, "0.375"),
            # cached: 500,000 × 0.15 + 500,000 × 0.075; in a batch, cached costs what plain does
            ("gpt-4o-mini", Road.DIRECT, {"input": 10**6, "cached": 500_000}, "0.1125"),
            ("gpt-4o-mini", Road.BATCH, {"input": 10**6, "cached": 500_000}, "0.075"),
            # 86 × 2.50 + 1,920 × 1.25 + 300 × 10 = 5,615 per million
            ("gpt-4o", Road.DIRECT, {"input": 2006, "cached": 1920, "output": 300, "reasoning": 128}, "0.005615"),
            # 2,006 × 1.25 + 300 × 5 = 4,007.5
            ("gpt-4o", Road.BATCH, {"input": 2006, "cached": 1920, "output": 300}, "0.0040075"),
            # 86 × 0.625 + 1,920 × 0.0625 + 300 × 5 = 1,673.75
            ("gpt-5", Road.BATCH, {"input": 2006, "cached": 1920, "output": 300}, "0.00167375"),
            # 500 × 0.025 + 1,000 × 0.0025 + 500 × 0.2 = 115
            ("gpt-5-nano", Road.BATCH, {"input": 1500, "cached": 1000, "output": 500}, "0.000115"),
            # o3 direct: 10 × 2 + 90 × 0.5 + 5 × 8 = 105; batch: 100 × 1 + 5 × 4 = 120
            ("o3", Road.DIRECT, {"input": 100, "cached": 90, "output": 5}, "0.000105"),
            ("o3", Road.BATCH, {"input": 100, "cached": 90, "output": 5}, "0.00012"),
            # cache writes before 5.6 are plain input: 1,000 × 5
            ("gpt-5.5", Road.DIRECT, {"input": 1000, "cache_write": 1000}, "0.005"),
            # from 5.6 on 1.25 times: 300 × 4 + 200 × 0.4 + 500 × 5 + 10 × 20 = 3,980
            (
                "gpt-5.6-sol",
                Road.DIRECT,
                {"input": 1000, "cached": 200, "cache_write": 500, "output": 10},
                "0.00398",
            ),
            ("gpt-5.6-sol", Road.BATCH, {"input": 1000, "cached": 200, "cache_write": 500, "output": 10}, "0.00199"),
            # 6.1: 1,000 × 2 + 9,000 × 0.1 + 400 × 10 = 6,900
            ("gpt-6.1-sol", Road.DIRECT, {"input": 10_000, "cached": 9000, "output": 400}, "0.0069"),
            # at the limit: 272,000 × 0.1 + 1,000 × 0.5 = 27,700
            ("gpt-6-luna", Road.DIRECT, {"input": 272_000, "output": 1000}, "0.0277"),
            # one above: 272,001 × 0.2 + 1,000 × 0.75 = 55,150.2
            ("gpt-6-luna", Road.DIRECT, {"input": 272_001, "output": 1000}, "0.0551502"),
            # in a batch: 272,001 × 0.1 + 1,000 × 0.375 = 27,575.1
            ("gpt-6-luna", Road.BATCH, {"input": 272_001, "output": 1000}, "0.0275751"),
            ("gpt-6-luna", Road.FLEX, {"input": 272_001, "output": 1000}, "0.0275751"),
            # long, all kinds: (100,000 × 10 + 200,000 × 1 + 100,000 × 12.5) × 2 + 1,000 × 75 = 4,975,000
            (
                "gpt-6-astra",
                Road.DIRECT,
                {"input": 400_000, "cached": 200_000, "cache_write": 100_000, "output": 1000},
                "4.975",
            ),
            # not a long-context model: 300,000 × 1.75 + 10 × 14
            ("gpt-5.2", Road.DIRECT, {"input": 300_000, "output": 10}, "0.52514"),
            ("gpt-4.1", Road.BATCH, {"input": 900_000}, "0.9"),
        ],
    )
    def test_the_sum_is_right(self, model: str, road: Road, tokens: dict[str, int], dollars: str) -> None:
        """To the picodollar."""
        assert cost(model, road, **tokens) == Decimal(dollars).scaleb(12)

    def test_nothing_costs_nothing(self) -> None:
        """An answer without usage."""
        assert cost("gpt-6-astra", Road.DIRECT) == 0

    def test_reasoning_is_part_of_the_output(self) -> None:
        """It is not charged twice."""
        assert cost("o3", Road.BATCH, output=100, reasoning=90) == cost("o3", Road.BATCH, output=100)


class TestStep:
    """The long-context step, at its limit and on either side."""

    @pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5.5", "gpt-5.6-luna", "gpt-6-sol", "gpt-6.1-terra"])
    @pytest.mark.parametrize("road", Road)
    def test_it_comes_after_the_limit(self, model: str, road: Road) -> None:
        """272,000 tokens are normal, 272,001 cost double, and so do those below."""
        token = cost(model, road, input=1)
        assert cost(model, road, input=LIMIT - 1) == (LIMIT - 1) * token
        assert cost(model, road, input=LIMIT) == LIMIT * token
        assert cost(model, road, input=LIMIT + 1) == 2 * (LIMIT + 1) * token

    @pytest.mark.parametrize("kind", ["cached", "cache_write"])
    def test_every_kind_of_input_counts_and_is_doubled(self, kind: str) -> None:
        """Cached and written tokens fill the context as well."""
        token = cost("gpt-6-sol", Road.BATCH, input=1, **{kind: 1})
        assert cost("gpt-6-sol", Road.BATCH, input=LIMIT, **{kind: LIMIT}) == LIMIT * token
        assert cost("gpt-6-sol", Road.BATCH, input=LIMIT + 1, **{kind: LIMIT + 1}) == 2 * (LIMIT + 1) * token

    def test_output_is_no_part_of_the_limit_but_pays_for_it(self) -> None:
        """Half as much again, from the first token on."""
        short = cost("gpt-6-sol", Road.DIRECT, output=500_000)
        assert short == 500_000 * 10_000_000
        long = cost("gpt-6-sol", Road.DIRECT, input=LIMIT + 1, output=500_000)
        assert long - cost("gpt-6-sol", Road.DIRECT, input=LIMIT + 1) == short * 3 // 2

    def test_a_fraction_of_a_picodollar_is_rounded_up_once(self) -> None:
        """Odd prices by the factor of 1.5: 1.5 becomes 2, but 3 × 1.5 becomes 5 and not 6."""
        flags = PriceFlags(input_batch=Decimal(0), output_batch=Decimal("0.000001"))
        prices = Catalogue.load(flags=flags).prices("gpt-6-sol")
        costs = [cost_pico(Usage(LIMIT + 1, 0, 0, out), prices, road=Road.BATCH) for out in range(5)]
        assert costs == [0, 2, 3, 5, 6]


class TestNonsense:
    """Servers that contradict themselves."""

    def test_more_cached_than_input(self) -> None:
        """The details are charged as they are told; plain input is none, not less than none."""
        assert cost("gpt-4o", Road.DIRECT, input=10, cached=30) == 30 * 1_250_000

    def test_details_together_exceed_the_input(self) -> None:
        """Each fits, the sum does not."""
        assert cost("gpt-5.6-sol", Road.DIRECT, input=10, cached=8, cache_write=8) == 8 * 400_000 + 8 * 5_000_000

    @pytest.mark.parametrize("kind", ["input", "cached", "cache_write", "output"])
    def test_counts_below_zero_are_none(self, kind: str) -> None:
        """They must not pay for the rest."""
        counted = {"input": 100, "output": 10}
        expected = cost("gpt-4o", Road.DIRECT, **(counted | {kind: 0}))
        assert cost("gpt-4o", Road.DIRECT, **(counted | {kind: -5})) == expected


class TestAlways:
    """What holds for every model, road and usage."""

    @given(models, roads, usages(LIMIT // 2), usages(LIMIT // 2))
    def test_up_to_the_step_the_parts_cost_what_the_whole_costs(
        self, model: str, road: Road, one: Usage, other: Usage
    ) -> None:
        """So sums over requests agree with the sums of their tokens."""
        prices = CATALOGUE.prices(model)
        parts = cost_pico(one, prices, road=road) + cost_pico(other, prices, road=road)
        assert cost_pico(one + other, prices, road=road) == parts

    @given(models, roads, usages(), st.integers(0, 300_000), st.sampled_from(["plain", "cached", "written", "output"]))
    def test_more_tokens_never_cost_less(self, model: str, road: Road, usage: Usage, more: int, kind: str) -> None:
        """Whatever kind of token is added, also across the step."""
        added = {
            "plain": Usage(input_tokens=more),
            "cached": Usage(input_tokens=more, cached_tokens=more),
            "written": Usage(input_tokens=more, cache_write_tokens=more),
            "output": Usage(output_tokens=more),
        }[kind]
        prices = CATALOGUE.prices(model)
        assert cost_pico(usage + added, prices, road=road) >= cost_pico(usage, prices, road=road)

    @given(models, roads, st.tuples(*[st.integers(-(10**6), 10**6)] * 5))
    def test_a_cost_is_never_negative(self, model: str, road: Road, numbers: tuple[int, int, int, int, int]) -> None:
        """Whatever a server reports."""
        assert cost_pico(Usage(*numbers), CATALOGUE.prices(model), road=road) >= 0

    @given(models, usages())
    def test_batch_and_flex_never_cost_more_than_direct(self, model: str, usage: Usage) -> None:
        """Unless much is cached in an old family, where a batch charges it in full."""
        prices = CATALOGUE.prices(model)
        direct = cost_pico(usage, prices, road=Road.DIRECT)
        assert cost_pico(usage, prices, road=Road.FLEX) <= direct
        uncached = replace(usage, cached_tokens=0)
        assert 2 * cost_pico(uncached, prices, road=Road.BATCH) == cost_pico(uncached, prices, road=Road.DIRECT)

    @given(models, roads, usages())
    def test_the_rational_sum_is_met_within_a_picodollar(self, model: str, road: Road, usage: Usage) -> None:
        """Rounding takes less than one picodollar, upwards."""
        exact = _exact_cost(usage, CATALOGUE.prices(model), road)
        assert 0 <= cost_pico(usage, CATALOGUE.prices(model), road=road) - exact < 1


class TestBeforehand:
    """What is reserved for a request."""

    @given(models, roads, counts, counts)
    def test_the_expected_cost_is_that_of_an_answer_without_cache(
        self, model: str, road: Road, tokens: int, output: int
    ) -> None:
        """One rule for both, the step included."""
        prices = CATALOGUE.prices(model)
        expected = expected_cost_pico(input_tokens=tokens, output_tokens=output, prices=prices, road=road)
        assert expected == cost_pico(Usage(input_tokens=tokens, output_tokens=output), prices, road=road)

    @given(models, roads, usages(), st.integers(0, 5), st.integers(0, 5))
    def test_no_answer_costs_more_than_the_worst_case(
        self, model: str, road: Road, usage: Usage, spare_in: int, spare_out: int
    ) -> None:
        """With at most so many tokens, however the cache is used."""
        prices = CATALOGUE.prices(model)
        worst = worst_cost_pico(
            input_tokens=usage.input_tokens + spare_in,
            output_tokens=usage.output_tokens + spare_out,
            prices=prices,
            road=road,
        )
        assert cost_pico(usage, prices, road=road) <= worst

    @pytest.mark.parametrize(
        ("model", "expected", "worst"),
        [
            # 100,000 × 2.5 + 10,000 × 15; cache writes are not charged
            ("gpt-5.5", "0.4", "0.4"),
            # 100,000 × 5 + 10,000 × 25; cache writes: 100,000 × 6.25
            ("gpt-6-astra", "0.75", "0.875"),
            # 100,000 × 1.25 + 10,000 × 5; cached input costs the same
            ("gpt-4o", "0.175", "0.175"),
        ],
    )
    def test_the_worst_case_adds_what_cache_writes_can_add(self, model: str, expected: str, worst: str) -> None:
        """And nothing else."""
        prices = CATALOGUE.prices(model)
        for estimate, dollars in ((expected_cost_pico, expected), (worst_cost_pico, worst)):
            pico = estimate(input_tokens=100_000, output_tokens=10_000, prices=prices, road=Road.BATCH)
            assert pico == Decimal(dollars).scaleb(12)

    def test_a_cached_price_above_the_input_price_is_the_worst_case(self) -> None:
        """Odd settings are no way past a limit."""
        prices = Catalogue.load(flags=PriceFlags(input_cached=Decimal(9))).prices("gpt-4o")
        worst = worst_cost_pico(input_tokens=10, output_tokens=0, prices=prices, road=Road.DIRECT)
        assert worst == 90_000_000

    def test_counts_below_zero_are_none(self) -> None:
        """Beforehand as afterwards."""
        prices = CATALOGUE.prices("gpt-4o")
        for estimate in (expected_cost_pico, worst_cost_pico):
            assert estimate(input_tokens=-1, output_tokens=-1, prices=prices, road=Road.BATCH) == 0


def _exact_cost(usage: Usage, prices: ModelPrices, road: Road) -> Fraction:
    """The same sum in plain fractions."""
    rates = prices.rates(road)
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    long = prices.long_context_above is not None and usage.input_tokens > prices.long_context_above
    into = (
        plain * rates.input_pico
        + usage.cached_tokens * rates.cached_pico
        + usage.cache_write_tokens * rates.cache_write_pico
    )
    out = usage.output_tokens * rates.output_pico
    return Fraction(into) * (2 if long else 1) + Fraction(out) * (Fraction(3, 2) if long else 1)
