"""What total limits still leave, and batches cut to fit it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpt_batch_api.domain.limits import BatchLimits, TotalLimits
from gpt_batch_api.domain.request import Load
from gpt_batch_api.planning.batching import Room, Weighed, fill, within

MEASURES = ["requests", "input_tokens", "cost_pico"]
WIDE = BatchLimits(requests=1000, size_bytes=1000, input_tokens=1000, cost_pico=1000)

amounts = st.integers(0, 50)
rooms = st.builds(Room, amounts, amounts, amounts)
totals = st.builds(Load, requests=amounts, input_tokens=amounts, cost_pico=amounts)
weights = st.integers(0, 12)
queues = st.lists(
    st.builds(Load, requests=st.just(1), size_bytes=weights, input_tokens=weights, cost_pico=weights), max_size=25
).map(lambda found: [Weighed(place, load) for place, load in enumerate(found)])
most = st.integers(1, 30)
limits_ = st.builds(BatchLimits, requests=st.integers(1, 8), size_bytes=most, input_tokens=most, cost_pico=most)


@given(a=amounts, b=amounts, c=amounts, used=totals)
def test_room_is_what_is_left_of_the_limits(a: int, b: int, c: int, used: Load) -> None:
    """Never less than nothing, also where more was used than a limit that was lowered later allows."""
    room = Room.left(TotalLimits(requests=a, input_tokens=b, cost_pico=c), after=used)
    assert room == Room(max(0, a - used.requests), max(0, b - used.input_tokens), max(0, c - used.cost_pico))


@given(room=rooms, first=totals, second=totals)
def test_using_room_in_two_steps_leaves_as_much_as_in_one(room: Room, first: Load, second: Load) -> None:
    assert room.less(first).less(second) == room.less(first + second)


@given(one=rooms, other=rooms, load=totals)
def test_what_fits_the_smaller_room_fits_both(one: Room, other: Room, load: Load) -> None:
    assert one.smaller(other).fits(load) == (one.fits(load) and other.fits(load))
    assert one.smaller(other) == other.smaller(one)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("amount", "fits"), [(99, True), (100, True), (101, False)])
def test_room_may_be_used_up_and_not_passed(measure: str, amount: int, fits: bool) -> None:
    assert Room(100, 100, 100).fits(Load(**{measure: amount})) == fits


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("left", "none"), [(0, True), (1, False)])
def test_there_is_no_room_if_any_measure_is_used_up(measure: str, left: int, none: bool) -> None:
    assert replace(Room(100, 100, 100), **{measure: left}).none == none


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("left", "limit"), [(999, 999), (1000, 1000), (1001, 1000)])
def test_limits_are_lowered_to_the_room(measure: str, left: int, limit: int) -> None:
    """Only the one that is tighter, and never raised."""
    lowered = within(WIDE, replace(Room(5000, 5000, 5000), **{measure: left}))
    assert lowered == replace(WIDE, **{measure: limit})


@pytest.mark.parametrize("measure", MEASURES)
def test_without_any_room_the_limits_stay(measure: str) -> None:
    """What is prepared then is for a later session, and has its full size."""
    assert within(WIDE, replace(Room(5, 5, 5), **{measure: 0})) == WIDE


@given(queue=queues, limits=limits_, room=rooms)
def test_a_batch_within_a_room_fits_it(queue: list[Weighed], limits: BatchLimits, room: Room) -> None:
    """And no limit of its own is passed."""
    assume(not room.none)
    lowered = within(limits, room)
    assert room.fits(fill(queue, lowered).load)
    for measure in ("requests", "size_bytes", "input_tokens", "cost_pico"):
        assert getattr(lowered, measure) <= getattr(limits, measure)


@given(queue=queues, limits=limits_, room=rooms)
def test_batches_cut_to_the_room_never_use_more_than_there_was(
    queue: list[Weighed], limits: BatchLimits, room: Room
) -> None:
    """One after the other, each cut to what the ones before have left."""
    left, sent = room, Load()
    while queue and not left.none:
        batch = fill(queue, within(limits, left))
        if not batch.ids:
            break
        queue, left, sent = queue[len(batch.ids) :], left.less(batch.load), sent + batch.load
    assert room.fits(sent)
