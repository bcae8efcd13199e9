"""What now, where direct calls come in: what goes by them and what does not, when, and what they keep going."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.planning.admission import Hold
from gpt_batch_api.planning.deadline import Hurry
from gpt_batch_api.planning.next_step import (
    DIRECT_QUEUE,
    DIRECT_S,
    DecideFailure,
    Deliver,
    Direct,
    Doubtful,
    FindOrphans,
    Generate,
    Generator,
    Hand,
    Pile,
    Poll,
    Push,
    Recall,
    Resolve,
    Route,
    Seal,
    Sealed,
    Settle,
    Situation,
    Step,
    Sweep,
    Wait,
    next_step,
)

CHAT = "/v1/chat/completions"
MODEL = "gpt-4o-mini"
OTHER = "gpt-4.1"
PASSING = Hold("max_remote_batches", needed=1, used=15, allowed=15, clears=True)
LASTING = Hold("max_session_requests", needed=1, used=100, allowed=100, clears=False)
COSTLY = Hold("max_task_cost", needed=10**12, used=10**12, allowed=10**12, clears=False)

ENOUGH = 100
"""From so many requests on a remainder makes a batch."""
IDLE = Situation(generator=Generator.EXHAUSTED, poll_due_s=7.0, min_batch_requests=ENOUGH)
"""Nothing is left to be done."""
FORCED = replace(IDLE, force_direct=True)
LATER_S = 0.04
"""Direct calls are looked at again only then."""
AWAY_S = 30.0
ALL = Route(CHAT, MODEL)
EXPIRED = Route(CHAT, MODEL, expired_only=True)
BAD = Source("group", 52)


def pile(requests: int = 5, *, model: str = MODEL, direct: bool = True, full: bool = False, **facts: Any) -> Pile:
    return Pile(CHAT, model, requests, full, direct=direct, **facts)


def waiting(routes: tuple[Route, ...] = ()) -> Direct:
    """Direct calls are all there is to do."""
    return Direct(routes, for_s=DIRECT_S)


# Each gives direct calls to send, and nothing else to do.
SENDABLE: list[tuple[dict[str, Any], tuple[Route, ...]]] = [
    ({"force_direct": True, "piles": (pile(5, direct=False),)}, (ALL,)),
    ({"piles": (pile(5),)}, (ALL,)),
    ({"piles": (pile(0, expired=2),)}, (EXPIRED,)),
]
SENDABLE_IDS = ["forced", "remainder", "expired"]
# Each is booked before anything is sent.
BOOKING: list[tuple[dict[str, Any], Step]] = [
    ({"ended": (3, 4)}, Settle(3)),
    ({"answers_to_hand": True}, Hand()),
    ({"rows_to_deliver": True}, Deliver()),
    ({"files_to_sweep": True}, Sweep()),
    ({"doubtful": (Doubtful(21, 0.0),)}, Resolve(21)),
    ({"orphan_due_s": 0.0}, FindOrphans()),
    ({"remote_batches": 2, "poll_due_s": 0.0}, Poll()),
]


class TestForced:
    """`force_direct`: everything goes by direct calls, and nothing becomes a batch."""

    @pytest.mark.parametrize("direct", [True, False])
    @pytest.mark.parametrize("full", [True, False])
    @pytest.mark.parametrize("requests", [1, ENOUGH - 1, ENOUGH, 50_000])
    def test_everything_goes(self, requests: int, full: bool, direct: bool) -> None:
        now = replace(FORCED, piles=(pile(requests, full=full, direct=direct),))
        assert next_step(now) == Direct((ALL,))

    def test_what_expired_goes_with_all_others(self) -> None:
        assert next_step(replace(FORCED, piles=(pile(5, expired=2),))) == Direct((ALL,))
        assert next_step(replace(FORCED, piles=(pile(0, expired=2),))) == Direct((ALL,))

    def test_all_queues_go_in_their_order(self) -> None:
        piles = (pile(5), pile(500, model=OTHER), Pile("/v1/responses", MODEL, 7, False))
        assert next_step(replace(FORCED, piles=piles)) == Direct(
            (ALL, Route(CHAT, OTHER), Route("/v1/responses", MODEL))
        )

    @pytest.mark.parametrize("generator", Generator)
    @pytest.mark.parametrize("due_s", [0.0, LATER_S])
    @pytest.mark.parametrize("holds", [(), (LASTING,)])
    def test_nothing_is_sealed(self, generator: Generator, due_s: float, holds: tuple[Hold, ...]) -> None:
        now = replace(FORCED, generator=generator, direct_due_s=due_s)
        assert not isinstance(next_step(replace(now, piles=(pile(500, full=True, holds=holds),))), Seal)

    def test_a_batch_that_was_sealed_before_is_pushed(self) -> None:
        """It stands; its requests are in no queue."""
        assert next_step(replace(FORCED, sealed=(Sealed(41),), piles=(pile(),))) == Push(41)

    @pytest.mark.parametrize(
        ("queued", "goes_on"), [(0, True), (DIRECT_QUEUE - 1, True), (DIRECT_QUEUE, False), (DIRECT_QUEUE + 1, False)]
    )
    def test_only_so_much_is_generated_ahead(self, queued: int, goes_on: bool) -> None:
        """In all queues together."""
        piles = (pile(queued // 2), pile(queued - queued // 2, model=OTHER))
        now = replace(FORCED, generator=Generator.OPEN, piles=piles, direct_due_s=LATER_S)
        assert (next_step(now) == Generate()) == goes_on

    def test_with_nothing_queued_more_is_generated(self) -> None:
        assert next_step(replace(FORCED, generator=Generator.OPEN)) == Generate()
        now = replace(FORCED, generator=Generator.OPEN, direct_in_flight=3, direct_due_s=LATER_S)
        assert next_step(now) == Generate()

    def test_local_batches_do_not_keep_the_generator_waiting(self) -> None:
        """They are no place for what it gives."""
        now = replace(FORCED, generator=Generator.OPEN, sealed=(Sealed(41, MODEL, (PASSING,)),), max_unpushed_batches=1)
        assert next_step(now) == Generate()

    @pytest.mark.parametrize("held", [0, 1])
    def test_nothing_is_generated_while_a_limit_holds_a_queue(self, held: int) -> None:
        """It would only wait as well. What is free goes on."""
        piles = [pile(1), pile(1, model=OTHER)]
        piles[held] = replace(piles[held], holds=(LASTING,))
        now = replace(FORCED, generator=Generator.OPEN, piles=tuple(piles), direct_due_s=LATER_S)
        free = piles[1 - held]
        assert next_step(now) == waiting((Route(CHAT, free.model),))


class TestRemainder:
    """A small remainder goes by direct calls where it may, once nothing can join it; a big one makes a batch."""

    @pytest.mark.parametrize(
        ("requests", "step"),
        [
            (1, Direct((ALL,))),
            (ENOUGH - 1, Direct((ALL,))),
            (ENOUGH, Seal(CHAT, MODEL)),
            (ENOUGH + 1, Seal(CHAT, MODEL)),
        ],
    )
    def test_a_small_one_goes_direct_and_a_big_one_is_sealed(self, requests: int, step: Step) -> None:
        assert next_step(replace(IDLE, piles=(pile(requests),))) == step

    def test_a_full_batch_is_sealed_whatever_its_size(self) -> None:
        """It reached a maximum, of tokens perhaps."""
        assert next_step(replace(IDLE, piles=(pile(5, full=True),))) == Seal(CHAT, MODEL)

    @pytest.mark.parametrize("requests", [1, ENOUGH - 1, ENOUGH])
    def test_one_that_may_not_go_direct_is_sealed(self, requests: int) -> None:
        assert next_step(replace(IDLE, piles=(pile(requests, direct=False),))) == Seal(CHAT, MODEL)

    @pytest.mark.parametrize(
        "facts",
        [
            {"generator": Generator.OPEN},
            {"remote_batches": 1},
            {"doubtful": (Doubtful(21, 5.0),)},
            {"sealed": (Sealed(41, MODEL, (PASSING,)),)},
            {"sealed": (Sealed(41, due_s=60.0),)},
        ],
        ids=["generator", "on the server", "in doubt", "held for now", "postponed"],
    )
    def test_it_waits_for_whatever_may_still_join_it(self, facts: dict[str, Any]) -> None:
        """Neither sent nor sealed, until that is gone."""
        now = replace(IDLE, piles=(pile(ENOUGH - 1),))
        assert not isinstance(next_step(replace(now, **facts)), (Direct, Seal))
        assert next_step(now) == Direct((ALL,))

    def test_results_that_are_still_to_be_fetched_may_join_it(self) -> None:
        """So, while the server is away, it is not direct calls that are waited for."""
        now = replace(IDLE, piles=(pile(),), ended=(3,), server_back_s=AWAY_S)
        assert next_step(now) == Wait(AWAY_S, ("the results of ended batches",))

    @pytest.mark.parametrize(
        "facts",
        [
            {"sealed": (Sealed(41, MODEL, (LASTING,)),)},
            {"sealed": (Sealed(41, MODEL, (PASSING, LASTING)),)},
            {"orphan_due_s": 5.0},
            {"held_requests": 3},
            {"direct_in_flight": 3},
        ],
        ids=["held for good", "held for now and for good", "orphans", "held requests", "calls in flight"],
    )
    def test_it_does_not_wait_for_what_brings_nothing(self, facts: dict[str, Any]) -> None:
        """Nor for calls in flight, or the first ones of a remainder would stop the rest."""
        assert next_step(replace(IDLE, piles=(pile(),), **facts)) == Direct((ALL,))

    def test_each_is_judged_by_itself(self) -> None:
        piles = (pile(ENOUGH, model=OTHER), pile(ENOUGH - 1), pile(5, model="third", direct=False))
        now = replace(IDLE, piles=piles)
        assert next_step(now) == Direct((ALL,))
        assert next_step(replace(now, direct_due_s=LATER_S)) == Seal(CHAT, OTHER)
        assert next_step(replace(now, piles=piles[1:], direct_due_s=LATER_S)) == Seal(CHAT, "third")

    def test_where_one_request_is_a_batch_no_remainder_is_small(self) -> None:
        assert next_step(replace(IDLE, piles=(pile(1),), min_batch_requests=1)) == Seal(CHAT, MODEL)

    def test_what_expired_goes_with_it(self) -> None:
        assert next_step(replace(IDLE, piles=(pile(5, expired=2),))) == Direct((ALL,))


class TestExpired:
    """What expired too often in batches goes by direct calls, at once; the rest of its queue is batched as ever."""

    @pytest.mark.parametrize(
        "facts",
        [{}, {"generator": Generator.OPEN}, {"remote_batches": 2}, {"sealed": (Sealed(41, MODEL, (PASSING,)),)}],
        ids=["alone", "generator", "on the server", "held"],
    )
    @pytest.mark.parametrize("requests", [0, 50_000])
    def test_it_goes_whatever_is_under_way(self, requests: int, facts: dict[str, Any]) -> None:
        now = replace(IDLE, piles=(pile(requests, expired=1, full=requests > 0),), **facts)
        assert next_step(now) == Direct((EXPIRED,))

    def test_it_goes_where_the_rest_may_not(self) -> None:
        assert next_step(replace(IDLE, piles=(pile(5, direct=False, expired=1),))) == Direct((EXPIRED,))

    @pytest.mark.parametrize(("requests", "full"), [(ENOUGH, False), (5, True), (50_000, True)])
    def test_the_rest_is_sealed_meanwhile(self, requests: int, full: bool) -> None:
        now = replace(IDLE, generator=Generator.OPEN if full else Generator.EXHAUSTED, direct_due_s=LATER_S)
        now = replace(now, piles=(pile(requests, expired=1, full=full),), direct_in_flight=1)
        assert next_step(now) == Seal(CHAT, MODEL)

    def test_more_is_generated_meanwhile(self) -> None:
        now = replace(IDLE, generator=Generator.OPEN, piles=(pile(5, expired=1),), direct_due_s=LATER_S)
        assert next_step(now) == Generate()

    def test_it_alone_makes_no_batch(self) -> None:
        """The pile has nothing else."""
        now = replace(IDLE, piles=(pile(0, direct=False, expired=500),), direct_due_s=LATER_S)
        assert next_step(now) == waiting((EXPIRED,))

    def test_a_limit_that_holds_others_does_not_hold_it(self) -> None:
        """The next of the whole queue may be too big for what is left where the next expired one is not."""
        now = replace(IDLE, remote_batches=1, piles=(pile(5, expired=1, holds=(LASTING,)),))
        assert next_step(now) == Direct((EXPIRED,))

    def test_a_limit_that_holds_it_does_not_hold_others(self) -> None:
        now = replace(IDLE, piles=(pile(5, expired=1, expired_holds=(LASTING,)),))
        assert next_step(now) == Direct((ALL,))

    def test_if_a_limit_holds_it_nothing_of_it_goes(self) -> None:
        now = replace(IDLE, piles=(pile(0, expired=2, expired_holds=(LASTING,)),))
        assert next_step(now) == Over(Ending.WORK_LEFT, (str(LASTING), "2 requests in the queue"))


class TestHeldByALimit:
    """A call that a limit holds back is not sent; the limit is told at the end."""

    HELD: tuple[dict[str, Any], ...] = (
        {"force_direct": True, "piles": (pile(5, holds=(LASTING, COSTLY)),)},
        {"piles": (pile(5, holds=(LASTING, COSTLY)),)},
        {"piles": (pile(0, expired=5, expired_holds=(LASTING, COSTLY)),)},
    )

    @pytest.mark.parametrize("facts", HELD, ids=SENDABLE_IDS)
    @pytest.mark.parametrize("once", [False, True])
    def test_nothing_is_sent_and_every_limit_is_told(self, facts: dict[str, Any], once: bool) -> None:
        step = next_step(replace(IDLE, once=once, **facts))
        assert step == Over(Ending.WORK_LEFT, (str(LASTING), str(COSTLY), "5 requests in the queue"))

    @pytest.mark.parametrize("facts", HELD, ids=SENDABLE_IDS)
    def test_calls_in_flight_are_booked(self, facts: dict[str, Any]) -> None:
        """The run goes on until they have come."""
        assert next_step(replace(IDLE, direct_in_flight=2, **facts)) == Direct(())
        assert next_step(replace(IDLE, direct_in_flight=2, direct_due_s=LATER_S, **facts)) == waiting()

    def test_a_small_remainder_that_is_held_is_not_sealed_instead(self) -> None:
        """The limits of session and task are those of a batch too."""
        step = next_step(replace(IDLE, piles=(pile(5, holds=(LASTING,)),)))
        assert step == Over(Ending.WORK_LEFT, (str(LASTING), "5 requests in the queue"))

    def test_other_queues_go(self) -> None:
        piles = (pile(5, holds=(COSTLY,)), pile(5, model=OTHER))
        assert next_step(replace(IDLE, piles=piles)) == Direct((Route(CHAT, OTHER),))
        assert next_step(replace(FORCED, piles=piles)) == Direct((Route(CHAT, OTHER),))

    def test_a_limit_of_many_queues_is_told_once(self) -> None:
        """All that is queued is counted, expired ones too."""
        piles = (pile(5, holds=(LASTING,)), pile(1, model=OTHER, expired=1, holds=(LASTING,), expired_holds=(LASTING,)))
        step = next_step(replace(IDLE, piles=piles))
        assert step == Over(Ending.WORK_LEFT, (str(LASTING), "7 requests in the queue"))

    def test_that_the_generator_has_more_is_told(self) -> None:
        now = replace(FORCED, generator=Generator.OPEN, piles=(pile(1, holds=(LASTING,)),))
        assert next_step(now) == Over(
            Ending.WORK_LEFT, (str(LASTING), "1 request in the queue", "the generator has more requests")
        )


class TestOnlyProcess:
    """`only_process` sends nothing, but answers to calls in flight are booked."""

    OFF = replace(IDLE, generator=Generator.OFF)

    @pytest.mark.parametrize(("facts", "routes"), SENDABLE, ids=SENDABLE_IDS)
    def test_nothing_is_sent(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        step = next_step(replace(self.OFF, **facts))
        assert isinstance(step, Over)
        assert step.ending is Ending.WORK_LEFT
        assert next_step(replace(IDLE, **facts)) == Direct(routes)

    @pytest.mark.parametrize(("facts", "routes"), SENDABLE, ids=SENDABLE_IDS)
    def test_calls_in_flight_are_booked(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        assert next_step(replace(self.OFF, direct_in_flight=1, **facts)) == Direct(())

    @pytest.mark.parametrize(("facts", "routes"), SENDABLE, ids=SENDABLE_IDS)
    def test_a_server_that_is_away_is_not_waited_for(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        step = next_step(replace(self.OFF, server_back_s=AWAY_S, **facts))
        assert isinstance(step, Over)


@pytest.mark.parametrize(("facts", "routes"), SENDABLE, ids=SENDABLE_IDS)
class TestServerOutOfReach:
    """While the server is away nothing is sent; what it has answered before is booked."""

    def test_it_is_waited_for(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        now = replace(IDLE, server_back_s=AWAY_S, **facts)
        assert next_step(now) == Wait(AWAY_S, ("the server, for direct calls",))

    def test_with_once_it_is_not_waited_for(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        step = next_step(replace(IDLE, server_back_s=AWAY_S, once=True, **facts))
        assert isinstance(step, Over)
        assert step.ending is Ending.WORK_LEFT

    def test_answers_are_booked(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        now = replace(IDLE, server_back_s=AWAY_S, direct_in_flight=2, **facts)
        assert next_step(now) == Direct(())
        assert next_step(replace(now, direct_due_s=LATER_S)) == waiting()

    @pytest.mark.parametrize(("back_s", "goes"), [(0.1, False), (0.0, True), (-0.1, True)])
    def test_they_go_when_it_is_back(
        self, facts: dict[str, Any], routes: tuple[Route, ...], back_s: float, goes: bool
    ) -> None:
        assert (next_step(replace(IDLE, server_back_s=back_s, **facts)) == Direct(routes)) == goes


class TestInFlight:
    """Calls in flight keep the run going, whatever else there is."""

    FLYING = replace(IDLE, direct_in_flight=1)

    @pytest.mark.parametrize("once", [False, True])
    @pytest.mark.parametrize("due_s", [-1.0, 0.0, 1e-9, LATER_S])
    def test_they_are_waited_for_when_nothing_else_is_left(self, due_s: float, once: bool) -> None:
        step = next_step(replace(self.FLYING, direct_due_s=due_s, once=once))
        assert step == (Direct(()) if due_s <= 0 else waiting())
        assert next_step(replace(IDLE, direct_due_s=due_s, once=once)) == Over(Ending.DONE)

    @pytest.mark.parametrize("once", [False, True])
    @pytest.mark.parametrize(
        "facts",
        [
            {"remote_batches": 1},
            {"held_requests": 3},
            {"sealed": (Sealed(41, MODEL, (LASTING,)),)},
            {"sealed": (Sealed(41, due_s=60.0),)},
            {"doubtful": (Doubtful(21, 5.0),)},
            {"ended": (3,), "server_back_s": AWAY_S},
            {"orphan_due_s": 5.0},
            {"generator": Generator.OFF, "piles": (pile(),)},
        ],
        ids=["on the server", "held", "local", "postponed", "in doubt", "ended", "orphans", "only_process"],
    )
    def test_they_are_looked_at_instead_of_waiting_or_ending(self, facts: dict[str, Any], once: bool) -> None:
        now = replace(self.FLYING, once=once, direct_due_s=LATER_S, **facts)
        assert next_step(now) == waiting()
        assert isinstance(next_step(replace(now, direct_in_flight=0)), (Wait, Over))


class TestWhenTheyAreLookedAt:
    """`direct_due_s` decides between direct calls and preparing: so both go on."""

    @pytest.mark.parametrize(("due_s", "direct"), [(-1.0, True), (0.0, True), (1e-9, False), (LATER_S, False)])
    @pytest.mark.parametrize(
        ("facts", "step"),
        [
            ({"piles": (pile(500, full=True),)}, Seal(CHAT, MODEL)),
            ({"piles": (pile(ENOUGH),)}, Seal(CHAT, MODEL)),
            ({"generator": Generator.OPEN}, Generate()),
            ({"generator": Generator.OPEN, "force_direct": True}, Generate()),
        ],
        ids=["full", "big remainder", "generator", "forced"],
    )
    def test_preparing_goes_on_between(self, facts: dict[str, Any], step: Step, due_s: float, direct: bool) -> None:
        now = replace(IDLE, direct_in_flight=1, direct_due_s=due_s, **facts)
        assert next_step(now) == (Direct(()) if direct else step)

    @pytest.mark.parametrize(("facts", "routes"), SENDABLE, ids=SENDABLE_IDS)
    def test_with_nothing_to_prepare_they_go_on(self, facts: dict[str, Any], routes: tuple[Route, ...]) -> None:
        assert next_step(replace(IDLE, direct_due_s=LATER_S, **facts)) == waiting(routes)

    def test_a_batch_is_pushed_first(self) -> None:
        now = replace(IDLE, sealed=(Sealed(41),), piles=(pile(0, expired=2),), direct_in_flight=1)
        assert next_step(now) == Push(41)

    @pytest.mark.parametrize(("facts", "step"), BOOKING, ids=lambda value: type(value).__name__)
    def test_what_is_paid_for_is_booked_first(self, facts: dict[str, Any], step: Step) -> None:
        now = replace(IDLE, piles=(pile(0, expired=2),), direct_in_flight=1, direct_due_s=-1.0)
        assert next_step(replace(now, **facts)) == step


@pytest.mark.parametrize("in_flight", [0, 2])
@pytest.mark.parametrize(("facts", "routes"), SENDABLE, ids=SENDABLE_IDS)
class TestStops:
    """Whatever stops a run comes before sending: answers on their way are booked by the way out, or the next run."""

    def test_a_wish_to_stop(self, facts: dict[str, Any], routes: tuple[Route, ...], in_flight: int) -> None:
        now = replace(IDLE, interrupted=True, direct_in_flight=in_flight, **facts)
        assert next_step(now) == Over(Ending.INTERRUPTED)

    def test_a_failed_group(self, facts: dict[str, Any], routes: tuple[Route, ...], in_flight: int) -> None:
        now = replace(IDLE, failed_batches=(BAD,), direct_in_flight=in_flight, **facts)
        assert next_step(now) == Over(Ending.STOPPED)

    def test_a_failed_group_that_the_user_allowed(
        self, facts: dict[str, Any], routes: tuple[Route, ...], in_flight: int
    ) -> None:
        now = replace(IDLE, failed_batches=(BAD,), failures_allowed=1, direct_in_flight=in_flight, **facts)
        assert next_step(now) == DecideFailure(BAD)
        assert next_step(replace(now, failed_batches=())) == Direct(routes)

    def test_a_safety_stop(self, facts: dict[str, Any], routes: tuple[Route, ...], in_flight: int) -> None:
        now = replace(IDLE, safety_stop="too bad", direct_in_flight=in_flight, **facts)
        assert next_step(now) == Over(Ending.STOPPED, ("too bad",))


def test_with_nothing_more_to_send_a_safety_stop_waits_for_calls_in_flight() -> None:
    """They are paid for."""
    assert next_step(replace(IDLE, safety_stop="too bad", direct_in_flight=1)) == Direct(())


# ------------------------------------------------------------ any situation

delays = st.just(0.0) | st.floats(-10, 100)
holds = st.sampled_from([(), (), (LASTING,), (PASSING,), (LASTING, COSTLY)])
piles = st.builds(
    Pile,
    endpoint=st.just(CHAT),
    model=st.sampled_from("abc"),
    requests=st.integers(0, 2 * ENOUGH),
    full=st.booleans(),
    direct=st.booleans(),
    expired=st.integers(0, 3),
    holds=holds,
    expired_holds=holds,
).filter(lambda found: found.requests + found.expired > 0)
situations = st.builds(
    Situation,
    interrupted=st.sampled_from([False] * 9 + [True]),
    answers_to_hand=st.sampled_from([False] * 9 + [True]),
    ended=st.sampled_from([(), (), (3,)]),
    doubtful=st.sampled_from([(), (), (Doubtful(21, 5.0),)]),
    failed_batches=st.sampled_from([()] * 9 + [(BAD,)]),
    failures_allowed=st.integers(0, 1),
    safety_stop=st.sampled_from([None] * 9 + ["too bad"]),
    remote_batches=st.sampled_from([0, 0, 1]),
    poll_due_s=delays,
    sealed=st.lists(
        st.builds(Sealed, st.integers(200, 299), st.sampled_from("abc"), holds, delays),
        max_size=2,
        unique_by=lambda sealed: sealed.batch_id,
    ).map(tuple),
    piles=st.lists(piles, max_size=3, unique_by=lambda pile: pile.model).map(tuple),
    held_requests=st.integers(0, 1),
    generator=st.sampled_from(Generator),
    max_unpushed_batches=st.integers(0, 3),
    min_batch_requests=st.sampled_from([0, 1, ENOUGH]),
    orphan_due_s=st.none() | delays,
    server_back_s=st.sampled_from([0.0, 0.0, -1.0, AWAY_S]),
    force_direct=st.booleans(),
    direct_in_flight=st.sampled_from([0, 0, 1, 50]),
    direct_due_s=delays,
    hurry=st.sampled_from([Hurry.NONE, Hurry.NONE, Hurry.FLEX, Hurry.DIRECT]),
    to_recall=st.sampled_from([(), (), (7, 8)]),
    once=st.booleans(),
)


class TestAnySituation:
    """What must hold whatever the situation is."""

    @given(now=situations)
    def test_only_a_stop_ends_a_run_over_calls_in_flight(self, now: Situation) -> None:
        step = next_step(now)
        if now.direct_in_flight and isinstance(step, Over):
            assert step.ending in (Ending.INTERRUPTED, Ending.STOPPED)
            assert now.interrupted or now.failed_batches or now.safety_stop

    @given(now=situations)
    def test_nobody_waits_while_calls_are_in_flight(self, now: Situation) -> None:
        """Their answers would lie there."""
        if now.direct_in_flight:
            assert not isinstance(next_step(now), Wait)

    @given(now=situations)
    def test_nothing_goes_that_must_not(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Direct) and step.routes:
            assert now.server_back_s <= 0
            assert now.generator is not Generator.OFF
            assert not any((now.interrupted, now.failed_batches, now.safety_stop))

    @given(now=situations)
    def test_nothing_goes_that_a_limit_holds(self, now: Situation) -> None:
        step = next_step(now)
        for route in step.routes if isinstance(step, Direct) else ():
            (pile,) = (pile for pile in now.piles if pile.model == route.model)
            assert not (pile.expired_holds if route.expired_only else pile.holds)

    @given(now=situations)
    def test_each_queue_goes_for_a_reason(self, now: Situation) -> None:
        """All of it because the user wants that, or it is small, may go and nothing can join it; else what expired."""
        step = next_step(now)
        for route in step.routes if isinstance(step, Direct) else ():
            (pile,) = (pile for pile in now.piles if pile.model == route.model)
            if route.expired_only:
                assert pile.expired
                assert not now.force_direct
            elif not now.force_direct:
                assert pile.direct
            if now.hurry is Hurry.NONE and not now.force_direct and not route.expired_only:
                assert not pile.full
                assert 0 < pile.requests < now.min_batch_requests
                assert now.generator is Generator.EXHAUSTED
                assert not any((now.remote_batches, now.doubtful, now.ended))
                assert not any(sealed.will_go for sealed in now.sealed)

    @given(now=situations)
    def test_direct_calls_come_only_if_there_are_any(self, now: Situation) -> None:
        """And they are waited for only if nothing else can be done."""
        step = next_step(now)
        if isinstance(step, Direct):
            assert step.routes or now.direct_in_flight
            assert step.for_s == (0.0 if now.direct_due_s <= 0 else DIRECT_S)

    @given(now=situations)
    def test_a_hurry_decides_the_tier_and_seals_only_what_cannot_go_direct(self, now: Situation) -> None:
        step = next_step(now)
        for route in step.routes if isinstance(step, Direct) else ():
            assert route.flex == (now.hurry is Hurry.FLEX)
        if isinstance(step, Seal) and now.hurry is not Hurry.NONE:
            (pile,) = (pile for pile in now.piles if pile.model == step.model)
            assert not pile.direct

    @given(now=situations)
    def test_batches_are_taken_back_before_anything_new_is_sent(self, now: Situation) -> None:
        step = next_step(now)
        if now.to_recall:
            assert not isinstance(step, Push)
            may_recall = now.server_back_s <= 0 and now.generator is not Generator.OFF
            assert may_recall or not isinstance(step, Recall)
            assert not may_recall or not isinstance(step, (Direct, Seal, Generate, Wait))

    @given(now=situations)
    def test_force_direct_never_seals(self, now: Situation) -> None:
        step = next_step(replace(now, force_direct=True))
        assert not isinstance(step, Seal)
        if isinstance(step, Generate):
            assert sum(pile.requests for pile in now.piles) < DIRECT_QUEUE
            assert not any(pile.holds for pile in now.piles)

    @given(now=situations)
    def test_what_is_left_in_a_queue_is_told(self, now: Situation) -> None:
        """With every limit that held it."""
        step = next_step(now)
        if isinstance(step, Over) and step.ending in (Ending.DONE, Ending.WORK_LEFT) and now.piles:
            assert step.ending is Ending.WORK_LEFT
            told = {str(hold) for pile in now.piles for hold in (*pile.holds, *pile.expired_holds)}
            assert told <= set(step.reasons)
