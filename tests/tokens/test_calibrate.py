"""What answers teach about those to come."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.request import Kind
from gpt_batch_api.tokens.calibrate import MIN_ANSWERS, Forecast, Lengths, bucket_of, most_in, suggest

KIND = Kind("/v1/chat/completions", "gpt-4o-mini", 100, 100, 1)
OTHER = Kind("/v1/chat/completions", "gpt-4o-mini", 400, 400, None)
UNBOUNDED = Kind("/v1/chat/completions", "gpt-4o-mini", None, 2048, None)

lengths = st.lists(st.integers(0, 10**7), min_size=1, max_size=200)


def of(*tokens: int, cut_off: int = 0) -> Lengths:
    return Lengths.of((number, index < cut_off) for index, number in enumerate(tokens))


class TestBuckets:
    @given(st.integers(0, 10**10))
    def test_a_bucket_is_never_too_small_and_at_most_4_4_percent_too_wide(self, tokens: int) -> None:
        """So a quantile is never told too low."""
        most = most_in(bucket_of(tokens))
        assert tokens <= most <= max(64, tokens * 1.0443)

    @given(st.integers(0, 10**9), st.integers(0, 10**9))
    def test_a_longer_answer_is_never_in_a_smaller_bucket(self, one: int, other: int) -> None:
        assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


class TestSums:
    @given(lengths, lengths)
    def test_two_sums_added_are_the_sum_of_all(self, some: list[int], others: list[int]) -> None:
        """In any order: learning batch by batch is learning at once."""
        assert of(*some) + of(*others) == of(*others) + of(*some) == of(*some, *others)

    @given(lengths, st.fractions(0, 1))
    def test_a_quantile_is_reached_by_at_most_the_rest(self, tokens: list[int], share: Fraction) -> None:
        found = of(*tokens).quantile(share)
        assert found <= max(tokens)
        assert sum(number <= found for number in tokens) >= share * len(tokens)


class TestForecast:
    def test_before_anything_is_learnt_half_of_the_maximum_is_assumed(self) -> None:
        forecast = Forecast({})
        assert (forecast.expected(KIND), forecast.reserved(KIND)) == (50, 50)

    @pytest.mark.parametrize(("answers", "expected"), [(MIN_ANSWERS - 1, 50), (MIN_ANSWERS, 10)])
    def test_a_few_answers_teach_nothing(self, answers: int, expected: int) -> None:
        assert Forecast({KIND: of(*[10] * answers)}).expected(KIND) == expected

    def test_the_mean_is_expected_and_a_high_quantile_reserved(self) -> None:
        forecast = Forecast({KIND: of(*range(1, 41))})
        assert (forecast.expected(KIND), forecast.reserved(KIND)) == (21, 39)

    def test_kinds_learn_for_themselves(self) -> None:
        forecast = Forecast({KIND: of(*[10] * 50)})
        assert (forecast.expected(KIND), forecast.expected(OTHER)) == (10, 200)

    def test_a_ratio_that_is_given_wins(self) -> None:
        forecast = Forecast({KIND: of(*[10] * 50)}, ratio=Fraction(1, 4))
        assert (forecast.expected(KIND), forecast.reserved(KIND)) == (25, 25)

    def test_with_a_strict_budget_the_whole_maximum_is_reserved(self) -> None:
        """What is expected is learnt all the same."""
        forecast = Forecast({KIND: of(*[10] * 50)}, reserves_all=True)
        assert (forecast.expected(KIND), forecast.reserved(KIND), forecast.reserved(OTHER)) == (10, 100, 400)

    @given(lengths.map(lambda tokens: tokens * 30), st.sampled_from([KIND, OTHER, UNBOUNDED]))
    def test_what_is_reserved_is_never_more_than_the_maximum(self, tokens: list[int], kind: Kind) -> None:
        """And never less than what is expected, as long as the server keeps to the maximum."""
        bounded = [min(number, kind.output_allowance) if kind.max_output_tokens else number for number in tokens]
        forecast = Forecast({kind: of(*bounded)})
        if kind.max_output_tokens:
            assert forecast.reserved(kind) <= kind.output_allowance
        assert forecast.expected(kind) <= forecast.reserved(kind)

    def test_a_direct_call_reserves_more_than_any_answer_had(self) -> None:
        """Its reservation is what is booked if its reply is lost. Never more than the maximum."""
        forecast = Forecast({KIND: of(*range(1, 41)), OTHER: of(*[390] * 40)})
        assert (forecast.reserved_alone(KIND), forecast.reserved_alone(OTHER)) == (50, 400)
        assert Forecast({}).reserved_alone(KIND) == 50
        assert Forecast({}, reserves_all=True).reserved_alone(KIND) == 100

    def test_the_most_that_any_kind_reserves_is_known(self) -> None:
        """Kinds that may say more than allowed here are left out."""
        forecast = Forecast({KIND: of(*[90] * 50), OTHER: of(*[390] * 50)})
        assert forecast.most_reserved(KIND.endpoint, KIND.model, 100) == 100
        assert forecast.most_reserved(KIND.endpoint, KIND.model, 400) == 400
        assert forecast.most_reserved(KIND.endpoint, "another", 100) == 50

    def test_what_many_reserve_is_learnt_over_all_kinds(self) -> None:
        forecast = Forecast({KIND: of(*[20] * 50), OTHER: of(*[40] * 50)})
        assert forecast.reserved_by_many(KIND.endpoint, KIND.model, 50_000) == 6000
        assert forecast.reserved_by_many(KIND.endpoint, "another", 50_000) == 25_000


class TestAdvice:
    def test_a_maximum_with_room_above_the_longest_answer_is_suggested(self) -> None:
        found = suggest(KIND, of(*[20] * 90, *[40] * 10))
        assert found is not None
        assert (found.max_output_tokens, found.ratio, found.present_ratio) == (60, Fraction(37, 100), Fraction(22, 100))

    def test_after_cut_off_answers_twice_the_maximum_is_suggested(self) -> None:
        """Nobody knows how long they would have been."""
        found = suggest(KIND, of(*[100] * 50, cut_off=3))
        assert found is not None
        assert (found.max_output_tokens, found.ratio) == (200, Fraction(1, 2))

    def test_a_few_answers_are_no_ground_for_advice(self) -> None:
        assert suggest(KIND, of(*[20] * (MIN_ANSWERS - 1))) is None

    def test_the_maximum_is_one_of_each_choice(self) -> None:
        """Four choices of 100 tokens each share one count."""
        found = suggest(Kind("e", "m", 100, 400), of(*[160] * 50))
        assert found is not None
        assert (found.max_output_tokens, found.ratio) == (60, Fraction(67, 100))

    @given(lengths.map(lambda tokens: tokens * 30))
    def test_nothing_seen_would_have_been_cut_off_by_what_is_suggested(self, tokens: list[int]) -> None:
        found = suggest(UNBOUNDED, of(*tokens))
        assert (found is None) == (max(tokens) == 0)
        assert found is None or (found.max_output_tokens >= max(tokens) and 0 < found.ratio <= 1)
