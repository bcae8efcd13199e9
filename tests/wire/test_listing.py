"""The server's lists are read back as far as something of ours can be in them, however the server lists.

By these lists a batch or a file is found again whose reply was lost. One that is not found is made, and paid, again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from typing import Any

import pytest

from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.domain.errors import Unreachable
from gpt_batch_api.wire import batches, files
from gpt_batch_api.wire.listing import LEAST_PAGES
from gpt_batch_api.wire.transport import Transport
from gpt_batch_api.wire.trouble import Refused
from tests.wire.tiny import Answer, Decide, Seen, TinyServer, document, paged, refusal, talk

NOW = ManualClock().now()
APART_S = 60.0
"""Things were made a minute apart."""

Ids = list[str]
Read = Callable[..., Ids]


def things(count: int, *, now: float = NOW, **more: Any) -> list[dict[str, Any]]:
    """Batches or files, newest first: x-0 is new, x-1 a minute older."""
    return [
        {"id": f"x-{number}", "created_at": int(now - number * APART_S), "filename": f"f-{number}", **more}
        for number in range(count)
    ]


def ids_of(items: Sequence[Mapping[str, Any]]) -> Ids:
    return [str(item["id"]) for item in items]


@pytest.fixture(params=["batches", "files"])
def read(request: pytest.FixtureRequest, server: TinyServer) -> Read:
    """Read the list back in time; the ids in the order in which they came. *told_first*: the server's time is known."""

    def read(*, minutes: float, told_first: bool = False) -> Ids:
        async def call(transport: Transport) -> Ids:
            if told_first:
                await batches.newest_page(transport)
            since = transport.server_now() - minutes * APART_S
            if request.param == "batches":
                return [batch.id async for batch in batches.newest(transport, since=since)]
            return [file.id async for file in files.newest(transport, since=since)]

        return talk(server.url, call)

    return read


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 300, 301, 450])
def test_everything_since_then_is_found(server: TinyServer, read: Read, count: int) -> None:
    """Once each, newest first, over as many pages as it takes, whether the last one is full or not."""
    server.answers(paged(things(count)))
    assert read(minutes=10_000) == ids_of(things(count))


@pytest.mark.parametrize(("tells_more", "last"), [(True, []), (False, ["x-249"])])
def test_each_page_continues_where_the_one_before_ended(
    server: TinyServer, read: Read, tells_more: bool, last: Ids
) -> None:
    """With the id of its last entry. A server that does not say whether there is more is asked until nothing comes."""
    server.answers(paged(things(250), tells_more=tells_more))
    assert len(read(minutes=10_000)) == 250
    assert [seen.query.get("after") for seen in server.requests] == [None, "x-99", "x-199", *last]
    assert {seen.method for seen in server.requests} == {"GET"}
    assert {seen.query["limit"] for seen in server.requests} == {"100"}


def test_reading_stops_in_the_past(server: TinyServer, read: Read) -> None:
    """A shared project has thousands of older things: they are not all read, but what is new is all found."""
    server.answers(paged(things(3000)))
    found = read(minutes=449.5)
    assert found[:450] == ids_of(things(450))
    assert len(server.requests) <= 6


def test_files_are_asked_for_by_purpose_and_newest_first(server: TinyServer) -> None:
    """Other people's files of other kinds are not listed."""
    server.answers(paged(things(1)))

    async def call(transport: Transport) -> list[files.RemoteFile]:
        return [file async for file in files.newest(transport, since=0)]

    assert talk(server.url, call) == [files.RemoteFile("x-0", "f-0", NOW)]
    assert (server.requests[0].path, server.requests[0].query["purpose"]) == ("/files", "batch")
    assert server.requests[0].query["order"] == "desc"


def test_the_first_pages_are_read_whatever_their_times_say(server: TinyServer, read: Read) -> None:
    """The server's time may not be known exactly: three pages, and no more, are read of a list that seems too old."""
    server.answers(paged(things(3000)))
    assert read(minutes=-10_000) == ids_of(things(300))
    assert len(server.requests) == LEAST_PAGES == 3


@pytest.mark.parametrize("tells_more", [True, False])
def test_a_server_with_smaller_pages_is_read_to_the_end(server: TinyServer, read: Read, tells_more: bool) -> None:
    """It gives twenty at most, whatever is asked for. Perhaps it says that there is more, perhaps not."""
    server.answers(paged(things(90), most=20, tells_more=tells_more))
    assert read(minutes=10_000) == ids_of(things(90))


def test_a_full_page_is_the_last_one_if_the_server_says_so(server: TinyServer, read: Read) -> None:
    """It is not asked for what is not there."""
    server.answers(document({"data": things(100), "has_more": False}), refusal(400))
    assert read(minutes=10_000) == ids_of(things(100))


@pytest.mark.parametrize("more", [{}, {"has_more": None}, {"has_more": "yes"}, {"has_more": True}])
def test_what_is_no_end_is_no_end(server: TinyServer, read: Read, more: dict[str, Any]) -> None:
    """Only a plain "no more", or an empty page, ends a list."""
    server.answers(document({"data": things(2), **more}), document({"data": [], **more}))
    assert read(minutes=10) == ["x-0", "x-1"]
    assert len(server.requests) == 2


def test_a_server_that_ignores_where_to_continue_is_not_read_for_ever(server: TinyServer, read: Read) -> None:
    """It shows the first page again and again, and says each time that there is more."""
    server.answers(document({"data": things(100), "has_more": True}))
    assert set(read(minutes=10_000)) == set(ids_of(things(100)))
    assert len(server.requests) == 2


def test_a_server_that_goes_round_is_not_read_for_ever(server: TinyServer, read: Read) -> None:
    """It begins anew after its last page."""
    first, second = things(200)[:100], things(200)[100:]

    def round_and_round(seen: Seen) -> Answer:
        return document({"data": second if seen.query.get("after") == "x-99" else first, "has_more": True})

    server.answers(round_and_round)
    assert read(minutes=10_000)[:200] == ids_of(things(200))
    assert len(server.requests) == 3


@pytest.mark.parametrize("odd", [{"id": None}, {"id": ""}, {"id": 7}, {}, "x", None])
def test_a_last_entry_that_cannot_be_read_ends_nothing(server: TinyServer, read: Read, odd: Any) -> None:
    """The list goes on after the last entry that has an id."""
    server.answers(
        document({"data": [*things(2), odd], "has_more": True}),
        document({"data": things(3)[2:], "has_more": False}),
    )
    assert read(minutes=10) == ["x-0", "x-1", "x-2"]
    assert server.requests[1].query["after"] == "x-1"


def test_an_entry_that_cannot_be_read_ends_nothing(server: TinyServer, read: Read) -> None:
    """One entry of a full page has no id: the pages after it are read all the same."""
    items = things(250)
    items[50] = {"object": "batch", "id": None}
    server.answers(paged(items))
    assert read(minutes=10_000) == ids_of(items[:50] + items[51:])


def test_a_list_that_begins_with_the_oldest_is_read_to_the_end(server: TinyServer, read: Read) -> None:
    """No server promises an order. What was made just now stands last then, behind hundreds of older things."""
    items = things(450)
    server.answers(paged(items[::-1]))
    assert {"x-0", "x-1", "x-2"} <= set(read(minutes=2.5))


@pytest.mark.parametrize("created_at", [None, "2026-11-20T23:00:00Z"])
def test_a_time_that_cannot_be_read_is_not_taken_for_old(server: TinyServer, read: Read, created_at: Any) -> None:
    """Some servers write times otherwise, or not at all: then nothing says that the rest of the list is older."""
    items = [{**item, "created_at": created_at} for item in things(450)]
    server.answers(paged(items))
    assert read(minutes=10) == ids_of(items)


@pytest.mark.parametrize("ahead_s", [-86_400, -7200, -1, 0, 1, 7200, 86_400])
def test_a_server_s_clock_may_be_wrong(server: TinyServer, read: Read, ahead_s: int) -> None:
    """Or ours: what is compared with its list is its own time, which its replies tell."""
    items = things(900, now=NOW + ahead_s)
    server.answers(paged(items, date=formatdate(NOW + ahead_s, usegmt=True)))
    assert read(minutes=449.5, told_first=True)[:450] == ids_of(items[:450])
    assert len(server.requests) <= 1 + 6


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT", "0", "Thu, 01 Jan 1970"])
def test_a_date_that_cannot_be_read_is_no_date(server: TinyServer, read: Read, date: str) -> None:
    """Proxies write strange things."""
    server.answers(paged(things(5), date=date))
    assert len(read(minutes=10)) == 5


def once_in_trouble(answer: Answer, then: Decide) -> Decide:
    """The second page fails the first time."""
    failed = False

    def decide(seen: Seen) -> Answer:
        nonlocal failed
        if "after" in seen.query and not failed:
            failed = True
            return answer
        return then(seen)

    return decide


@pytest.mark.parametrize(
    "answer", [refusal(500), refusal(429, "rate_limit_exceeded"), Answer(200, b'{"data": [', cut_after=5)]
)
def test_trouble_with_a_page_loses_and_doubles_nothing(server: TinyServer, read: Read, answer: Answer) -> None:
    """The page is asked for again."""
    server.answers(once_in_trouble(answer, paged(things(250))))
    assert read(minutes=10_000) == ids_of(things(250))


@pytest.mark.parametrize("data", [None, [], [None, 7, "x", [], {}, {"id": ""}, {"id": None}]])
def test_a_list_of_nothing_readable_is_empty(server: TinyServer, read: Read, data: Any) -> None:
    """No reply makes a look at the list fail."""
    server.answers(document({"object": "list", "data": data}))
    assert read(minutes=10) == []


@pytest.mark.parametrize(
    "content", [{}, {"error": None}, {"data": {}}, {"data": "text"}, {"data": 7}, {"data": False}, []], ids=str
)
def test_a_reply_without_a_list_does_not_mean_that_nothing_is_there(
    server: TinyServer, read: Read, content: Any
) -> None:
    """What is not found in a list is made, and paid, again: it is asked for once more."""
    server.answers(document(content), paged(things(2)))
    assert read(minutes=10) == ["x-0", "x-1"]
    server.answers(document(content))
    with pytest.raises(Unreachable):
        read(minutes=10)


def test_a_list_that_is_refused_is_told(server: TinyServer, read: Read) -> None:
    """Nothing can be concluded from it: least of all that nothing is there."""
    server.answers(refusal(400, message="no lists here"))
    with pytest.raises(Refused, match="no lists here"):
        read(minutes=10)
