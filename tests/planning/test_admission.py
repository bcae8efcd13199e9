"""Whether a batch may go out: every limit at, below and above, and the words for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.limits import BatchLimits, RemoteLimits, TotalLimits
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.planning.admission import Hold, Limits, OnServer, Total, admit, admit_direct

MODEL = "gpt-4o-mini"
BIG = 10**18
FREE = Limits(
    batch=BatchLimits(BIG, BIG, BIG, BIG),
    remote=RemoteLimits(BIG, BIG, BIG, BIG, BIG),
    session=TotalLimits(BIG, BIG, BIG),
    task=TotalLimits(BIG, BIG, BIG),
    direct=TotalLimits(BIG, BIG, BIG),
)
"""No limit at all."""
UNUSED = Total()
EMPTY = OnServer()

SUMS = [("requests", "requests"), ("ktokens", "input_tokens"), ("cost", "cost_pico")]
ON_SERVER = [("requests", "requests"), ("mb", "size_bytes"), ("ktokens", "input_tokens"), ("cost", "cost_pico")]
AROUND = [(99, True), (100, True), (101, False)]
"""(amount, whether it may go) around a limit of 100."""

amounts = st.integers(0, 60)
totals = st.builds(Total, amounts, amounts, amounts)
limit_amounts = st.integers(0, 100)
total_limits = st.builds(TotalLimits, limit_amounts, limit_amounts, limit_amounts)
limits_ = st.builds(
    Limits,
    batch=st.just(FREE.batch),
    remote=st.builds(RemoteLimits, st.integers(0, 4), limit_amounts, limit_amounts, limit_amounts, limit_amounts),
    session=total_limits,
    task=total_limits,
    direct=total_limits,
)
loads = st.builds(Load, st.integers(1, 60), amounts, amounts, amounts, amounts)
on_servers = st.builds(OnServer, st.integers(0, 4), loads, st.just(()) | amounts.map(lambda tokens: ((MODEL, tokens),)))


def holds(
    load: Load = Load(requests=1),
    *,
    task: Total = UNUSED,
    session: Total = UNUSED,
    remote: OnServer = EMPTY,
    limits: Limits = FREE,
    learnt: int | None = None,
) -> tuple[Hold, ...]:
    return admit(load, model=MODEL, task=task, session=session, remote=remote, limits=limits, learnt=learnt)


def limited(scope: str, limit: TotalLimits) -> Limits:
    """Only the sum of *scope* is limited."""
    return replace(FREE, task=limit) if scope == "task" else replace(FREE, session=limit)


class TestTotals:
    """Limits of the task and of the session are sums: once reached they stay reached."""

    @pytest.mark.parametrize("scope", ["task", "session"])
    @pytest.mark.parametrize(("name", "measure"), SUMS)
    @pytest.mark.parametrize(("amount", "may_go"), AROUND)
    def test_a_sum_may_reach_its_limit(self, scope: str, name: str, measure: str, amount: int, may_go: bool) -> None:
        limits = limited(scope, replace(TotalLimits(BIG, BIG, BIG), **{measure: 100}))
        found = admit(
            Load(**{measure: amount - 40}),
            model=MODEL,
            task=Total(**{measure: 40}),
            session=Total(**{measure: 40}),
            remote=OnServer(),
            limits=limits,
        )
        expected = Hold(f"max_{scope}_{name}", needed=amount - 40, used=40, allowed=100, clears=False)
        assert found == (() if may_go else (expected,))

    @pytest.mark.parametrize("scope", ["task", "session"])
    def test_a_limit_lowered_below_what_is_used_holds(self, scope: str) -> None:
        """What was sent in an earlier run counts."""
        limits = limited(scope, TotalLimits(10, BIG, BIG))
        found = holds(task=Total(requests=500), session=Total(requests=500), limits=limits)
        assert found == (Hold(f"max_{scope}_requests", needed=1, used=500, allowed=10, clears=False),)

    def test_a_limit_of_0_on_a_measure_without_weight_holds_nothing(self) -> None:
        """A free server under a budget of nothing."""
        limits = replace(FREE, task=TotalLimits(BIG, BIG, 0), session=TotalLimits(BIG, BIG, 0))
        assert holds(Load(requests=5, input_tokens=10), limits=limits) == ()

    def test_max_session_requests_0_sends_nothing(self) -> None:
        limits = replace(FREE, session=TotalLimits(0, BIG, BIG))
        assert [hold.limit for hold in holds(limits=limits)] == ["max_session_requests"]


class TestOnServer:
    """Limits of what may be on the server at once clear by themselves as batches end."""

    @pytest.mark.parametrize(("name", "measure"), ON_SERVER)
    @pytest.mark.parametrize(("amount", "may_go"), AROUND)
    def test_the_server_may_hold_as_much_as_its_limit(self, name: str, measure: str, amount: int, may_go: bool) -> None:
        limits = replace(FREE, remote=replace(FREE.remote, **{measure: 100}))
        found = holds(Load(**{measure: amount - 40}), remote=OnServer(1, Load(**{measure: 40})), limits=limits)
        expected = Hold(f"max_remote_{name}", needed=amount - 40, used=40, allowed=100, clears=True)
        assert found == (() if may_go else (expected,))

    @pytest.mark.parametrize(("name", "measure"), ON_SERVER)
    @pytest.mark.parametrize(("amount", "clears"), [(99, True), (100, True), (101, False)])
    def test_a_hold_clears_if_the_batch_would_fit_on_an_empty_server(
        self, name: str, measure: str, amount: int, clears: bool
    ) -> None:
        limits = replace(FREE, remote=replace(FREE.remote, **{measure: 100}))
        (hold,) = holds(Load(**{measure: amount}), remote=OnServer(1, Load(**{measure: 60})), limits=limits)
        assert hold.clears == clears

    @pytest.mark.parametrize(("batches", "may_go"), [(1, True), (2, True), (3, False), (4, False)])
    def test_one_more_batch_may_reach_the_limit_of_batches(self, batches: int, may_go: bool) -> None:
        limits = replace(FREE, remote=replace(FREE.remote, batches=3))
        expected = Hold("max_remote_batches", needed=1, used=batches, allowed=3, clears=True)
        assert holds(remote=OnServer(batches), limits=limits) == (() if may_go else (expected,))

    def test_max_remote_batches_0_holds_for_good(self) -> None:
        """Legal, and means: prepare, but send nothing."""
        limits = replace(FREE, remote=replace(FREE.remote, batches=0))
        assert holds(limits=limits) == (Hold("max_remote_batches", needed=1, used=0, allowed=0, clears=False),)


class TestLearntLimit:
    """The number of enqueued tokens that the server is known to admit for a model."""

    @pytest.mark.parametrize(("tokens", "may_go"), AROUND)
    def test_the_learnt_limit_may_be_reached(self, tokens: int, may_go: bool) -> None:
        found = holds(
            Load(requests=1, input_tokens=tokens - 40), remote=OnServer(model_tokens=((MODEL, 40),)), learnt=100
        )
        name = f"the server's limit for {MODEL}"
        expected = Hold(name, needed=tokens - 40, used=40, allowed=100, clears=True, of_model=True)
        assert found == (() if may_go else (expected,))

    def test_it_alone_is_told_to_be_of_the_model(self) -> None:
        """By that mark other models are known not to be concerned; every other limit concerns all."""
        nothing = TotalLimits(0, 0, 0)
        limits = replace(FREE, task=nothing, session=nothing, remote=RemoteLimits(0, 0, 0, 0, 0))
        found = holds(Load(1, 1, 1, 1, 1), remote=OnServer(1, Load(), ((MODEL, 1),)), limits=limits, learnt=1)
        assert [hold.limit for hold in found if hold.of_model] == [f"the server's limit for {MODEL}"]
        assert len(found) == 12

    @pytest.mark.parametrize(
        "remote",
        [
            OnServer(),
            OnServer(2, Load(input_tokens=10**9), model_tokens=(("gpt-4o", 10**9),)),
            OnServer(1, Load(input_tokens=0), model_tokens=((MODEL, 0),)),
        ],
        ids=["nothing", "another model", "no tokens"],
    )
    def test_with_nothing_of_the_model_enqueued_the_server_is_asked_again(self, remote: OnServer) -> None:
        """The limit may have been raised; only trying tells."""
        assert holds(Load(requests=1, input_tokens=10**6), remote=remote, learnt=100) == ()

    def test_tokens_of_other_models_do_not_count(self) -> None:
        remote = OnServer(2, model_tokens=(("gpt-4o", 10**9), (MODEL, 40)))
        assert holds(Load(requests=1, input_tokens=60), remote=remote, learnt=100) == ()

    def test_nothing_learnt_holds_nothing(self) -> None:
        remote = OnServer(1, model_tokens=((MODEL, 10**12),))
        assert holds(Load(requests=1, input_tokens=10**9), remote=remote) == ()


class TestDirect:
    """A direct call is limited by the sums of task and session; what is on the server at once is no matter."""

    @pytest.mark.parametrize("scope", ["task", "session"])
    @pytest.mark.parametrize(("name", "measure"), SUMS)
    @pytest.mark.parametrize(("amount", "may_go"), AROUND)
    def test_a_sum_may_reach_its_limit(self, scope: str, name: str, measure: str, amount: int, may_go: bool) -> None:
        limits = limited(scope, replace(TotalLimits(BIG, BIG, BIG), **{measure: 100}))
        used = Total(**{measure: 40})
        found = admit_direct(Load(**{measure: amount - 40}), task=used, session=used, limits=limits)
        expected = Hold(f"max_{scope}_{name}", needed=amount - 40, used=40, allowed=100, clears=False)
        assert found == (() if may_go else (expected,))

    def test_every_reason_is_given(self) -> None:
        """Task first, then session, as for a batch."""
        nothing = TotalLimits(0, 0, 0)
        found = admit_direct(
            Load(1, 1, 1, 1, 1), task=UNUSED, session=UNUSED, limits=replace(FREE, task=nothing, session=nothing)
        )
        assert [hold.limit for hold in found] == [
            *("max_task_requests", "max_task_ktokens", "max_task_cost"),
            *("max_session_requests", "max_session_ktokens", "max_session_cost"),
        ]

    def test_limits_of_batches_do_not_hold_it(self) -> None:
        """Nor do those of a group of calls: these are weighed together only when their answers are looked at."""
        nothing = TotalLimits(0, 0, 0)
        limits = replace(FREE, batch=BatchLimits(0, 0, 0, 0), remote=RemoteLimits(0, 0, 0, 0, 0), direct=nothing)
        assert admit_direct(Load(1, 1, 1, 1, 1), task=UNUSED, session=UNUSED, limits=limits) == ()

    @given(load=loads, task=totals, session=totals, remote=on_servers, limits=limits_, learnt=st.none() | amounts)
    def test_it_is_held_by_what_would_hold_a_batch_for_good_and_by_nothing_else(
        self, load: Load, task: Total, session: Total, remote: OnServer, limits: Limits, learnt: int | None
    ) -> None:
        """So what may not leave by a direct call may not leave in a batch either."""
        found = admit_direct(load, task=task, session=session, limits=limits)
        as_a_batch = holds(load, task=task, session=session, remote=remote, limits=limits, learnt=learnt)
        assert not any(hold.clears or hold.of_model for hold in found)
        assert found == as_a_batch[: len(found)]
        assert all(hold.limit.startswith(("max_remote_", "the server's limit")) for hold in as_a_batch[len(found) :])


class TestAll:
    """All checks together."""

    def test_every_reason_is_given(self) -> None:
        """Task first, then session, then server: in one go, so that the user can mend all."""
        nothing = TotalLimits(0, 0, 0)
        limits = replace(FREE, task=nothing, session=nothing, remote=RemoteLimits(0, 0, 0, 0, 0))
        found = holds(Load(1, 1, 1, 1, 1), remote=OnServer(1, Load(), ((MODEL, 1),)), limits=limits, learnt=1)
        assert [hold.limit for hold in found] == [
            *("max_task_requests", "max_task_ktokens", "max_task_cost"),
            *("max_session_requests", "max_session_ktokens", "max_session_cost"),
            *("max_remote_batches", "max_remote_requests", "max_remote_mb", "max_remote_ktokens", "max_remote_cost"),
            f"the server's limit for {MODEL}",
        ]

    @given(load=loads, task=totals, session=totals, remote=on_servers, limits=limits_, learnt=st.none() | amounts)
    def test_a_batch_goes_only_if_every_limit_holds_afterwards(
        self, load: Load, task: Total, session: Total, remote: OnServer, limits: Limits, learnt: int | None
    ) -> None:
        """Exactly then: nothing over a limit goes, nothing under all of them is held."""
        fits = (
            all(
                getattr(used, measure) + getattr(load, measure) <= getattr(limit, measure)
                for used, limit in ((task, limits.task), (session, limits.session))
                for _, measure in SUMS
            )
            and all(
                getattr(remote.load, measure) + getattr(load, measure) <= getattr(limits.remote, measure)
                for _, measure in ON_SERVER
            )
            and remote.batches + 1 <= limits.remote.batches
            and (learnt is None or not remote.tokens_of(MODEL) or remote.tokens_of(MODEL) + load.input_tokens <= learnt)
        )
        found = holds(load, task=task, session=session, remote=remote, limits=limits, learnt=learnt)
        assert (not found) == fits

    @given(load=loads, task=totals, session=totals, remote=on_servers, limits=limits_, learnt=st.none() | amounts)
    def test_each_hold_tells_true_numbers(
        self, load: Load, task: Total, session: Total, remote: OnServer, limits: Limits, learnt: int | None
    ) -> None:
        for hold in holds(load, task=task, session=session, remote=remote, limits=limits, learnt=learnt):
            assert hold.used + hold.needed > hold.allowed

    @given(load=loads, task=totals, session=totals, remote=on_servers, limits=limits_, learnt=st.none() | amounts)
    def test_what_clears_is_gone_once_the_server_is_empty(
        self, load: Load, task: Total, session: Total, remote: OnServer, limits: Limits, learnt: int | None
    ) -> None:
        """And what does not clear is still there: waiting for it would never end."""
        now = holds(load, task=task, session=session, remote=remote, limits=limits, learnt=learnt)
        later = holds(load, task=task, session=session, limits=limits, learnt=learnt)
        assert {hold.limit for hold in now if not hold.clears} == {hold.limit for hold in later}

    def test_limits_come_from_the_settings(self) -> None:
        settings = Settings.from_values({"max_session_requests": 7, "max_remote_batches": 3}, environ={})
        limits = Limits.of(settings)
        assert limits == Limits(
            batch=BatchLimits.of(settings),
            remote=RemoteLimits.of(settings),
            session=TotalLimits.of_session(settings),
            task=TotalLimits.of_task(settings),
            direct=TotalLimits.of_direct(settings),
        )
        assert (limits.session.requests, limits.remote.batches) == (7, 3)
        assert limits.task.requests > limits.session.requests


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        (
            Hold("max_task_requests", needed=1_500, used=99_000, allowed=100_000, clears=False),
            "max_task_requests: 99,000 of 100,000 used, 1,500 more needed",
        ),
        (
            Hold("max_remote_batches", needed=1, used=15, allowed=15, clears=True),
            "max_remote_batches: 15 of 15 used, 1 more needed",
        ),
        (
            Hold("max_session_ktokens", needed=20_000, used=4_990_000, allowed=5_000_000, clears=False),
            "max_session_ktokens: 4,990,000 tokens of 5,000,000 tokens used, 20,000 tokens more needed",
        ),
        (
            Hold("max_task_cost", needed=1_500_000_000_000, used=9 * 10**12, allowed=10 * 10**12, clears=False),
            "max_task_cost: $9.00 of $10.00 used, $1.50 more needed",
        ),
        (
            Hold("max_remote_mb", needed=1_500_000, used=99_000_000, allowed=100_000_000, clears=True),
            "max_remote_mb: 99.00 MB of 100.00 MB used, 1.50 MB more needed",
        ),
        (
            Hold("max_task_ktokens", needed=1, used=1_000, allowed=1_000, clears=False),
            "max_task_ktokens: 1,000 tokens of 1,000 tokens used, 1 tokens more needed",
        ),
        (
            Hold("the server's limit for gpt-4o", 50_000, used=60_000, allowed=90_000, clears=True, of_model=True),
            "the server's limit for gpt-4o: 60,000 tokens of 90,000 tokens used, 50,000 tokens more needed",
        ),
    ],
    ids=lambda value: value.limit if isinstance(value, Hold) else "",
)
def test_a_hold_says_what_is_used_allowed_and_needed(hold: Hold, words: str) -> None:
    """Tokens are told one by one: what little is missing would not show in thousands."""
    assert str(hold) == words
