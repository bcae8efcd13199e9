"""Grouping requests into batches: examples at every limit, and what must hold for any queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.limits import BatchLimits
from gpt_batch_api.domain.request import Load
from gpt_batch_api.planning.batching import LIMIT_SETTINGS, Fill, Weighed, fill, fills_a_batch, passed_limit

WIDE = BatchLimits(requests=1000, size_bytes=1000, input_tokens=1000, cost_pico=1000)
MEASURES = sorted(LIMIT_SETTINGS)

amounts = st.integers(0, 12)
loads = st.builds(
    Load, requests=st.just(1), size_bytes=amounts, input_tokens=amounts, output_allowance=amounts, cost_pico=amounts
)
queues = st.lists(loads, max_size=25).map(
    lambda found: [Weighed(100 + place, load) for place, load in enumerate(found)]
)
most = st.integers(1, 30)
limits_ = st.builds(BatchLimits, requests=st.integers(1, 8), size_bytes=most, input_tokens=most, cost_pico=most)


def one(number: int = 0, **weights: int) -> Weighed:
    return Weighed(number, Load(requests=1, **weights))


def total(requests: list[Weighed]) -> Load:
    return reduce(add, (request.load for request in requests), Load())


@dataclass(frozen=True)
class Packed:
    """A whole queue, packed as the engine does it."""

    fills: list[Fill]
    refused: list[Weighed]


def pack(queue: list[Weighed], limits: BatchLimits) -> Packed:
    """Fill batches from the front until nothing is left; a request that fits into none is put aside."""
    packed = Packed([], [])
    while queue:
        found = fill(queue, limits)
        if found.too_heavy:
            packed.refused.append(queue[0])
            queue = queue[1:]
        else:
            packed.fills.append(found)
            queue = queue[len(found.ids) :]
    return packed


class TestAnyQueue:
    """What must hold whatever is queued and whatever the limits are."""

    @given(queue=queues, limits=limits_)
    def test_nothing_is_lost_doubled_or_reordered(self, queue: list[Weighed], limits: BatchLimits) -> None:
        packed = pack(queue, limits)
        refused = {request.id for request in packed.refused}
        assert [id for fill in packed.fills for id in fill.ids] == [
            request.id for request in queue if request.id not in refused
        ]

    @given(queue=queues, limits=limits_)
    def test_no_batch_passes_a_limit(self, queue: list[Weighed], limits: BatchLimits) -> None:
        for batch in pack(queue, limits).fills:
            for measure in MEASURES:
                assert getattr(batch.load, measure) <= getattr(limits, measure)

    @given(queue=queues, limits=limits_)
    def test_the_load_is_the_sum_of_what_is_in_the_batch(self, queue: list[Weighed], limits: BatchLimits) -> None:
        by_id = {request.id: request for request in queue}
        for batch in pack(queue, limits).fills:
            assert batch.load == total([by_id[id] for id in batch.ids])

    @given(queue=queues, limits=limits_)
    def test_a_batch_is_full_exactly_if_the_next_request_would_pass_a_limit(
        self, queue: list[Weighed], limits: BatchLimits
    ) -> None:
        """So every batch but the last is full, and `full` names a measure that the next one would pass."""
        batch = fill(queue, limits)
        taken, rest = queue[: len(batch.ids)], queue[len(batch.ids) :]
        if batch.full is None:
            assert not rest
            assert batch.load.requests < limits.requests
        elif rest:
            assert getattr(total([*taken, rest[0]]), batch.full) > getattr(limits, batch.full)
        else:
            assert batch.full == "requests"
            assert batch.load.requests == limits.requests

    @given(queue=queues, limits=limits_)
    def test_a_request_is_too_heavy_exactly_if_it_alone_passes_a_limit(
        self, queue: list[Weighed], limits: BatchLimits
    ) -> None:
        alone = bool(queue) and any(getattr(queue[0].load, measure) > getattr(limits, measure) for measure in MEASURES)
        assert fill(queue, limits).too_heavy == alone

    @given(queue=queues, limits=limits_)
    def test_a_pile_fills_a_batch_exactly_if_filling_says_so(self, queue: list[Weighed], limits: BatchLimits) -> None:
        """The loop asks with the sum of the queue before anything is read one by one."""
        assert fills_a_batch(total(queue), limits) == (fill(queue, limits).full is not None)

    @given(queue=queues, limits=limits_)
    def test_filling_reads_no_further_than_the_request_that_does_not_fit(
        self, queue: list[Weighed], limits: BatchLimits
    ) -> None:
        """A queue of millions is not read for one batch."""
        read: list[int] = []

        def reading() -> Iterator[Weighed]:
            for request in queue:
                read.append(request.id)
                yield request

        batch = fill(reading(), limits)
        assert len(read) <= len(batch.ids) + 1
        if batch.full == "requests":
            assert len(read) == len(batch.ids)


class TestAtTheLimit:
    """Each limit may be reached, and not passed."""

    @pytest.mark.parametrize("measure", [measure for measure in MEASURES if measure != "requests"])
    @pytest.mark.parametrize(("second", "taken"), [(399, 2), (400, 2), (401, 1)])
    def test_the_last_request_may_reach_a_limit(self, measure: str, second: int, taken: int) -> None:
        queue = [one(1, **{measure: 600}), one(2, **{measure: second})]
        batch = fill(queue, WIDE)
        assert batch.ids == (1, 2)[:taken]
        assert batch.full == (None if taken == 2 else measure)

    @pytest.mark.parametrize("measure", [measure for measure in MEASURES if measure != "requests"])
    @pytest.mark.parametrize(("weight", "too_heavy"), [(999, False), (1000, False), (1001, True)])
    def test_a_request_may_be_as_heavy_as_a_whole_batch(self, measure: str, weight: int, too_heavy: bool) -> None:
        batch = fill([one(1, **{measure: weight})], WIDE)
        assert batch.too_heavy == too_heavy
        assert batch.full == (measure if too_heavy else None)
        assert batch.ids == (() if too_heavy else (1,))

    @pytest.mark.parametrize(("queued", "taken", "full"), [(2, 2, None), (3, 3, "requests"), (4, 3, "requests")])
    def test_a_batch_has_at_most_so_many_requests(self, queued: int, taken: int, full: str | None) -> None:
        """It is full as soon as it has all of them: nothing more could join."""
        batch = fill([one(number) for number in range(queued)], replace(WIDE, requests=3))
        assert len(batch.ids) == taken
        assert batch.full == full

    def test_an_empty_queue_makes_an_empty_batch(self) -> None:
        assert fill([], WIDE) == Fill((), Load(), None)

    def test_the_output_allowance_is_not_limited(self) -> None:
        """Output counts only through the cost."""
        assert fill([one(1, output_allowance=10**12)], WIDE).ids == (1,)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize(("amount", "passed"), [(999, False), (1000, False), (1001, True)])
    def test_a_passed_limit_is_named(self, measure: str, amount: int, passed: bool) -> None:
        assert passed_limit(Load(**{measure: amount}), WIDE) == (measure if passed else None)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("amount", [999, 1000, 1001])
    def test_a_pile_fills_a_batch_when_nothing_more_can_join_for_sure(self, measure: str, amount: int) -> None:
        """At the limit of requests nothing can join; at any other one a light request still might."""
        full_at = 1000 if measure == "requests" else 1001
        assert fills_a_batch(Load(**{measure: amount}), WIDE) == (amount >= full_at)


def test_every_limit_of_a_batch_has_its_setting() -> None:
    """An error about a request names the setting to raise."""
    assert set(LIMIT_SETTINGS) == {field.name for field in fields(BatchLimits)}
    assert all(setting.startswith("max_batch_") for setting in LIMIT_SETTINGS.values())
