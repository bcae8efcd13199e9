"""Where a request goes after an answer: the whole table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.outcome import SUCCESS, Outcome, Verdict
from gpt_batch_api.domain.states import REQUEST_MOVES, RequestState
from gpt_batch_api.planning.retrying import Onward, Retrying, may_retry, onward

POLICY = Retrying(max_retries=2, max_expiries=3)

ANSWERED = Onward(RequestState.ANSWERED)
HELD = Onward(RequestState.HELD)
RETRY = Onward(RequestState.QUEUED, counts_attempt=True)
FREE_RETRY = Onward(RequestState.QUEUED, counts_expiry=True)
BACK = Onward(RequestState.QUEUED)

policies = st.builds(Retrying, st.integers(0, 5), st.integers(0, 5))
bad_verdicts = st.sampled_from([verdict for verdict in Verdict if verdict is not Verdict.SUCCESS])


def go(verdict: Verdict, attempt: int, expiries: int, policy: Retrying = POLICY) -> Onward:
    return onward(Outcome(verdict, "some_reason"), attempt=attempt, expiries=expiries, policy=policy)


@pytest.mark.parametrize(
    ("verdict", "attempt", "expiries", "expected"),
    [
        (Verdict.SUCCESS, 1, 0, ANSWERED),
        (Verdict.SUCCESS, 3, 3, ANSWERED),
        (Verdict.SUCCESS, 99, 99, ANSWERED),
        # two retries beyond the first attempt: the third attempt is the last
        (Verdict.RETRYABLE, 1, 0, RETRY),
        (Verdict.RETRYABLE, 2, 0, RETRY),
        (Verdict.RETRYABLE, 3, 0, ANSWERED),
        (Verdict.RETRYABLE, 4, 0, ANSWERED),
        # attempts and expiries do not count against each other
        (Verdict.RETRYABLE, 2, 99, RETRY),
        (Verdict.RETRYABLE, 3, 99, ANSWERED),
        (Verdict.FREE, 1, 0, FREE_RETRY),
        (Verdict.FREE, 1, 2, FREE_RETRY),
        (Verdict.FREE, 1, 3, ANSWERED),
        (Verdict.FREE, 1, 4, ANSWERED),
        (Verdict.FREE, 99, 2, FREE_RETRY),
        # the account's trouble uses nothing up
        (Verdict.ACCOUNT, 1, 0, BACK),
        (Verdict.ACCOUNT, 3, 3, BACK),
        (Verdict.ACCOUNT, 99, 99, BACK),
        # only the user can help
        (Verdict.FATAL, 1, 0, HELD),
        (Verdict.FATAL, 3, 3, HELD),
    ],
)
def test_where_a_request_goes(verdict: Verdict, attempt: int, expiries: int, expected: Onward) -> None:
    assert go(verdict, attempt, expiries) == expected


@pytest.mark.parametrize(("attempt", "expected"), [(1, True), (2, True), (3, False)])
def test_the_first_try_is_no_retry(attempt: int, expected: bool) -> None:
    """Below, at and above the limit of two retries."""
    assert may_retry(attempt=attempt, policy=POLICY) == expected


def test_without_retries_the_first_attempt_is_the_last() -> None:
    policy = Retrying(max_retries=0, max_expiries=0)
    assert not may_retry(attempt=1, policy=policy)
    assert go(Verdict.RETRYABLE, 1, 0, policy) == ANSWERED
    assert go(Verdict.FREE, 1, 0, policy) == ANSWERED


class TestMayGoDirect:
    """Where a request may leave by a direct call, it is never given up because it expired."""

    DIRECT = replace(POLICY, may_go_direct=True)

    @pytest.mark.parametrize(
        ("expiries", "otherwise"), [(0, FREE_RETRY), (2, FREE_RETRY), (3, ANSWERED), (4, ANSWERED), (99, ANSWERED)]
    )
    def test_what_expired_too_often_is_queued_again(self, expiries: int, otherwise: Onward) -> None:
        """Each expiry is counted: by the count the queue knows what goes by direct calls."""
        assert go(Verdict.FREE, 1, expiries, self.DIRECT) == FREE_RETRY
        assert go(Verdict.FREE, 1, expiries, POLICY) == otherwise

    def test_without_free_tries_the_first_expiry_is_enough(self) -> None:
        policy = Retrying(max_retries=0, max_expiries=0, may_go_direct=True)
        assert go(Verdict.FREE, 1, 0, policy) == FREE_RETRY
        assert go(Verdict.RETRYABLE, 1, 0, policy) == ANSWERED

    @given(
        verdict=st.sampled_from([verdict for verdict in Verdict if verdict is not Verdict.FREE]),
        attempt=st.integers(1, 20),
        expiries=st.integers(0, 20),
        policy=policies,
    )
    def test_it_changes_nothing_else(self, verdict: Verdict, attempt: int, expiries: int, policy: Retrying) -> None:
        """Above all, no answer that was paid for is asked for more often."""
        direct = replace(policy, may_go_direct=True)
        assert go(verdict, attempt, expiries, direct) == go(verdict, attempt, expiries, policy)

    def test_it_must_be_wanted(self) -> None:
        assert not Retrying(max_retries=2, max_expiries=3).may_go_direct


def test_a_success_with_a_remark_is_a_success() -> None:
    """Text that was cut off is of use; its reason only tells."""
    cut_off = Outcome(Verdict.SUCCESS, "cut_off", "the text was cut off")
    assert onward(cut_off, attempt=1, expiries=0, policy=POLICY) == ANSWERED
    assert onward(SUCCESS, attempt=1, expiries=0, policy=POLICY) == ANSWERED


@given(verdict=st.sampled_from(Verdict), attempt=st.integers(1, 20), expiries=st.integers(0, 20), policy=policies)
def test_every_step_is_a_legal_move(verdict: Verdict, attempt: int, expiries: int, policy: Retrying) -> None:
    """Of a request in a batch as well as of a direct one; and it counts an attempt or an expiry, never both."""
    step = go(verdict, attempt, expiries, policy)
    assert step.state in REQUEST_MOVES[RequestState.BATCHED]
    assert step.state in REQUEST_MOVES[RequestState.SENDING]
    assert not (step.counts_attempt and step.counts_expiry)
    assert step.state is RequestState.QUEUED or not (step.counts_attempt or step.counts_expiry)


@given(policy=policies, verdicts=st.lists(bad_verdicts.filter(lambda verdict: verdict is not Verdict.ACCOUNT)))
def test_no_request_is_asked_again_without_end(policy: Retrying, verdicts: list[Verdict]) -> None:
    """Whatever goes wrong, in whatever order: at most so many retries and so many free tries."""
    attempt, expiries, tries = 1, 0, 0
    for verdict in verdicts:
        tries += 1
        step = go(verdict, attempt, expiries, policy)
        if step.state is not RequestState.QUEUED:
            break
        attempt += step.counts_attempt
        expiries += step.counts_expiry
    assert tries <= 1 + policy.max_retries + policy.max_expiries
