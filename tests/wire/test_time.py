"""What is compared with the server's lists is kept in the server's time, as far as its replies tell it."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.wire import batches
from gpt_batch_api.wire.listing import server_time
from gpt_batch_api.wire.transport import Transport
from tests.wire.tiny import Answer, Decide, Seen, TinyServer, document, talk

NOW = ManualClock().now()
HOUR_S = 3600.0


def dated(text: str) -> Answer:
    return document({"data": [], "has_more": False}, date=text)


def at(now: float) -> Answer:
    """A reply that names its time."""
    return dated(formatdate(now, usegmt=True))


def ahead_after(server: TinyServer, *answers: Answer | Decide, clock: ManualClock | None = None) -> float:
    """How far the server's time is held to be ahead of ours after it gave *answers*."""
    server.answers(*answers)
    clock = clock or ManualClock()

    async def call(transport: Transport) -> float:
        for _ in answers:
            await batches.newest_page(transport)
        return transport.server_now() - clock.now()

    return talk(server.url, call, clock=clock)


def test_until_the_server_speaks_our_time_counts() -> None:
    """There is no better one."""

    async def call(transport: Transport) -> float:
        assert not transport.was_answered
        return transport.server_now()

    assert talk("http://127.0.0.1:1/v1", call) == NOW


def test_any_reply_shows_that_the_server_has_spoken(server: TinyServer) -> None:
    server.answers(document({"data": [], "has_more": False}))

    async def call(transport: Transport) -> bool:
        await batches.newest_page(transport)
        return transport.was_answered

    assert talk(server.url, call)


@pytest.mark.parametrize("ahead_s", [-86_400.0, -7200.0, -2.0, 0.0, 2.0, 7200.0, 86_400.0])
def test_a_reply_tells_the_server_s_time(server: TinyServer, ahead_s: float) -> None:
    """To the second, in which it is written."""
    assert ahead_s <= ahead_after(server, at(NOW + ahead_s)) <= ahead_s + 1.0


def test_the_last_word_counts(server: TinyServer) -> None:
    """A clock may be corrected, there or here."""
    assert ahead_after(server, at(NOW + 7200), at(NOW - 7200), at(NOW)) == pytest.approx(0.0, abs=1.0)
    clock = ManualClock()

    def set_back(seen: Seen) -> Answer:
        clock.set_back(5 * HOUR_S)
        return at(NOW)

    assert ahead_after(server, at(NOW), set_back, at(NOW), clock=clock) == pytest.approx(5 * HOUR_S, abs=1.0)


def test_server_time_goes_on_between_replies(server: TinyServer) -> None:
    """As fast as ours."""
    server.answers(at(NOW + HOUR_S))
    clock = ManualClock()

    async def call(transport: Transport) -> float:
        await batches.newest_page(transport)
        clock.advance(60.0)
        return transport.server_now()

    assert talk(server.url, call, clock=clock) == pytest.approx(NOW + HOUR_S + 60.0, abs=1.0)


def test_a_reply_that_is_read_late_does_not_turn_time_back(server: TinyServer) -> None:
    """The machine slept for a night between the server's answer and our reading.

    If that night were taken for the server's lag, a creation begun now would look a night old at the next reply: it would
    be given up at once, and paid again.
    """
    clock = ManualClock()

    def then_the_night(seen: Seen) -> Answer:
        answer = at(clock.now())
        clock.advance(8 * HOUR_S)
        return answer

    assert ahead_after(server, at(NOW), then_the_night, clock=clock) == pytest.approx(0.0, abs=1.0)


def test_a_slow_reply_tells_at_least_what_it_must(server: TinyServer) -> None:
    """A long upload, and a server far ahead: it is ahead by as much as its reply proves."""
    clock = ManualClock()

    def slowly(seen: Seen) -> Answer:
        clock.advance(600.0)
        return at(clock.now() + 2 * HOUR_S)

    assert ahead_after(server, slowly, clock=clock) == pytest.approx(2 * HOUR_S, abs=1.0)


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000", "", "UTC"])
def test_a_date_without_a_zone_is_that_of_greenwich(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """Wherever this machine stands."""
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert server_time(f"Sat, 01 Jan 2000 00:00:00 {zone}".strip()) == 946_684_800.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT", "0", "Thu, 01 Jan 1970"])
def test_a_date_that_cannot_be_read_changes_nothing(server: TinyServer, date: str) -> None:
    """Proxies write strange things."""
    assert ahead_after(server, at(NOW + HOUR_S), dated(date)) == pytest.approx(HOUR_S, abs=1.0)


@given(st.text(alphabet="0123456789 ,:+-JanFebGMTo\u0660", max_size=40))
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Mon, 01 Jan 99999999999 00:00:00 GMT")
@example("1 Jan 2000 00:00:00 " + "9" * 400)
@example("1 Jan " + "9" * 5000 + " 00:00:00 GMT")
def test_no_date_makes_reading_fail(text: str) -> None:
    """It is a time, or nothing."""
    told = server_time(text)
    assert told is None or isinstance(told, float)
