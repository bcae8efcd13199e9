"""Which requests go by direct calls, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.planning.admission import Hold
from gpt_batch_api.planning.next_step import (
    DIRECT_QUEUE,
    DIRECT_S,
    Direct,
    Doubtful,
    Generate,
    Generator,
    Pile,
    Route,
    Seal,
    Sealed,
    Situation,
    Wait,
    next_step,
)

CHAT, MODEL = "/v1/chat/completions", "gpt-4o-mini"
FULL = Hold("max_session_requests", 1, 5, 5, clears=False)
BUSY = Hold("max_remote_batches", 1, 15, 15, clears=True)
DONE = Situation(generator=Generator.EXHAUSTED, min_batch_requests=100)
ROUTE = Route(CHAT, MODEL)


def pile(requests: int = 5, **facts: Any) -> Pile:
    return Pile(CHAT, MODEL, requests, **{"full": False, "direct": True, **facts})


class TestSmallRemainder:
    def test_it_goes_by_direct_calls(self) -> None:
        assert next_step(replace(DONE, piles=(pile(99),))) == Direct((ROUTE,))

    def test_a_big_one_makes_a_batch(self) -> None:
        assert next_step(replace(DONE, piles=(pile(100),))) == Seal(CHAT, MODEL)

    def test_one_that_may_not_makes_a_small_batch(self) -> None:
        assert next_step(replace(DONE, piles=(pile(5, direct=False),))) == Seal(CHAT, MODEL)

    @pytest.mark.parametrize(
        "facts",
        [
            {"generator": Generator.OPEN},
            {"remote_batches": 1, "poll_due_s": 5.0},
            {"doubtful": (Doubtful(1, 5.0),)},
            {"sealed": (Sealed(1, MODEL, (BUSY,)),)},
        ],
        ids=lambda facts: next(iter(facts)),
    )
    def test_it_waits_for_what_may_join_it(self, facts: dict[str, Any]) -> None:
        assert not isinstance(next_step(replace(DONE, piles=(pile(),), **facts)), (Direct, Seal))

    def test_a_batch_that_stays_here_is_not_waited_for(self) -> None:
        now = replace(DONE, piles=(pile(),), sealed=(Sealed(1, MODEL, (FULL,)),))
        assert next_step(now) == Direct((ROUTE,))

    def test_calls_in_flight_are_not_waited_for(self) -> None:
        """Or the first calls of a remainder would stop the others."""
        assert next_step(replace(DONE, piles=(pile(),), direct_in_flight=3)) == Direct((ROUTE,))


class TestExpired:
    def test_what_expired_too_often_goes_by_direct_calls(self) -> None:
        now = replace(DONE, piles=(pile(0, expired=2, direct=False),), remote_batches=1, poll_due_s=5.0)
        assert next_step(now) == Direct((Route(CHAT, MODEL, expired_only=True),))

    def test_the_rest_is_batched_meanwhile(self) -> None:
        now = replace(DONE, piles=(pile(100, expired=2, full=True),), direct_due_s=0.04, direct_in_flight=1)
        assert next_step(now) == Seal(CHAT, MODEL)


class TestForced:
    FORCED = replace(DONE, force_direct=True)

    def test_everything_goes_and_nothing_is_sealed(self) -> None:
        now = replace(self.FORCED, piles=(pile(5000, full=True),))
        assert next_step(now) == Direct((ROUTE,))
        assert next_step(replace(now, direct_due_s=0.04)) == Direct((ROUTE,), for_s=DIRECT_S)

    @pytest.mark.parametrize(("queued", "step"), [(DIRECT_QUEUE - 1, Generate()), (DIRECT_QUEUE, None)])
    def test_only_so_much_is_generated_ahead(self, queued: int, step: Generate | None) -> None:
        now = replace(self.FORCED, generator=Generator.OPEN, piles=(pile(queued),), direct_due_s=0.04)
        assert next_step(now) == (step or Direct((ROUTE,), for_s=DIRECT_S))

    def test_nothing_is_generated_for_a_limit_that_is_reached(self) -> None:
        now = replace(self.FORCED, generator=Generator.OPEN, piles=(pile(1, holds=(FULL,)),))
        over = next_step(now)
        assert isinstance(over, Over)
        assert over.ending is Ending.WORK_LEFT
        assert "max_session_requests: 5 of 5 used, 1 more needed" in over.reasons


class TestServerOutOfReach:
    AWAY = replace(DONE, force_direct=True, piles=(pile(),), server_back_s=3.0)

    def test_it_is_waited_for(self) -> None:
        assert next_step(self.AWAY) == Wait(3.0, ("the server, for direct calls",))

    def test_answers_are_booked_and_nothing_is_sent(self) -> None:
        assert next_step(replace(self.AWAY, direct_in_flight=2)) == Direct(())


def test_only_process_sends_nothing() -> None:
    now = replace(DONE, generator=Generator.OFF, piles=(pile(),), force_direct=True)
    assert isinstance(next_step(now), Over)
    assert next_step(replace(now, direct_in_flight=1)) == Direct(())


def test_a_failed_group_stops_the_run() -> None:
    now = replace(DONE, piles=(pile(),), failed_batches=(Source("group", 1),), direct_in_flight=2)
    assert next_step(now) == Over(Ending.STOPPED)


SITUATIONS = st.builds(
    Situation,
    piles=st.lists(
        st.builds(
            Pile,
            st.just(CHAT),
            st.sampled_from(["a", "b"]),
            st.integers(0, 300),
            st.booleans(),
            st.booleans(),
            st.integers(0, 3),
            st.sampled_from([(), (FULL,)]),
            st.sampled_from([(), (FULL,)]),
        ),
        max_size=2,
    ).map(tuple),
    generator=st.sampled_from(Generator),
    min_batch_requests=st.sampled_from([0, 1, 101]),
    force_direct=st.booleans(),
    direct_in_flight=st.sampled_from([0, 0, 1, 50]),
    direct_due_s=st.sampled_from([-1.0, 0.0, 0.04]),
    server_back_s=st.sampled_from([0.0, 2.0]),
    remote_batches=st.sampled_from([0, 2]),
    poll_due_s=st.sampled_from([0.0, 9.0]),
    once=st.booleans(),
)


@given(SITUATIONS)
def test_a_run_never_ends_over_calls_in_flight(now: Situation) -> None:
    if now.direct_in_flight:
        assert not isinstance(next_step(now), Over)


@given(SITUATIONS)
def test_nothing_leaves_that_may_not(now: Situation) -> None:
    step = next_step(now)
    if isinstance(step, Direct) and step.routes:
        assert now.server_back_s <= 0
        assert now.generator is not Generator.OFF
        free = {pile.model for pile in now.piles if not pile.holds}
        free_expired = {pile.model for pile in now.piles if pile.expired and not pile.expired_holds}
        assert {route.model for route in step.routes if not route.expired_only} <= free
        assert {route.model for route in step.routes if route.expired_only} <= free_expired


def test_a_full_batch_goes_by_the_batch_api_whatever_its_size() -> None:
    """It reached a maximum, of tokens perhaps."""
    assert next_step(replace(DONE, piles=(pile(5, full=True),))) == Seal(CHAT, MODEL)
