"""Answers: booked as they came, handed to the task's code in order and exactly once, and kept as long as wanted."""

from __future__ import annotations

from contextlib import suppress

import pytest

from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.domain.hooks import Ended, ToHand
from gpt_batch_api.domain.outcome import SUCCESS, Outcome, Source, Usage, Verdict
from gpt_batch_api.domain.request import Kind
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import responses
from gpt_batch_api.store.responses import Answer, Awaiting
from tests.store.rig import (
    CHAT,
    FATAL,
    NOW,
    REJECTED,
    RETRYABLE,
    Desk,
    dump,
    ended_as,
    expired,
    fatal,
    good,
    new_request,
    retried,
)


def ended(desk: Desk, *keys: str) -> tuple[int, list[int]]:
    """A batch that is over, and its requests."""
    ids = desk.add(*(keys or ("a", "b", "c")))
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    return batch_id, ids


def raw_count(desk: Desk) -> int:
    return int(desk.one("SELECT count(*) FROM raw_response"))


# ---------------------------------------------------------------- awaited


def test_answers_are_awaited_with_what_is_needed_to_judge_them(desk: Desk) -> None:
    """Those asked about that wait for this very batch; others are strays."""
    batch_id, ids = ended(desk, "a", "b")
    other_batch, others = ended(desk, "c")
    found = responses.awaiting(desk.db, batch_id, [*ids, *others, 999])
    kind = Kind(CHAT, "gpt-4o-mini", 20, 20)
    assert found == {ids[0]: Awaiting(ids[0], 1, 1, 0, 7, 1, kind), ids[1]: Awaiting(ids[1], 1, 1, 0, 7, 2, kind)}
    assert list(responses.awaiting(desk.db, other_batch, ids)) == []


def test_who_has_an_answer_waits_no_more(desk: Desk) -> None:
    """The rest is told in the order of the lines."""
    batch_id, ids = ended(desk)
    with desk.store.transaction() as tx:
        responses.record(tx, [good(ids[1])], batch_id=batch_id, keep_raw=True, now=NOW)
    assert [waiting.id for waiting in responses.unanswered(desk.db, batch_id, limit=9)] == [ids[0], ids[2]]
    assert [waiting.id for waiting in responses.unanswered(desk.db, batch_id, limit=1)] == [ids[0]]
    assert list(responses.awaiting(desk.db, batch_id, ids)) == [ids[0], ids[2]]


# ---------------------------------------------------------------- booked


def test_an_answer_is_booked_as_it_came(desk: Desk) -> None:
    """Raw bytes, verdict, every token and the cost come out again with it."""
    batch_id, (request_id,) = ended(desk, "ä")
    usage = Usage(100, 50, 25, 10, 5)
    raw = b'{"custom_id":"1-1","text":"\xff not UTF-8 \x00"}'
    desk.settle(
        batch_id,
        [Answer(request_id, SUCCESS, RequestState.ANSWERED, status_code=200, usage=usage, cost_pico=77, raw=raw)],
    )
    (answer,) = desk.to_hand()
    assert (answer.raw, answer.outcome, answer.usage, answer.cost_pico) == (raw, SUCCESS, usage, 77)
    assert (answer.request_id, answer.key.sample_key, answer.attempt) == (request_id, "ä", 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (good, ("answered", 1, 1, 0, None)),
        (fatal, ("held", 1, 1, 0, "invalid_request")),
        (retried, ("queued", 2, 1, 0, "server_error")),
        (expired, ("queued", 1, 1, 1, "expired")),
    ],
    ids=["good", "fatal", "retried", "expired"],
)
def test_a_request_goes_where_its_answer_says(desk: Desk, answer: object, expected: tuple[object, ...]) -> None:
    """State, attempts, tries and expiries are counted; it is in no batch any more."""
    assert callable(answer)
    batch_id, (request_id,) = ended(desk, "a")
    desk.settle(batch_id, [answer(request_id)])
    assert desk.table("SELECT state, attempt, tries, expiries, reason FROM request") == [expected]
    assert desk.table("SELECT batch_id, line FROM request") == [(None, None)]


def test_every_try_has_its_own_answer(desk: Desk) -> None:
    """Expired, failed, then good: three answers, each with its money; only the last is handed over."""
    (request_id,) = desk.add("a")
    for answer in (expired(request_id), retried(request_id), good(request_id)):
        batch_id = desk.seal([request_id])
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [answer])
    assert desk.table("SELECT try, attempt, batch_id, verdict, cost_pico, handed FROM response ORDER BY id") == [
        (1, 1, 1, "free", 0, None),
        (2, 1, 2, "retryable", 10, None),
        (3, 2, 3, "success", 30, 0),
    ]
    assert [answer.attempt for answer in desk.to_hand()] == [2]


WORDS = ["half a pair \ud83d", "\udc00 half a pair", "a zero \x00 half", "\u2028 half", "half " * 50_000]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: ascii(words[:12]))
def test_whatever_words_a_server_uses_are_booked(desk: Desk, words: str) -> None:
    """Servers cut messages in the middle of a character: one such line must not keep a whole batch from being booked."""
    batch_id, ids = ended(desk, "a", "b")
    odd = Outcome(Verdict.RETRYABLE, "server_error", words)
    desk.settle(batch_id, [Answer(ids[0], odd, RequestState.ANSWERED), good(ids[1])])
    assert len(desk.to_hand()) == 2
    assert "half" in desk.to_hand()[0].outcome.message


# ---------------------------------------------------------------- handed


def test_answers_are_handed_in_the_order_of_their_booking(desk: Desk) -> None:
    """Whatever the order of samples and requests, a chunk at a time."""
    batch_id, ids = ended(desk, "a", "b", "c", "d")
    order = [ids[2], ids[0], ids[3], ids[1]]
    desk.settle(batch_id, [good(request_id) for request_id in order])
    assert [answer.request_id for answer in desk.to_hand()] == order
    assert [answer.request_id for answer in desk.to_hand(limit=3)] == order[:3]
    desk.hand(dict.fromkeys(order[:3], RequestState.SUCCEEDED))
    assert [answer.request_id for answer in desk.to_hand()] == order[3:]


def test_each_answer_is_handed_exactly_once(desk: Desk) -> None:
    """Chunk after chunk until nothing waits; nothing is shown twice."""
    desk.answered(*(f"s{number}" for number in range(10)))
    seen: list[int] = []
    while responses.any_to_hand(desk.db):
        chunk = desk.to_hand(limit=3)
        desk.hand({answer.request_id: RequestState.SUCCEEDED for answer in chunk})
        seen += (answer.response_id for answer in chunk)
    assert len(seen) == len(set(seen)) == 10


def test_a_chunk_that_was_rolled_back_is_handed_again(desk: Desk) -> None:
    """Whatever stops the process while the task's code runs loses nothing."""
    desk.answered("a", "b")
    before = desk.to_hand()
    endings = [ended_as(answer, RequestState.SUCCEEDED) for answer in before]
    with suppress(KeyboardInterrupt), desk.store.transaction() as tx:
        responses.finish(tx, endings, keep_raw=False)
        raise KeyboardInterrupt
    assert desk.to_hand() == before


def finish(desk: Desk, answer: ToHand, outcome: Outcome, state: RequestState) -> None:
    with desk.store.transaction() as tx:
        responses.finish(tx, [Ended(answer.response_id, answer.request_id, outcome, state)], keep_raw=True)


@pytest.mark.parametrize(
    ("outcome", "state", "attempt", "reason"),
    [
        (SUCCESS, RequestState.SUCCEEDED, 1, None),
        (REJECTED, RequestState.FAILED, 1, "rejected_by_task"),
        (REJECTED, RequestState.QUEUED, 2, "rejected_by_task"),
    ],
)
def test_the_task_s_verdict_is_kept(
    desk: Desk, outcome: Outcome, state: RequestState, attempt: int, reason: str | None
) -> None:
    """Beside the server's own; asking once more counts an attempt."""
    desk.answered("a")
    finish(desk, desk.to_hand()[0], outcome, state)
    assert desk.table("SELECT state, attempt, reason FROM request") == [(state, attempt, reason)]
    assert desk.table("SELECT verdict, handed, task_verdict, task_reason, task_message FROM response") == [
        ("success", 1, outcome.verdict, outcome.reason, outcome.message)
    ]


def test_whatever_words_the_task_uses_are_kept(desk: Desk) -> None:
    """A reason may quote half a character pair from an answer."""
    desk.answered("a")
    finish(desk, desk.to_hand()[0], Outcome(Verdict.RETRYABLE, "odd \ud83d", "words \udc00"), RequestState.FAILED)
    assert desk.table("SELECT request.reason, task_message FROM request JOIN response") == [("odd ?", "words ?")]


def test_an_answer_is_finished_by_its_own_number(desk: Desk) -> None:
    """Ended with another answer's number, it would be handed a second time: that is refused instead."""
    desk.answered("a", "b")
    first, second = desk.to_hand()
    before = dump(desk.db)
    with pytest.raises(InternalError), desk.store.transaction() as tx:
        responses.finish(
            tx, [Ended(second.response_id + 99, first.request_id, SUCCESS, RequestState.SUCCEEDED)], keep_raw=True
        )
    assert dump(desk.db) == before


@pytest.mark.parametrize(("retries", "may"), [(0, False), (1, True), (2, True)])
def test_an_answer_says_whether_its_request_may_be_asked_again(desk: Desk, retries: int, may: bool) -> None:
    """The first attempt may be followed by as many retries as the user allows."""
    desk.answered("a")
    assert desk.to_hand(max_retries=retries)[0].may_retry is may


def test_attempts_are_counted_up_to_the_limit(desk: Desk) -> None:
    """With two retries the third attempt is the last."""
    (request_id,) = desk.answered("a")
    allowed = [desk.to_hand(max_retries=2)[0].may_retry]
    for _ in range(2):
        desk.hand(RequestState.QUEUED)
        batch_id = desk.seal([request_id])
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [good(request_id)])
        allowed.append(desk.to_hand(max_retries=2)[0].may_retry)
    assert allowed == [True, True, False]


def test_a_batch_counts_what_the_task_made_of_its_answers(desk: Desk) -> None:
    """The server's successes that the task rejected are none."""
    desk.answered("a", "b", "c")
    assert responses.succeeded_of(desk.db, Source("batch", 1)) == 0
    first, second, third = (answer.request_id for answer in desk.to_hand())
    desk.hand({first: RequestState.SUCCEEDED, second: RequestState.FAILED, third: RequestState.QUEUED})
    assert responses.succeeded_of(desk.db, Source("batch", 1)) == 1


# ---------------------------------------------------------------- raw answers


def test_raw_answers_are_kept_for_a_reprocess(desk: Desk) -> None:
    """Unless the user does not want it."""
    desk.answered("a")
    desk.hand(keep_raw=True)
    assert raw_count(desk) == 1


@pytest.mark.parametrize("state", [RequestState.SUCCEEDED, RequestState.FAILED, RequestState.QUEUED])
def test_raw_answers_that_are_not_to_be_kept_go_when_they_were_handed(desk: Desk, state: RequestState) -> None:
    """Not before: until the task has seen it, the raw answer is the only copy of what was paid for."""
    first, second = desk.answered("a", "b")
    desk.hand({first: state}, keep_raw=False)
    assert raw_count(desk) == 1
    assert [(answer.request_id, answer.raw) for answer in desk.to_hand()] == [(second, b"{}")]
    assert desk.one("SELECT count(*) FROM response") == 2


def test_without_keep_raw_only_what_the_task_has_still_to_see_is_kept(desk: Desk) -> None:
    """A retried and a held answer leave only their verdicts, a good one its text until it was handed."""
    batch_id, ids = ended(desk, "good", "held", "retried")
    again = Answer(ids[2], RETRYABLE, RequestState.QUEUED, counts_attempt=True, raw=b"{}")
    desk.settle(batch_id, [good(ids[0]), fatal(ids[1]), again], failure="bad", keep_raw=False)
    assert raw_count(desk) == 1
    assert [(answer.request_id, answer.raw) for answer in desk.to_hand()] == [(ids[0], b"{}")]
    with desk.store.transaction() as tx:
        responses.release_held(tx, responses.held_of(tx, Source("batch", batch_id), limit=9), retry=False, now=NOW)
    assert [(answer.outcome, answer.raw) for answer in desk.to_hand()][1:] == [(FATAL, None)]


def test_an_answer_without_raw_bytes_is_handed_too(desk: Desk) -> None:
    """A line that was missing from the result files is an outcome as well."""
    batch_id, (request_id,) = ended(desk, "a")
    missing = Outcome(Verdict.RETRYABLE, "missing", "no answer")
    desk.settle(batch_id, [Answer(request_id, missing, RequestState.ANSWERED)])
    assert [(answer.raw, answer.outcome) for answer in desk.to_hand()] == [(None, missing)]


# ---------------------------------------------------------------- held


def test_held_requests_are_told_with_their_reasons(desk: Desk) -> None:
    """Those of one batch, a page at a time."""
    batch_id, ids = ended(desk)
    desk.settle(batch_id, [fatal(ids[0]), good(ids[1]), fatal(ids[2])], failure="bad")
    other_batch, others = ended(desk, "x")
    desk.settle(other_batch, [fatal(others[0])], failure="bad")
    held = responses.held_of(desk.db, Source("batch", batch_id), limit=9)
    assert [(request.id, request.key.sample_key, request.outcome) for request in held] == [
        (ids[0], "a", FATAL),
        (ids[2], "c", FATAL),
    ]
    assert len(responses.held_of(desk.db, Source("batch", batch_id), limit=1)) == 1


def test_held_requests_wait(desk: Desk) -> None:
    """The task's code sees nothing of them before the user has decided."""
    batch_id, ids = ended(desk, "a")
    desk.settle(batch_id, [fatal(ids[0])], failure="bad")
    assert not responses.any_to_hand(desk.db)


def test_held_requests_are_asked_again(desk: Desk) -> None:
    """If the user wants; that counts an attempt, and the old answer is never handed."""
    batch_id, ids = ended(desk, "a")
    desk.settle(batch_id, [fatal(ids[0])], failure="bad")
    with desk.store.transaction() as tx:
        responses.release_held(tx, responses.held_of(tx, Source("batch", batch_id), limit=9), retry=True, now=NOW)
    assert desk.table("SELECT state, attempt FROM request") == [("queued", 2)]
    assert not responses.any_to_hand(desk.db)
    assert responses.held_of(desk.db, Source("batch", batch_id), limit=9) == []


def test_held_requests_count_as_failed(desk: Desk) -> None:
    """If the user wants; the task's code sees why, once."""
    batch_id, ids = ended(desk, "a")
    desk.settle(batch_id, [fatal(ids[0])], failure="bad")
    with desk.store.transaction() as tx:
        responses.release_held(tx, responses.held_of(tx, Source("batch", batch_id), limit=9), retry=False, now=NOW)
    assert [answer.outcome for answer in desk.hand(RequestState.FAILED)] == [FATAL]
    assert desk.sample("a")["status"] == "failed"
    assert not responses.any_to_hand(desk.db)


def test_a_request_held_twice_belongs_to_its_latest_batch(desk: Desk) -> None:
    """Its first failure was decided; only the second waits."""
    batch_id, ids = ended(desk, "a")
    desk.settle(batch_id, [fatal(ids[0])], failure="bad")
    with desk.store.transaction() as tx:
        responses.release_held(tx, responses.held_of(tx, Source("batch", batch_id), limit=9), retry=True, now=NOW)
    again = desk.seal(ids)
    desk.push(again)
    desk.end(again)
    desk.settle(again, [fatal(ids[0])], failure="bad again")
    assert responses.held_of(desk.db, Source("batch", batch_id), limit=9) == []
    assert [request.id for request in responses.held_of(desk.db, Source("batch", again), limit=9)] == ids


# ---------------------------------------------------------------- samples by status


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([], "pending"),
        (["succeeded"], "succeeded"),
        (["failed"], "failed"),
        (["succeeded", "succeeded"], "succeeded"),
        (["failed", "failed"], "failed"),
        (["succeeded", "failed"], "mixed"),
        (["succeeded", None], "pending"),
        (["failed", None], "pending"),
        (["succeeded", "failed", None], "pending"),
        (["succeeded", "queued"], "pending"),
    ],
)
def test_a_sample_s_status_follows_from_its_requests(desk: Desk, ends: list[str | None], status: str) -> None:
    """Pending while one is open; then succeeded, failed, or mixed."""
    ids = desk.answered(*(new_request("a", number=number) for number in range(len(ends)))) if ends else desk.add("a")
    desk.hand({ids[number]: RequestState(end) for number, end in enumerate(ends) if end})
    assert desk.sample("a")["status"] == status
    assert desk.table("SELECT status, samples FROM sample_tally WHERE samples > 0") == [(status, 1)]


# ---------------------------------------------------------------- seen


def test_what_the_task_has_seen_can_be_shown_again(desk: Desk) -> None:
    """Oldest first, whatever became of it; what waits to be seen, or never will be, is not among it."""
    ids = desk.answered("a", "b", "c")
    shown = desk.hand({ids[0]: RequestState.SUCCEEDED, ids[1]: RequestState.QUEUED})
    assert responses.seen(desk.db, max_retries=2) == shown
    assert [answer.request_id for answer in shown] == ids[:2]
