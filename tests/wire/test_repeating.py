"""Calls that may safely be repeated are: a few times, with pauses of the injected clock, and no longer than makes sense."""

from __future__ import annotations

import pytest

from gpt_batch_api.domain.errors import AccountError, Unreachable
from gpt_batch_api.wire import batches
from gpt_batch_api.wire.transport import Transport
from gpt_batch_api.wire.trouble import Lost, NotSent, Refused
from tests.wire.tiny import (
    AFTER_READING,
    BEFORE_READING,
    Answer,
    TinyServer,
    WatchedClock,
    document,
    refusal,
    talk,
    unused_url,
)

TRIES = 5
LONGEST_PAUSE_S = 8.0
GOOD = document({"id": "batch_1", "status": "completed"})

TRANSIENT = {
    "429": refusal(429, "rate_limit_exceeded"),
    "409": refusal(409),
    "408": refusal(408),
    "500": refusal(500, "server_error"),
    "503": Answer(503, b""),
    "hung up before reading": BEFORE_READING,
    "hung up after reading": AFTER_READING,
    "cut": Answer(200, b"{                     }", cut_after=3),
    "broken JSON": Answer(200, b"{"),
    "a list": document([]),
}


async def look(transport: Transport) -> batches.RemoteBatch | None:
    return await batches.retrieve(transport, "batch_1")


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT)
def test_what_may_pass_another_time_is_tried_again(server: TinyServer, answer: Answer) -> None:
    """Up to the last of five tries."""
    clock = WatchedClock()
    server.answers(*[answer] * (TRIES - 1), GOOD)
    found = talk(server.url, look, clock=clock)
    assert found is not None
    assert found.status == "completed"
    assert (server.connections, len(clock.slept)) == (TRIES, TRIES - 1)


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT)
def test_what_never_passes_is_unreachable_in_the_end(server: TinyServer, answer: Answer) -> None:
    """After five tries, with the last trouble as its cause; one try more would have passed."""
    server.answers(*[answer] * TRIES, GOOD)
    with pytest.raises(Unreachable) as caught:
        talk(server.url, look)
    assert isinstance(caught.value.__cause__, (Lost, NotSent, Refused))
    assert server.connections == TRIES


def test_a_server_that_is_not_there_is_unreachable() -> None:
    """Also after five tries."""
    clock = WatchedClock()
    with pytest.raises(Unreachable, match="cannot be reached"):
        talk(unused_url(), look, clock=clock)
    assert len(clock.slept) == TRIES - 1


def test_pauses_grow_and_stay_short() -> None:
    """By the injected clock only: nobody waits in a test."""
    clock = WatchedClock()
    with pytest.raises(Unreachable):
        talk(unused_url(), look, clock=clock)
    assert all(0 < pause <= LONGEST_PAUSE_S for pause in clock.slept)
    assert clock.slept[-1] > clock.slept[0]
    assert clock.monotonic() == pytest.approx(sum(clock.slept))


@pytest.mark.parametrize("asked_s", ["0.25", "3", "8"])
def test_a_server_that_says_when_is_obeyed(server: TinyServer, asked_s: str) -> None:
    """To the second, up to the longest pause that is worth waiting for on the spot."""
    clock = WatchedClock()
    server.answers(refusal(429, "rate_limit_exceeded", retry_after=asked_s), GOOD)
    assert talk(server.url, look, clock=clock) is not None
    assert clock.slept == [float(asked_s)]


def test_a_server_that_is_overloaded_and_says_when_is_obeyed(server: TinyServer) -> None:
    """Not only a refusal can say it."""
    clock = WatchedClock()
    server.answers(refusal(503, "server_is_overloaded", retry_after="3"), GOOD)
    assert talk(server.url, look, clock=clock) is not None
    assert clock.slept == [3.0]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked_s", ["8.001", "60", "86400"])
def test_a_server_that_wants_a_long_pause_is_left_alone(server: TinyServer, asked_s: str, status: int) -> None:
    """The run has other things to do meanwhile: it learns when to come again."""
    clock = WatchedClock()
    server.answers(refusal(status, "rate_limit_exceeded", retry_after=asked_s), GOOD)
    with pytest.raises(Unreachable) as caught:
        talk(server.url, look, clock=clock)
    assert caught.value.retry_after_s == float(asked_s)
    assert (server.connections, clock.slept) == (1, [])


def test_the_last_word_about_a_pause_is_passed_on(server: TinyServer) -> None:
    """After the last try."""
    server.answers(refusal(429, "rate_limit_exceeded", retry_after="2"))
    with pytest.raises(Unreachable) as caught:
        talk(server.url, look)
    assert caught.value.retry_after_s == 2.0
    assert server.connections == TRIES


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400),
        refusal(405),
        refusal(413),
        refusal(422),
        refusal(429, "rate_limit_exceeded", "Limit 30000, Requested 34307."),
    ],
    ids=lambda answer: str(answer.status),
)
def test_a_refusal_for_good_is_told_at_once(server: TinyServer, answer: Answer) -> None:
    """The same call will never pass."""
    clock = WatchedClock()
    server.answers(answer, GOOD)
    with pytest.raises(Refused) as caught:
        talk(server.url, look, clock=clock)
    assert caught.value.status == answer.status
    assert (server.connections, clock.slept) == (1, [])


def test_trouble_in_between_does_not_hide_a_refusal(server: TinyServer) -> None:
    """Each try is judged by itself."""
    server.answers(refusal(500), AFTER_READING, refusal(400, message="the word that counts"))
    with pytest.raises(Refused, match="the word that counts"):
        talk(server.url, look)
    assert server.connections == 3


def test_a_billing_stop_in_between_is_told_at_once(server: TinyServer) -> None:
    """However it came."""
    server.answers(refusal(500), refusal(429, "insufficient_quota"))
    with pytest.raises(AccountError):
        talk(server.url, look)
    assert server.connections == 2


def test_a_mistake_of_ours_is_not_repeated() -> None:
    """Only trouble of an exchange is."""
    made = 0

    async def mistake() -> None:
        nonlocal made
        made += 1
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        talk(unused_url(), lambda transport: transport.repeatedly(mistake))
    assert made == 1
