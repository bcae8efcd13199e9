"""What is left is foretold from what is done, with an interval that can be trusted."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.outcome import Road, Usage
from gpt_batch_api.domain.request import Kind
from gpt_batch_api.planning.forecast import (
    Asked,
    FollowUps,
    Interval,
    Known,
    Left,
    Point,
    Rest,
    foretell,
    foretell_sum,
    student_quantile,
)
from gpt_batch_api.pricing.catalogue import Catalogue
from gpt_batch_api.tokens.calibrate import Forecast

KIND = Kind("/v1/chat/completions", "gpt-4o-mini", 100, 100)
LONG = Kind("/v1/chat/completions", "gpt-4o-mini", 1000, 1000)
CATALOGUE = Catalogue.load()
RATES = CATALOGUE.prices("gpt-4o-mini").batch


def rest_of(known: Known, *, ratio: Fraction | None = None) -> Rest:
    return foretell(known, catalogue=CATALOGUE, forecast=Forecast({}, ratio=ratio))


def done(*outputs: int, kind: Kind = KIND, input_tokens: int = 50, first_sample: int = 0) -> list[Asked]:
    """One finished request a sample, each answered at the first try."""
    return [
        Asked(sample, kind, input_tokens, (Usage(input_tokens, output_tokens=output),))
        for sample, output in enumerate(outputs, start=first_sample)
    ]


class TestTheSum:
    @pytest.mark.parametrize(
        "draw",
        [
            lambda chance: (50, chance.gauss(40, 5)),
            lambda chance: (50, chance.lognormvariate(3, 0.8)),
            lambda chance: (50, 1000.0 if chance.random() < 0.05 else 30.0),
            lambda chance: ((x := chance.uniform(10, 500)), 3 * x + chance.gauss(0, 40)),
            lambda chance: (50, 80.0 if chance.random() < 0.01 else 40.0),
        ],
        ids=["even", "skewed", "few very long", "longer with the input", "hardly ever asked again"],
    )
    def test_the_interval_holds_the_truth_as_often_as_it_says(
        self, draw: Callable[[random.Random], tuple[float, float]]
    ) -> None:
        """200 of 5,000 are done, a hundred times."""
        held = 0
        for seed in range(100):
            chance = random.Random(seed)
            drawn = [draw(chance) for _ in range(5000)]
            points = [Point(number, x, y) for number, (x, y) in enumerate(drawn[:200])]
            found = foretell_sum(points, count=4800, x_sum=sum(x for x, _ in drawn[200:]))
            held += abs(found.expected - sum(y for _, y in drawn[200:])) <= found.margin
        assert held >= 95

    def test_answers_that_belong_together_do_not_count_as_many(self) -> None:
        """Ten requests of each sample are all short or all long: that is 20 draws, not 200."""
        held = 0
        for seed in range(100):
            chance = random.Random(seed)
            lengths = [chance.choice((10, 200)) for _ in range(500)]
            points = [Point(number // 10, 0, lengths[number // 10]) for number in range(200)]
            found = foretell_sum(points, count=4800, x_sum=0)
            held += abs(found.expected - 10 * sum(lengths[20:])) <= found.margin
        assert held >= 95

    def test_inputs_unlike_those_that_are_done_widen_the_interval(self) -> None:
        """The line is sure where it was seen."""
        chance = random.Random(1)
        points = [Point(number, x := chance.uniform(90, 110), 2 * x + chance.gauss(0, 9)) for number in range(100)]
        near = foretell_sum(points, count=1000, x_sum=100_000)
        far = foretell_sum(points, count=1000, x_sum=1_000_000)
        assert far.margin > 5 * near.margin
        assert near.expected == pytest.approx(200_000, rel=0.05)

    def test_what_is_known_of_the_input_need_not_be_learnt(self) -> None:
        """Ten finished ones are too few for a slope, but input is billed as it is."""
        points = [Point(number, 10 * number, 10 * number + 7) for number in range(10)]
        found = foretell_sum(points, count=10, x_sum=5000, known_slope=1)
        assert found.expected == pytest.approx(5070)

    @pytest.mark.parametrize(
        ("freedom", "quantile"), [(5, 4.0321), (9, 3.2498), (29, 2.7564), (199, 2.6008), (10**6, 2.5758)]
    )
    def test_students_quantile_is_right_to_a_percent(self, freedom: int, quantile: float) -> None:
        assert student_quantile(0.995, freedom) == pytest.approx(quantile, rel=0.01)


class TestTheRest:
    def test_nothing_left_costs_nothing(self) -> None:
        rest = rest_of(Known(done(*[40] * 20), []))
        assert (rest.requests, rest.output_tokens, rest.cost_pico[Road.BATCH]) == (0, Interval(), Interval())

    def test_of_an_unknown_kind_it_is_between_no_output_and_the_maximum(self) -> None:
        """Input is known all the same; what is expected is the assumed share."""
        rest = rest_of(Known([], [Left(KIND, 10, 500)]), ratio=Fraction(1, 4))
        assert rest.output_tokens == Interval(0, 250, 1000)
        assert rest.input_tokens == Interval(500, 500, 500)
        costs = [500 * RATES.input_pico + output * RATES.output_pico for output in (0, 250, 1000)]
        assert rest.cost_pico[Road.BATCH] == Interval(*costs)
        assert rest.unlearnt == 10

    def test_a_known_kind_is_expected_to_go_on_as_it_did(self) -> None:
        rest = rest_of(Known(done(*[30, 50] * 50), [Left(KIND, 1000, 50_000)]))
        assert rest.output_tokens.expected == 40_000
        assert 36_000 < rest.output_tokens.low < 39_000
        assert rest.cost_pico[Road.BATCH].expected == 50_000 * RATES.input_pico + 40_000 * RATES.output_pico
        assert rest.cost_pico[Road.DIRECT].expected == 2 * rest.cost_pico[Road.BATCH].expected
        assert rest.unlearnt == 0

    def test_kinds_are_foretold_one_by_one(self) -> None:
        known = Known(
            [*done(*[40] * 50), *done(*[700] * 50, kind=LONG, first_sample=50)],
            [Left(KIND, 100, 5000), Left(LONG, 10, 500)],
        )
        assert rest_of(known).output_tokens.expected == 11_000

    def test_tries_that_were_needed_are_expected_again(self) -> None:
        """Every second request was asked twice, and cost twice as much."""
        once, twice = (Usage(50, output_tokens=40),), (Usage(50, output_tokens=40),) * 2
        finished = [Asked(sample, KIND, 50, twice if sample % 2 else once) for sample in range(100)]
        rest = rest_of(Known(finished, [Left(KIND, 1000, 50_000)]))
        assert (rest.tries.expected, rest.output_tokens.expected, rest.input_tokens.expected) == (1500, 60_000, 75_000)

    def test_tries_of_requests_that_are_not_done_count_too(self) -> None:
        """After a pilot, those that must be asked again are open: who sees only the others, sees none of them."""
        again = [Asked(sample, KIND, 50, (Usage(50, output_tokens=40),), final=False) for sample in range(100, 125)]
        rest = rest_of(Known([*done(*[40] * 100), *again], [Left(KIND, 1000, 50_000)]))
        assert (rest.tries.expected, rest.output_tokens.expected, rest.finished) == (1250, 50_000, 100)

    def test_cached_input_makes_the_rest_cheaper(self) -> None:
        """As it did so far, at the prices of each road."""
        finished = [Asked(sample, KIND, 2000, (Usage(2000, 1000, output_tokens=40),)) for sample in range(50)]
        cost = rest_of(Known(finished, [Left(KIND, 100, 200_000)])).cost_pico
        direct = CATALOGUE.prices("gpt-4o-mini").direct
        each = 1000 * direct.input_pico + 1000 * direct.cached_pico + 40 * direct.output_pico
        assert cost[Road.DIRECT].expected == 100 * each
        assert cost[Road.BATCH].expected == 100 * (2000 * RATES.input_pico + 40 * RATES.output_pico)

    def test_follow_ups_that_are_not_asked_yet_are_expected(self) -> None:
        """Every fourth sample had one."""
        finished = [*done(*[40] * 100), *done(*[40] * 25)]
        follow_ups = FollowUps([Left(KIND, 25, 1250)], {sample: sample % 4 == 0 for sample in range(100)}, 400)
        rest = rest_of(Known(finished, [Left(KIND, 400, 20_000)], follow_ups))
        assert rest.follow_ups.expected == 100
        assert rest.follow_ups.low < 80 < 120 < rest.follow_ups.high
        assert rest.output_tokens.expected == 500 * 40

    def test_too_few_samples_tell_nothing_about_follow_ups(self) -> None:
        """That is said, rather than guessed."""
        follow_ups = FollowUps([Left(KIND, 1, 50)], {0: 1}, 400)
        rest = rest_of(Known(done(*[40] * 20), [Left(KIND, 400, 20_000)], follow_ups))
        assert (rest.follow_ups, rest.follow_ups_unknown) == (Interval(), True)

    @given(st.lists(st.integers(0, 100), min_size=10, max_size=60), st.integers(1, 10**6))
    def test_the_ends_lie_around_what_is_expected(self, outputs: list[int], left: int) -> None:
        """And no end is below nothing, or below one try a request."""
        rest = rest_of(Known(done(*outputs), [Left(KIND, left, 50 * left)]))
        for interval in (rest.tries, rest.input_tokens, rest.output_tokens, *rest.cost_pico.values()):
            assert 0 <= interval.low <= interval.expected <= interval.high
        assert rest.tries.low >= left
        assert math.isclose(rest.input_tokens.expected, 50 * left, rel_tol=1e-9, abs_tol=1)
