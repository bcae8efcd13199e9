"""What now, and when is it over: priorities, waiting, and every reason for an end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.planning.admission import Hold
from gpt_batch_api.planning.next_step import (
    Awaited,
    DecideFailure,
    Deliver,
    Doubtful,
    FindOrphans,
    Generate,
    Generator,
    Hand,
    Pile,
    Poll,
    Push,
    Resolve,
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
LASTING = Hold("max_session_requests", needed=10, used=95, allowed=100, clears=False)
OF_MODEL = Hold(f"the server's limit for {MODEL}", needed=50, used=60, allowed=90, clears=True, of_model=True)

IDLE = Situation(generator=Generator.EXHAUSTED, poll_due_s=7.0)
"""Nothing is left to be done."""
AWAY_S = 30.0

STEPS = (Settle, Hand, Deliver, Sweep, Resolve, FindOrphans, DecideFailure, Poll, Push, Seal, Generate, Wait, Over)
WITH_SERVER = (Settle, Sweep, Resolve, FindOrphans, Poll, Push)
SENDING = (Push, Seal, Generate)
"""What sends or prepares something new."""


def pile(requests: int = 5, *, full: bool = False, model: str = MODEL) -> Pile:
    return Pile(CHAT, model, requests, full)


def local(batch_id: int, *holds: Hold, model: str = MODEL, due_s: float = 0.0) -> Sealed:
    return Sealed(batch_id, model, holds, due_s)


# Each adds one thing to do; in the order in which they are done. All can be done at once.
BOOKING: list[tuple[dict[str, Any], Step]] = [
    ({"ended": (3, 4)}, Settle(3)),
    ({"answers_to_hand": True}, Hand()),
    ({"rows_to_deliver": True}, Deliver()),
    ({"files_to_sweep": True}, Sweep()),
    ({"doubtful": (Doubtful(21, 0.0), Doubtful(22, 0.0))}, Resolve(21)),
    ({"orphan_due_s": 0.0}, FindOrphans()),
    ({"remote_batches": 2, "poll_due_s": 0.0}, Poll()),
]
BAD, WORSE = Source("batch", 51), Source("group", 52)
SENDABLE: list[tuple[dict[str, Any], Step]] = [
    ({"sealed": (local(41), local(42))}, Push(41)),
]
PREPARABLE: list[tuple[dict[str, Any], Step]] = [
    ({"piles": (pile(full=True),)}, Seal(CHAT, MODEL)),
    ({"generator": Generator.OPEN}, Generate()),
]
FAILED: tuple[dict[str, Any], Step] = ({"failed_batches": (BAD, WORSE), "failures_allowed": 1}, DecideFailure(BAD))
RANKING = [*BOOKING, FAILED, *SENDABLE, *PREPARABLE]


class TestPriority:
    """Money first: what is paid for is booked, handed over and delivered before anything new is sent."""

    @pytest.mark.parametrize(("facts", "step"), RANKING, ids=lambda value: type(value).__name__)
    def test_what_alone_can_be_done_is_done(self, facts: dict[str, Any], step: Step) -> None:
        assert next_step(replace(IDLE, **facts)) == step

    @pytest.mark.parametrize("first", range(len(RANKING)))
    def test_of_all_that_can_be_done_the_first_in_rank_is_done(self, first: int) -> None:
        """Everything that comes later in rank is there too."""
        facts: dict[str, Any] = {}
        for more, _ in reversed(RANKING[first:]):
            facts |= more
        assert next_step(replace(IDLE, **facts)) == RANKING[first][1]

    def test_a_wish_to_stop_comes_before_everything(self) -> None:
        facts: dict[str, Any] = {}
        for more, _ in reversed(RANKING):
            facts |= more
        assert next_step(replace(IDLE, interrupted=True, **facts)) == Over(Ending.INTERRUPTED)

    def test_the_first_push_that_is_due_is_resolved(self) -> None:
        doubtful = (Doubtful(1, 5.0), Doubtful(2, 0.0), Doubtful(3, -1.0))
        assert next_step(replace(IDLE, doubtful=doubtful)) == Resolve(2)

    def test_the_first_batch_that_may_go_is_pushed(self) -> None:
        """One that is held, or that the server could not take yet, does not keep others back."""
        sealed = (local(1, PASSING), local(2, OF_MODEL), local(3, due_s=5.0), local(4), local(5))
        assert next_step(replace(IDLE, sealed=sealed)) == Push(4)

    def test_the_first_pile_that_is_full_is_sealed(self) -> None:
        piles = (pile(9, model="a"), pile(5, full=True, model="b"), pile(5, full=True, model="c"))
        assert next_step(replace(IDLE, generator=Generator.OPEN, piles=piles)) == Seal(CHAT, "b")

    @pytest.mark.parametrize(("due_s", "step"), [(-1.0, Poll()), (0.0, Poll())])
    def test_the_server_is_asked_when_it_is_time(self, due_s: float, step: Step) -> None:
        assert next_step(replace(IDLE, remote_batches=1, poll_due_s=due_s)) == step

    def test_with_nothing_on_the_server_nobody_asks(self) -> None:
        assert next_step(replace(IDLE, poll_due_s=-100.0)) == Over(Ending.DONE)


class TestOrphans:
    """A file that a lost upload may have left on the server is looked for, so that it can be deleted."""

    @pytest.mark.parametrize("due_s", [-1.0, 0.0])
    def test_it_is_looked_for_when_it_is_time(self, due_s: float) -> None:
        assert next_step(replace(IDLE, orphan_due_s=due_s)) == FindOrphans()

    def test_it_is_waited_for_before_that(self) -> None:
        """The lists of the server can be behind; the run is not done while a file may yet turn up."""
        step = next_step(replace(IDLE, orphan_due_s=0.1))
        assert step == Wait(0.1, ("a file that a lost upload may have left behind",))

    @pytest.mark.parametrize(
        ("facts", "step"),
        [(facts, step) for facts, step in RANKING if step != FindOrphans()],
        ids=lambda value: type(value).__name__,
    )
    def test_until_it_is_time_everything_else_goes_on(self, facts: dict[str, Any], step: Step) -> None:
        assert next_step(replace(IDLE, orphan_due_s=5.0, **facts)) == step

    @pytest.mark.parametrize("generator", Generator)
    def test_it_is_looked_for_whatever_the_generator_does(self, generator: Generator) -> None:
        """Also with `only_process`: looking and deleting cost nothing."""
        assert next_step(replace(IDLE, orphan_due_s=0.0, generator=generator)) == FindOrphans()

    @pytest.mark.parametrize("stop", [{"failed_batches": (51,)}, {"safety_stop": "too bad", "piles": (pile(),)}])
    def test_a_stop_does_not_wait_for_it(self, stop: dict[str, Any]) -> None:
        """The next run looks for it."""
        step = next_step(replace(IDLE, orphan_due_s=5.0, **stop))
        assert isinstance(step, Over)
        assert step.ending is Ending.STOPPED

    def test_it_is_not_looked_for_while_the_server_is_away(self) -> None:
        step = next_step(replace(IDLE, orphan_due_s=-1.0, server_back_s=AWAY_S))
        assert step == Wait(AWAY_S, ("a file that a lost upload may have left behind",))


class TestWhatOnlyTheUserCanDecide:
    """Nothing new is sent while a failed batch is undecided or a safety stop stands."""

    WORK: tuple[dict[str, Any], ...] = tuple(facts for facts, _ in (*SENDABLE, *PREPARABLE))

    @pytest.mark.parametrize(
        "facts", [*WORK, {}, {"remote_batches": 3}], ids=lambda facts: next(iter(facts), "nothing")
    )
    def test_a_failed_batch_stops_the_run(self, facts: dict[str, Any]) -> None:
        now = replace(IDLE, failed_batches=(BAD,), failures_allowed=0, **facts)
        assert next_step(now) == Over(Ending.STOPPED)

    @pytest.mark.parametrize("facts", WORK, ids=lambda facts: next(iter(facts)))
    def test_a_safety_stop_stops_the_run_and_says_why(self, facts: dict[str, Any]) -> None:
        now = replace(IDLE, safety_stop="2 batches in a row have not passed", **facts)
        assert next_step(now) == Over(Ending.STOPPED, ("2 batches in a row have not passed",))

    @pytest.mark.parametrize("facts", WORK, ids=lambda facts: next(iter(facts)))
    def test_a_safety_stop_does_not_wait_for_what_is_on_the_server(self, facts: dict[str, Any]) -> None:
        """It goes on there meanwhile, and the next run books it."""
        now = replace(IDLE, safety_stop="too many bad batches", remote_batches=3, **facts)
        assert next_step(now) == Over(Ending.STOPPED, ("too many bad batches",))

    def test_with_nothing_more_to_send_a_safety_stop_stops_nothing(self) -> None:
        """All that could cost money is paid for: it is waited for and booked, and then the run is done."""
        now = replace(IDLE, safety_stop="too many bad batches", remote_batches=3)
        assert next_step(now) == Wait(7.0, ("3 batches on the server",))
        assert next_step(replace(now, remote_batches=0)) == Over(Ending.DONE)

    def test_it_stops_the_run_once_there_is_more_to_send(self) -> None:
        """Answers that were waited for can bring retries and follow-ups."""
        now = replace(IDLE, safety_stop="too many bad batches", remote_batches=3)
        assert isinstance(next_step(now), Wait)
        assert next_step(replace(now, piles=(pile(1),))) == Over(Ending.STOPPED, ("too many bad batches",))

    @pytest.mark.parametrize("sealed", [local(41, PASSING), local(41, LASTING), local(41, OF_MODEL)])
    def test_a_batch_that_is_held_is_more_to_send_too(self, sealed: Sealed) -> None:
        now = replace(IDLE, safety_stop="too many bad batches", sealed=(sealed,))
        assert next_step(now) == Over(Ending.STOPPED, ("too many bad batches",))

    def test_a_safety_stop_says_nothing_of_requests_that_wait_for_the_user(self) -> None:
        """What is held is not sent by itself: it is left, and told as such."""
        now = replace(IDLE, safety_stop="too many bad batches", held_requests=2)
        assert next_step(now) == Over(Ending.WORK_LEFT, ("2 requests held",))

    @pytest.mark.parametrize("facts", [{"piles": (pile(full=True),)}, {"sealed": (local(41),)}])
    def test_with_only_process_a_safety_stop_stops_nothing(self, facts: dict[str, Any]) -> None:
        """Nothing would be sent anyway."""
        now = replace(IDLE, generator=Generator.OFF, safety_stop="too many bad batches", remote_batches=3)
        assert next_step(replace(now, **facts)) == Wait(7.0, ("3 batches on the server",))

    @pytest.mark.parametrize(("facts", "step"), BOOKING, ids=lambda value: type(value).__name__)
    @pytest.mark.parametrize("stop", [{"failed_batches": (51,)}, {"safety_stop": "too many bad batches"}])
    def test_what_is_paid_for_is_booked_all_the_same(
        self, facts: dict[str, Any], step: Step, stop: dict[str, Any]
    ) -> None:
        """Good rows are booked and delivered at once, whatever happens to their neighbours."""
        assert next_step(replace(IDLE, **facts, **stop)) == step

    @pytest.mark.parametrize(
        ("allowed", "step"), [(0, Over(Ending.STOPPED)), (1, DecideFailure(BAD)), (2, DecideFailure(BAD))]
    )
    def test_as_many_failures_are_decided_as_the_user_allowed(self, allowed: int, step: Step) -> None:
        assert next_step(replace(IDLE, failed_batches=(BAD, WORSE), failures_allowed=allowed)) == step

    def test_a_failed_batch_is_decided_though_the_run_stops_then(self) -> None:
        """The user has allowed it; the safety stop still stands afterwards."""
        now = replace(
            IDLE, failed_batches=(BAD,), failures_allowed=1, safety_stop="too many bad batches", piles=(pile(),)
        )
        assert next_step(now) == DecideFailure(BAD)
        assert next_step(replace(now, failed_batches=())) == Over(Ending.STOPPED, ("too many bad batches",))


class TestRemainder:
    """What is left when the generator has no more: a big one goes at once, a small one waits for what may still join."""

    SMALL = replace(IDLE, piles=(pile(100),), min_batch_requests=101)

    @pytest.mark.parametrize(("requests", "goes"), [(100, False), (101, True), (102, True)])
    def test_a_big_remainder_goes_at_once(self, requests: int, goes: bool) -> None:
        now = replace(self.SMALL, piles=(pile(requests),), remote_batches=1)
        assert (next_step(now) == Seal(CHAT, MODEL)) == goes

    def test_a_small_remainder_goes_when_nothing_more_can_join(self) -> None:
        assert next_step(self.SMALL) == Seal(CHAT, MODEL)

    @pytest.mark.parametrize(
        "facts",
        [
            {"remote_batches": 1},
            {"doubtful": (Doubtful(21, 5.0),)},
            {"ended": (3,), "server_back_s": AWAY_S},
            {"sealed": (local(41, due_s=60.0),)},
            {"sealed": (local(41),), "server_back_s": AWAY_S},
        ],
        ids=["on the server", "in doubt", "ended", "postponed", "not pushed yet"],
    )
    def test_a_small_remainder_waits_while_a_batch_is_under_way(self, facts: dict[str, Any]) -> None:
        """Its answers may bring retries and follow-ups, which can join."""
        assert isinstance(next_step(replace(self.SMALL, **facts)), Wait)

    @pytest.mark.parametrize(
        ("holds", "waits"),
        [
            ((PASSING,), True),
            ((OF_MODEL,), True),
            ((PASSING, OF_MODEL), True),
            ((LASTING,), False),
            ((PASSING, LASTING), False),
            ((OF_MODEL, LASTING), False),
        ],
        ids=lambda value: "+".join(hold.limit for hold in value) if isinstance(value, tuple) else "",
    )
    def test_a_small_remainder_waits_for_local_batches_that_will_go(self, holds: tuple[Hold, ...], waits: bool) -> None:
        """One that this run cannot send brings no answers, so nothing of it can join."""
        now = replace(self.SMALL, piles=(pile(100, model=OTHER),), sealed=(local(41, *holds),))
        assert (next_step(now) != Seal(CHAT, OTHER)) == waits

    def test_of_many_local_batches_one_that_will_go_is_enough_to_wait_for(self) -> None:
        lasting = (local(41, LASTING), local(42, LASTING))
        assert next_step(replace(self.SMALL, sealed=lasting)) == Seal(CHAT, MODEL)
        now = replace(self.SMALL, sealed=(*lasting, local(43, PASSING)), remote_batches=1)
        assert next_step(now) == Wait(7.0, ("1 batch on the server",))

    @pytest.mark.parametrize(
        "facts",
        [{"orphan_due_s": 5.0}, {"files_to_sweep": True, "server_back_s": AWAY_S}, {"held_requests": 3}],
        ids=lambda facts: next(iter(facts)),
    )
    def test_a_small_remainder_does_not_wait_for_what_brings_no_answers(self, facts: dict[str, Any]) -> None:
        assert next_step(replace(self.SMALL, **facts)) == Seal(CHAT, MODEL)

    @pytest.mark.parametrize("requests", [1, 100, 101, 10_000])
    def test_no_remainder_goes_while_the_generator_has_more(self, requests: int) -> None:
        """What is queued is no remainder yet."""
        now = replace(self.SMALL, piles=(pile(requests),), generator=Generator.OPEN)
        assert next_step(now) == Generate()

    def test_a_full_pile_goes_whatever_is_under_way(self) -> None:
        now = replace(self.SMALL, piles=(pile(1, full=True),), remote_batches=9, generator=Generator.OPEN)
        assert next_step(now) == Seal(CHAT, MODEL)

    def test_each_pile_is_judged_by_itself(self) -> None:
        now = replace(self.SMALL, piles=(pile(100, model="a"), pile(101, model="b")), remote_batches=1)
        assert next_step(now) == Seal(CHAT, "b")


class TestUnpushed:
    """So many local batches wait at most; then preparing pauses."""

    @pytest.mark.parametrize(("waiting", "goes_on"), [(4, True), (5, False), (6, False)])
    @pytest.mark.parametrize("hold", [PASSING, LASTING], ids=["held for now", "held for good"])
    @pytest.mark.parametrize(("facts", "step"), PREPARABLE, ids=lambda value: type(value).__name__)
    def test_preparing_pauses_at_the_limit(
        self, waiting: int, goes_on: bool, hold: Hold, facts: dict[str, Any], step: Step
    ) -> None:
        sealed = tuple(local(number, hold) for number in range(waiting))
        now = replace(IDLE, sealed=sealed, remote_batches=1, max_unpushed_batches=5, **facts)
        if goes_on:
            assert next_step(now) == step
        else:
            assert isinstance(next_step(now), Wait)

    def test_they_are_pushed_all_the_same(self) -> None:
        sealed = tuple(local(number) for number in range(9))
        assert next_step(replace(IDLE, sealed=sealed, max_unpushed_batches=5)) == Push(0)

    def test_a_batch_that_the_server_could_not_take_yet_counts(self) -> None:
        now = replace(IDLE, sealed=(local(1, due_s=9.0),), generator=Generator.OPEN, max_unpushed_batches=1)
        assert isinstance(next_step(now), Wait)
        assert next_step(replace(now, max_unpushed_batches=2)) == Generate()


class TestOneModelIsFull:
    """A batch that waits only for the server to admit more of its model keeps back its model, and no other."""

    WAITING = replace(IDLE, remote_batches=1, sealed=(local(41, OF_MODEL),), max_unpushed_batches=1)

    @pytest.mark.parametrize(
        ("sealed", "waits"),
        [
            (local(1), False),
            (local(1, due_s=9.0), False),
            (local(1, OF_MODEL), True),
            (local(1, OF_MODEL, due_s=9.0), True),
            (local(1, PASSING), False),
            (local(1, LASTING), False),
            (local(1, PASSING, OF_MODEL), False),
            (local(1, OF_MODEL, LASTING), False),
        ],
    )
    def test_it_waits_for_its_model_if_nothing_else_holds_it(self, sealed: Sealed, waits: bool) -> None:
        assert sealed.waits_for_model == waits

    @pytest.mark.parametrize(
        ("holds", "goes"),
        [
            ((), True),
            ((PASSING,), True),
            ((OF_MODEL, PASSING), True),
            ((LASTING,), False),
            ((OF_MODEL, LASTING), False),
        ],
    )
    def test_a_batch_will_go_by_itself_if_all_that_holds_it_clears(self, holds: tuple[Hold, ...], goes: bool) -> None:
        assert local(1, *holds).will_go == goes
        assert local(1, *holds, due_s=9.0).will_go == goes

    @pytest.mark.parametrize("full", [True, False])
    def test_no_more_of_the_model_is_sealed(self, full: bool) -> None:
        """It would only wait as well; in the queue retries can still join it."""
        now = replace(self.WAITING, piles=(pile(500, full=full),))
        assert next_step(now) == Wait(7.0, ("1 batch on the server",))

    @pytest.mark.parametrize("full", [True, False])
    def test_batches_of_other_models_are_sealed(self, full: bool) -> None:
        now = replace(self.WAITING, piles=(pile(500, full=True), pile(500, full=full, model=OTHER)))
        assert next_step(now) == Seal(CHAT, OTHER)

    def test_batches_of_other_models_are_pushed(self) -> None:
        sealed = (local(41, OF_MODEL), local(42, model=OTHER))
        assert next_step(replace(self.WAITING, sealed=sealed)) == Push(42)

    def test_the_generator_is_asked_for_more(self) -> None:
        """Requests of other models may come."""
        now = replace(self.WAITING, piles=(pile(500, full=True),), generator=Generator.OPEN)
        assert next_step(now) == Generate()

    def test_the_model_is_full_for_all_endpoints(self) -> None:
        """The server counts what is enqueued by model."""
        now = replace(self.WAITING, piles=(Pile("/v1/responses", MODEL, 500, True),))
        assert isinstance(next_step(now), Wait)

    @pytest.mark.parametrize(("waiting", "goes_on"), [(0, True), (1, True), (2, False), (3, False)])
    def test_it_takes_no_place_among_those_that_wait_for_other_things(self, waiting: int, goes_on: bool) -> None:
        others = tuple(local(number, PASSING, model=OTHER) for number in range(waiting))
        now = replace(self.WAITING, sealed=(*self.WAITING.sealed, *others), max_unpushed_batches=2)
        step = next_step(replace(now, piles=(pile(500, full=True, model="third"),)))
        assert (step == Seal(CHAT, "third")) == goes_on

    @pytest.mark.parametrize("sealed", [(), (local(41, PASSING),)], ids=["pushed", "held by a limit of all"])
    def test_once_it_waits_no_more_for_its_model_more_of_it_is_sealed(self, sealed: tuple[Sealed, ...]) -> None:
        now = replace(self.WAITING, sealed=sealed, max_unpushed_batches=2, piles=(pile(500, full=True),))
        assert next_step(now) == Seal(CHAT, MODEL)

    def test_what_waits_for_its_model_is_told_if_the_run_ends(self) -> None:
        now = replace(self.WAITING, once=True, piles=(pile(500, full=True),))
        assert next_step(now) == Over(
            Ending.WORK_LEFT,
            (
                "1 batch under way on the server",
                str(OF_MODEL),
                "1 batch prepared, not pushed",
                "500 requests in the queue",
            ),
        )


class TestOnlyProcess:
    """`only_process`: wait for what is on the server and process it; generate, commit, push nothing."""

    OFF = replace(IDLE, generator=Generator.OFF)

    @pytest.mark.parametrize(
        "facts", [facts for facts, _ in (*SENDABLE, PREPARABLE[0])], ids=lambda facts: next(iter(facts))
    )
    def test_it_sends_and_prepares_nothing(self, facts: dict[str, Any]) -> None:
        step = next_step(replace(self.OFF, **facts))
        assert isinstance(step, Over)
        assert step.ending is Ending.WORK_LEFT
        assert step.reasons

    @pytest.mark.parametrize(("facts", "step"), [*BOOKING, FAILED], ids=lambda value: type(value).__name__)
    def test_it_books_all_there_is(self, facts: dict[str, Any], step: Step) -> None:
        assert next_step(replace(self.OFF, **facts)) == step

    def test_it_waits_for_what_is_on_the_server_and_for_nothing_else(self) -> None:
        now = replace(self.OFF, remote_batches=1, sealed=(local(41, due_s=1.0),), poll_due_s=9.0)
        assert next_step(now) == Wait(9.0, ("1 batch on the server",))

    def test_it_ends_when_the_server_has_nothing_more(self) -> None:
        assert next_step(self.OFF) == Over(Ending.DONE)

    def test_what_was_not_sent_is_left_because_the_user_wanted_it(self) -> None:
        """Neither the server nor a limit is to blame."""
        now = replace(self.OFF, sealed=(local(41), local(42)), piles=(pile(7),))
        assert next_step(now) == Over(
            Ending.WORK_LEFT,
            ("2 batches prepared, not pushed, which only_process does not send", "7 requests in the queue"),
        )


class TestServerOutOfReach:
    """Steps that need the server are left out while it is away; all others are done."""

    AWAY = replace(IDLE, server_back_s=AWAY_S)

    @pytest.mark.parametrize(
        "facts",
        [facts for facts, step in RANKING if isinstance(step, WITH_SERVER)],
        ids=lambda facts: next(iter(facts)),
    )
    def test_what_needs_the_server_waits_until_it_is_back(self, facts: dict[str, Any]) -> None:
        step = next_step(replace(self.AWAY, **facts))
        assert isinstance(step, Wait)
        assert step.delay_s == AWAY_S

    @pytest.mark.parametrize(
        ("facts", "step"),
        [(facts, step) for facts, step in RANKING if not isinstance(step, WITH_SERVER)],
        ids=lambda value: type(value).__name__,
    )
    def test_what_needs_no_server_is_done(self, facts: dict[str, Any], step: Step) -> None:
        with_server: dict[str, Any] = {"ended": (1,), "files_to_sweep": True, "orphan_due_s": 0.0}
        assert next_step(replace(self.AWAY, **with_server, **facts)) == step

    @pytest.mark.parametrize(("back_s", "reachable"), [(0.1, False), (0.0, True), (-0.1, True)])
    def test_it_is_tried_again_when_the_time_has_come(self, back_s: float, reachable: bool) -> None:
        step = next_step(replace(IDLE, ended=(3,), server_back_s=back_s))
        assert (step == Settle(3)) == reachable


class TestWait:
    """Waiting is for whatever comes first, and never longer."""

    @pytest.mark.parametrize(
        ("facts", "delay_s", "reason"),
        [
            ({"remote_batches": 1}, 7.0, "1 batch on the server"),
            ({"remote_batches": 1_200}, 7.0, "1,200 batches on the server"),
            ({"doubtful": (Doubtful(1, 9.0), Doubtful(2, 4.0))}, 4.0, "a push whose reply was lost"),
            ({"sealed": (local(41, due_s=12.0),)}, 12.0, "batch 41, which the server could not take yet"),
            ({"orphan_due_s": 2.0}, 2.0, "a file that a lost upload may have left behind"),
            ({"ended": (1,), "server_back_s": 30.0}, 30.0, "the results of ended batches"),
            ({"files_to_sweep": True, "server_back_s": 30.0}, 30.0, "the server, to delete files"),
            ({"files_to_sweep": True, "sweep_due_s": 20.0}, 20.0, "the server, to delete files"),
            ({"awaited": (Awaited(6.0), Awaited(3.0, will_end=False))}, 3.0, "results that did not come yet"),
            ({"orphan_due_s": 0.0, "server_back_s": 30.0}, 30.0, "a file that a lost upload may have left behind"),
        ],
    )
    def test_it_waits_for_what_may_come_and_says_for_what(
        self, facts: dict[str, Any], delay_s: float, reason: str
    ) -> None:
        assert next_step(replace(IDLE, **facts)) == Wait(delay_s, (reason,))

    @given(
        poll_s=st.floats(1, 100),
        doubt_s=st.floats(1, 100),
        batch_s=st.floats(1, 100),
        orphan_s=st.floats(1, 100),
        back_s=st.floats(-10, 100),
    )
    def test_the_smallest_delay_counts(
        self, poll_s: float, doubt_s: float, batch_s: float, orphan_s: float, back_s: float
    ) -> None:
        """But nothing that needs the server is due before it is back."""
        now = replace(
            IDLE,
            remote_batches=1,
            poll_due_s=poll_s,
            doubtful=(Doubtful(1, doubt_s),),
            sealed=(local(41, due_s=batch_s),),
            orphan_due_s=orphan_s,
            server_back_s=back_s,
        )
        step = next_step(now)
        assert isinstance(step, Wait)
        assert step.delay_s == max(back_s, min(poll_s, doubt_s, batch_s, orphan_s))
        assert len(step.reasons) == 4

    def test_a_batch_held_by_a_limit_sets_no_time(self) -> None:
        """It goes when batches end, which only asking tells."""
        now = replace(IDLE, remote_batches=1, sealed=(local(41, PASSING, due_s=1.0), local(42, OF_MODEL, due_s=1.0)))
        assert next_step(now) == Wait(7.0, ("1 batch on the server",))

    @pytest.mark.parametrize(("due_s", "delay_s"), [(1e-9, 0.05), (0.04, 0.05), (0.05, 0.05), (0.06, 0.06)])
    def test_a_wait_is_never_so_short_that_it_spins(self, due_s: float, delay_s: float) -> None:
        step = next_step(replace(IDLE, orphan_due_s=due_s))
        assert isinstance(step, Wait)
        assert step.delay_s == delay_s

    def test_each_reason_is_told_once(self) -> None:
        now = replace(IDLE, doubtful=(Doubtful(1, 3.0), Doubtful(2, 5.0)))
        assert next_step(now) == Wait(3.0, ("a push whose reply was lost",))


class TestOnce:
    """`once`: do what can be done now, and wait for nothing but a judgement that comes soon; work that is left is told."""

    ONCE = replace(IDLE, once=True)

    def test_results_are_waited_for_that_will_be_there_or_given_up_soon(self) -> None:
        """Else no run of a schedule would ever look often enough to give them up."""
        now = replace(self.ONCE, awaited=(Awaited(5.0), Awaited(1.0, will_end=False)), remote_batches=1)
        assert next_step(now) == Wait(5.0, ("results that did not come yet",))

    @pytest.mark.parametrize(
        ("facts", "reasons"),
        [
            ({"remote_batches": 1}, ("1 batch under way on the server",)),
            ({"doubtful": (Doubtful(1, 5.0),)}, ("1 batch under way on the server",)),
            ({"ended": (1, 2), "server_back_s": 5.0}, ("2 batches under way on the server",)),
            ({"awaited": (Awaited(5.0, will_end=False),)}, ("1 batch under way on the server",)),
            ({"awaited": (Awaited(5.0),), "server_back_s": 5.0}, ("1 batch under way on the server",)),
            ({"files_to_sweep": True, "sweep_due_s": 5.0}, ("files on the server are still to be deleted",)),
            (
                {"remote_batches": 2, "doubtful": (Doubtful(1, 5.0),), "ended": (7,), "server_back_s": 5.0},
                ("4 batches under way on the server",),
            ),
            ({"sealed": (local(41, due_s=5.0),)}, ("1 batch prepared, not pushed",)),
            ({"sealed": (local(41, PASSING),)}, (str(PASSING), "1 batch prepared, not pushed")),
            ({"files_to_sweep": True, "server_back_s": 5.0}, ("files on the server are still to be deleted",)),
            ({"orphan_due_s": 5.0}, ("a file of a lost upload may yet turn up on the server",)),
            (
                {"orphan_due_s": 0.0, "server_back_s": 5.0},
                ("a file of a lost upload may yet turn up on the server",),
            ),
            (
                {"remote_batches": 1, "piles": (pile(5),), "min_batch_requests": 6},
                ("1 batch under way on the server", "5 requests in the queue"),
            ),
        ],
    )
    def test_it_ends_where_others_wait_and_tells_what_is_left(
        self, facts: dict[str, Any], reasons: tuple[str, ...]
    ) -> None:
        assert next_step(replace(self.ONCE, **facts)) == Over(Ending.WORK_LEFT, reasons)

    @pytest.mark.parametrize(("facts", "step"), RANKING, ids=lambda value: type(value).__name__)
    def test_it_does_all_that_can_be_done_now(self, facts: dict[str, Any], step: Step) -> None:
        assert next_step(replace(self.ONCE, **facts)) == step

    def test_with_nothing_left_it_is_done(self) -> None:
        assert next_step(self.ONCE) == Over(Ending.DONE)

    def test_a_file_of_a_lost_upload_is_looked_for_and_then_left_to_the_next_run(self) -> None:
        """Every run looks at least once, so runs that never wait find it in the end."""
        assert next_step(replace(self.ONCE, orphan_due_s=0.0)) == FindOrphans()
        step = next_step(replace(self.ONCE, orphan_due_s=1.0))
        assert isinstance(step, Over)
        assert step.ending is Ending.WORK_LEFT


class TestOver:
    """A run is over when nothing can be done and nothing will come; every reason is told."""

    def test_with_nothing_left_the_run_is_done(self) -> None:
        assert next_step(IDLE) == Over(Ending.DONE)

    @pytest.mark.parametrize(
        ("facts", "reasons"),
        [
            ({"sealed": (local(41, LASTING),)}, (str(LASTING), "1 batch prepared, not pushed")),
            ({"held_requests": 1}, ("1 request held",)),
            ({"held_requests": 1_234}, ("1,234 requests held",)),
        ],
    )
    def test_what_is_left_is_told(self, facts: dict[str, Any], reasons: tuple[str, ...]) -> None:
        assert next_step(replace(IDLE, **facts)) == Over(Ending.WORK_LEFT, reasons)

    def test_all_reasons_are_told_each_once(self) -> None:
        other = Hold("max_task_cost", needed=10**12, used=10**12, allowed=10**12, clears=False)
        now = replace(
            IDLE,
            once=True,
            remote_batches=2,
            doubtful=(Doubtful(21, 5.0),),
            ended=(3, 4),
            files_to_sweep=True,
            orphan_due_s=5.0,
            server_back_s=AWAY_S,
            sealed=(local(1, LASTING, other), local(2, LASTING)),
            max_unpushed_batches=2,
            piles=(pile(700, model="a"), pile(300, model="b")),
            generator=Generator.OPEN,
            held_requests=3,
        )
        assert next_step(now) == Over(
            Ending.WORK_LEFT,
            (
                "5 batches under way on the server",
                "files on the server are still to be deleted",
                "a file of a lost upload may yet turn up on the server",
                str(LASTING),
                str(other),
                "2 batches prepared, not pushed",
                "1,000 requests in the queue",
                "the generator has more requests",
                "3 requests held",
            ),
        )

    def test_what_is_held_for_good_is_not_waited_for(self) -> None:
        """With nothing on the server no limit will clear."""
        step = next_step(replace(IDLE, sealed=(local(41, LASTING), local(42, PASSING))))
        assert isinstance(step, Over)
        assert step.ending is Ending.WORK_LEFT


# ------------------------------------------------------------ any situation

delays = st.just(0.0) | st.floats(-10, 100)
numbers = st.lists(st.integers(1, 99), max_size=3, unique=True).map(tuple)
holds = st.lists(st.sampled_from([PASSING, LASTING, OF_MODEL]), max_size=2, unique=True).map(tuple)
situations = st.builds(
    Situation,
    interrupted=st.sampled_from([False] * 9 + [True]),
    ended=numbers,
    awaited=st.lists(st.builds(Awaited, st.floats(0.01, 100), st.booleans()), max_size=2).map(tuple),
    answers_to_hand=st.booleans(),
    rows_to_deliver=st.booleans(),
    files_to_sweep=st.booleans(),
    sweep_due_s=delays,
    doubtful=st.lists(st.builds(Doubtful, st.integers(100, 199), delays), max_size=3).map(tuple),
    failed_batches=numbers,
    failures_allowed=st.integers(0, 2),
    safety_stop=st.none() | st.just("too many bad batches"),
    remote_batches=st.integers(0, 3),
    poll_due_s=delays,
    sealed=st.lists(
        st.builds(Sealed, st.integers(200, 299), st.sampled_from("abc"), holds, delays),
        max_size=3,
        unique_by=lambda sealed: sealed.batch_id,
    ).map(tuple),
    piles=st.lists(
        st.builds(Pile, st.just(CHAT), st.sampled_from("abc"), st.integers(1, 200), st.booleans()), max_size=3
    ).map(tuple),
    held_requests=st.integers(0, 3),
    generator=st.sampled_from(Generator),
    max_unpushed_batches=st.integers(0, 4),
    min_batch_requests=st.integers(1, 200),
    orphan_due_s=st.none() | delays,
    server_back_s=delays,
    once=st.booleans(),
)
quiet_situations = situations.map(
    lambda found: replace(found, interrupted=False, ended=(), answers_to_hand=False, rows_to_deliver=False)
).map(lambda found: replace(found, files_to_sweep=False, failed_batches=(), safety_stop=None))
"""Nothing stands before sending and preparing, more often than not."""
any_situation = situations | quiet_situations


class TestAnySituation:
    """What must hold whatever the situation is."""

    @given(now=any_situation)
    def test_there_is_always_a_next_step(self, now: Situation) -> None:
        assert isinstance(next_step(now), STEPS)

    @given(now=any_situation)
    def test_no_step_needs_a_server_that_is_away(self, now: Situation) -> None:
        if now.server_back_s > 0:
            assert not isinstance(next_step(now), WITH_SERVER)

    @given(now=any_situation)
    def test_nothing_new_is_sent_or_prepared_while_the_user_must_decide(self, now: Situation) -> None:
        if now.failed_batches or now.safety_stop:
            assert not isinstance(next_step(now), SENDING)

    @given(now=any_situation)
    def test_a_safety_stop_stops_what_could_send_more_and_nothing_else(self, now: Situation) -> None:
        """What is paid for is booked, and failed batches are decided, as if it were not there."""
        stopped, free = next_step(replace(now, safety_stop="too bad")), next_step(replace(now, safety_stop=None))
        more = now.generator is not Generator.OFF and (now.sealed or now.piles or now.generator is Generator.OPEN)
        goes_on = isinstance(free, (*SENDING, Wait)) or (
            isinstance(free, Over) and free.ending in (Ending.DONE, Ending.WORK_LEFT)
        )
        assert stopped == (Over(Ending.STOPPED, ("too bad",)) if more and goes_on else free)

    @given(now=any_situation)
    def test_nobody_waits_while_a_failed_batch_is_undecided(self, now: Situation) -> None:
        """The user is asked at once."""
        if now.failed_batches:
            assert not isinstance(next_step(now), Wait)

    @given(now=any_situation)
    def test_nothing_is_sent_or_prepared_with_only_process(self, now: Situation) -> None:
        if now.generator is Generator.OFF:
            assert not isinstance(next_step(now), SENDING)

    @given(now=any_situation)
    def test_nothing_is_sent_before_what_is_paid_for_is_booked(self, now: Situation) -> None:
        if now.answers_to_hand or now.rows_to_deliver or (now.ended and now.server_back_s <= 0):
            assert not isinstance(next_step(now), (*SENDING, Wait, DecideFailure))

    @given(now=any_situation)
    def test_a_held_or_postponed_batch_is_never_pushed(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Push):
            assert any(
                sealed.batch_id == step.batch_id and not sealed.holds and sealed.due_s <= 0 for sealed in now.sealed
            )

    @given(now=any_situation)
    def test_the_server_is_asked_for_nothing_before_it_is_time(self, now: Situation) -> None:
        match next_step(now):
            case FindOrphans():
                assert now.orphan_due_s is not None
                assert now.orphan_due_s <= 0
            case Resolve(push_id):
                assert any(doubt.push_id == push_id and doubt.due_s <= 0 for doubt in now.doubtful)
            case Poll():
                assert now.remote_batches
                assert now.poll_due_s <= 0

    @given(now=any_situation)
    def test_no_more_is_sealed_of_a_model_that_is_full(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Seal):
            assert not [sealed for sealed in now.sealed if sealed.model == step.model and sealed.waits_for_model]

    @given(now=any_situation)
    def test_nothing_is_prepared_at_the_limit_of_local_batches(self, now: Situation) -> None:
        if len([sealed for sealed in now.sealed if not sealed.waits_for_model]) >= now.max_unpushed_batches:
            assert not isinstance(next_step(now), Seal | Generate)

    @given(now=any_situation, number=st.integers(300, 399), due_s=delays)
    def test_a_full_model_changes_nothing_for_the_others(self, now: Situation, number: int, due_s: float) -> None:
        """One more batch that waits for a model of which nothing else is there: steps that send stay the same."""
        more = replace(now, sealed=(*now.sealed, Sealed(number, "full", (OF_MODEL,), due_s)))
        step = next_step(now)
        if isinstance(step, Push | Generate) or (isinstance(step, Seal) and is_full(step, now)):
            assert next_step(more) == step

    @given(now=any_situation)
    def test_a_small_remainder_goes_only_if_nothing_can_join_it(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Seal) and not is_full(step, now):
            assert now.generator is Generator.EXHAUSTED
            big = any(pile.model == step.model and pile.requests >= now.min_batch_requests for pile in now.piles)
            joining = now.remote_batches or now.doubtful or now.ended or now.awaited
            assert big or not (joining or any(sealed.will_go for sealed in now.sealed))

    @given(now=any_situation)
    def test_once_waits_only_for_a_judgement(self, now: Situation) -> None:
        """And where others would not wait, it does the same."""
        step, others = next_step(replace(now, once=True)), next_step(replace(now, once=False))
        if isinstance(others, Wait) and any(batch.will_end for batch in now.awaited) and now.server_back_s <= 0:
            assert isinstance(step, Wait)
        elif isinstance(others, Wait):
            assert isinstance(step, Over)
            assert step.ending is Ending.WORK_LEFT
        else:
            assert step == others

    @given(now=any_situation)
    def test_every_wait_ends_and_says_for_what(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Wait):
            assert 0 < step.delay_s < math.inf
            assert step.reasons

    @given(now=any_situation)
    def test_nobody_waits_longer_than_until_something_is_due(self, now: Situation) -> None:
        """After the wait another step than waiting for the same is possible."""
        step = next_step(now)
        if isinstance(step, Wait):
            assert not isinstance(next_step(later(now, step.delay_s)), Wait)

    @given(now=any_situation)
    def test_a_run_that_is_over_by_itself_is_done_exactly_if_nothing_is_left(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Over) and step.ending in (Ending.DONE, Ending.WORK_LEFT):
            left = any(
                (now.ended, now.awaited, now.doubtful, now.remote_batches, now.sealed, now.piles, now.held_requests)
            )
            on_server = now.files_to_sweep or now.orphan_due_s is not None
            assert (step.ending is Ending.WORK_LEFT) == (left or on_server or now.generator is Generator.OPEN)
            assert not any((now.failed_batches, now.answers_to_hand, now.rows_to_deliver))

    @given(now=any_situation)
    def test_a_run_ends_by_itself_only_if_nothing_more_will_come(self, now: Situation) -> None:
        """Unless it must not wait."""
        step = next_step(now)
        if isinstance(step, Over) and step.ending in (Ending.DONE, Ending.WORK_LEFT) and not now.once:
            assert not any((now.ended, now.awaited, now.doubtful, now.remote_batches, now.files_to_sweep))
            assert now.orphan_due_s is None
            assert now.generator is Generator.OFF or all(sealed.holds for sealed in now.sealed)

    @given(now=any_situation)
    def test_work_that_is_left_is_told(self, now: Situation) -> None:
        step = next_step(now)
        if isinstance(step, Over) and step.ending is Ending.WORK_LEFT:
            assert step.reasons
            assert len(set(step.reasons)) == len(step.reasons)

    @given(now=any_situation)
    def test_deciding_changes_nothing(self, now: Situation) -> None:
        """The same situation gives the same step."""
        assert next_step(now) == next_step(replace(now))


def is_full(step: Seal, now: Situation) -> bool:
    """Whether *step* seals a pile because it is full."""
    return any(pile.full for pile in now.piles if (pile.endpoint, pile.model) == (step.endpoint, step.model))


def later(now: Situation, passed_s: float) -> Situation:
    """The same situation after some time in which nothing happened."""
    passed_s += 1e-6
    awaited = [replace(batch, due_s=batch.due_s - passed_s) for batch in now.awaited]
    return replace(
        now,
        ended=(*now.ended, *(900 + number for number, batch in enumerate(awaited) if batch.due_s <= 0)),
        awaited=tuple(batch for batch in awaited if batch.due_s > 0),
        sweep_due_s=now.sweep_due_s - passed_s,
        poll_due_s=now.poll_due_s - passed_s,
        server_back_s=now.server_back_s - passed_s,
        orphan_due_s=None if now.orphan_due_s is None else now.orphan_due_s - passed_s,
        doubtful=tuple(replace(doubt, due_s=doubt.due_s - passed_s) for doubt in now.doubtful),
        sealed=tuple(replace(sealed, due_s=sealed.due_s - passed_s) for sealed in now.sealed),
    )


def test_a_limit_that_holds_much_is_told_once() -> None:
    """A sealed batch and what is queued wait for the same limit."""
    wide = Hold("max_session_requests", needed=5, used=10, allowed=10, clears=False)
    narrow = replace(wide, needed=1)
    now = Situation(
        generator=Generator.EXHAUSTED,
        sealed=(Sealed(1, "m", (wide,)), Sealed(2, "m", (replace(wide, limit="max_task_cost"),))),
        piles=(Pile("/v1/x", "m", 1, full=False, direct=True, holds=(narrow,)),),
        max_unpushed_batches=2,
        min_batch_requests=10,
    )
    step = next_step(now)
    assert isinstance(step, Over)
    assert [reason.split(":")[0] for reason in step.reasons if ": " in reason] == [
        "max_session_requests",
        "max_task_cost",
    ]
