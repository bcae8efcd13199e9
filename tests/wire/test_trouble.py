"""What can go wrong with one exchange is told by what is known afterwards: not sent, lost, or refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import AccountError
from gpt_batch_api.endpoints.verdict import BILLING_CODES
from gpt_batch_api.wire import batches, files
from gpt_batch_api.wire.transport import Transport
from gpt_batch_api.wire.trouble import Lost, NotSent, Refused, Trouble, understand
from tests.wire.tiny import (
    AFTER_READING,
    BEFORE_READING,
    CUT_IN_THE_HEAD,
    WHILE_READING,
    Answer,
    TinyServer,
    document,
    refusal,
    talk,
    unused_url,
)

Call = Callable[[Transport], Awaitable[object]]

BATCH = {"id": "batch_1", "status": "validating"}


async def create(transport: Transport) -> batches.RemoteBatch:
    """The call that costs money."""
    return await batches.create(transport, file_id="file-1", endpoint="/v1/chat/completions", metadata={"n": "1"})


def upload_of(path: Path) -> Call:
    return lambda transport: files.upload(transport, path, filename="in.jsonl")


def trouble_of(server: TinyServer, answer: Answer, *, timeout_s: float = 30.0) -> Trouble:
    """What the server's answer to a creation means."""
    server.answers(answer)
    with pytest.raises(Trouble) as caught:
        talk(server.url, create, timeout_s=timeout_s)
    return caught.value


# ---------------------------------------------------------------- exactly once

HARD = {
    "500": refusal(500, "server_error"),
    "502 without a body": Answer(502, b""),
    "503": refusal(503, "server_is_overloaded"),
    "408": refusal(408),
    "409": refusal(409),
    "429": refusal(429, "rate_limit_exceeded"),
    "429 with retry-after": refusal(429, "rate_limit_exceeded", retry_after="0"),
    "429 with retry-after-ms": refusal(429, "rate_limit_exceeded", retry_after_ms="1"),
    "the server says to try again": refusal(500, x_should_retry="true"),
    "400": refusal(400),
    "hung up before reading": BEFORE_READING,
    "hung up while reading": WHILE_READING,
    "hung up after reading": AFTER_READING,
    **CUT_IN_THE_HEAD,
    "reply cut in the middle": Answer(200, json.dumps(BATCH).encode(), cut_after=5),
    "reply cut before its body": Answer(200, json.dumps(BATCH).encode(), cut_after=0),
    "broken JSON": Answer(200, b"{"),
    "no id": document({}),
}


@pytest.mark.parametrize("answer", HARD.values(), ids=HARD)
def test_a_creation_is_sent_exactly_once(server: TinyServer, answer: Answer) -> None:
    """It costs money: whatever comes back, nobody sends it again behind our back."""
    server.answers(answer, document(BATCH))
    with pytest.raises(Trouble):
        talk(server.url, create)
    assert server.connections == 1


@pytest.mark.parametrize("answer", HARD.values(), ids=HARD)
def test_an_upload_is_sent_exactly_once(server: TinyServer, tmp_path: Path, answer: Answer) -> None:
    """A second file would be an orphan on the server."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    server.answers(answer, document({"id": "file-1"}))
    with pytest.raises(Trouble):
        talk(server.url, upload_of(path))
    assert server.connections == 1


def test_a_creation_whose_reply_takes_too_long_is_sent_exactly_once(server: TinyServer) -> None:
    """A timeout is no reason to send it again."""
    held = Answer(hold=threading.Event())
    server.answers(held, document(BATCH))
    try:
        with pytest.raises(Lost):
            talk(server.url, create, timeout_s=0.1)
    finally:
        assert held.hold is not None
        held.hold.set()
    assert server.connections == 1


def test_redirections_do_not_create_twice(server: TinyServer) -> None:
    """A gateway that moves is followed only to where the call then is made: once."""

    def moved(seen: object) -> Answer:
        return Answer(307, b"", {"location": f"{server.url}/batches"})

    server.answers(moved, document(BATCH))
    assert talk(server.url, create).id == "batch_1"
    assert len(server.requests) == 2


# ---------------------------------------------------------------- not sent


def test_a_refused_connection_was_not_sent() -> None:
    """Nobody listens: nothing happened."""
    with pytest.raises(NotSent) as caught:
        talk(unused_url(), create)
    assert str(caught.value)


def test_an_address_that_is_none_was_not_sent() -> None:
    """The call never left."""
    with pytest.raises(NotSent):
        talk("ftp://127.0.0.1/v1", create)


# ---------------------------------------------------------------- lost

LOST = {
    "500": refusal(500, "server_error", "sorry"),
    "500 of a gateway": Answer(500, b"<html>bad gateway</html>"),
    "502": Answer(502, b""),
    "503": refusal(503),
    "504": Answer(504, b"upstream timeout"),
    "520": Answer(520, b""),
    "599": Answer(599, b""),
    "408": refusal(408, "request_timeout"),
    "499 of a gateway that gave up": Answer(499, b""),
    "300 without a place": Answer(300, b""),
    "303 without a place": Answer(303, b""),
    "304": Answer(304, b"", {"content-length": "0"}),
    "202 without a body": Answer(202, b""),
    "sent back and forth for ever": Answer(307, b"", {"location": "/v1/batches"}),
    "sent to no address": Answer(307, b"", {"location": "http://[::1"}),
    "error in an encoding that it is not": Answer(500, b'{"error": {}}', {"content-type": "text/json; charset=utf-16"}),
    "not compressed as it says": Answer(200, json.dumps(BATCH).encode(), {"content-encoding": "gzip"}),
    "hung up after reading": AFTER_READING,
    **CUT_IN_THE_HEAD,
    "reply cut in the middle": Answer(200, json.dumps(BATCH).encode(), cut_after=5),
    "broken JSON": Answer(200, b'{"id": "batch_1'),
    "no JSON": Answer(200, b"<html>welcome</html>"),
    "empty": Answer(200, b""),
    "a list": document([BATCH]),
    "a text": document("batch_1"),
    "null": document(None),
    "a number": document(7),
    "not UTF-8": Answer(200, b'{"id": "\xff\xfe\xfd"}'),
    "half of UTF-16": Answer(200, b"\xff\xfe{"),
    "a number of 5,000 digits": Answer(200, b'{"id": "batch_1", "x": ' + b"9" * 5000 + b"}"),
    "nested too deeply": Answer(200, b'{"id": "batch_1", "x": ' + b"[" * 200_000),
    "no id": document({"status": "validating"}),
    "an empty id": document({"id": ""}),
    "an id that is null": document({"id": None}),
    "an id that is a number": document({"id": 7}),
}


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
def test_without_a_usable_reply_a_creation_is_lost(server: TinyServer, answer: Answer) -> None:
    """It may have acted or not: that must be found out, never guessed."""
    assert isinstance(trouble_of(server, answer), Lost)


@pytest.mark.parametrize("name", ["500", "408", "hung up after reading", "broken JSON", "no id", "an empty id"])
def test_without_a_usable_reply_an_upload_is_lost(server: TinyServer, tmp_path: Path, name: str) -> None:
    """The file may lie on the server."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    server.answers(LOST[name])
    with pytest.raises(Lost):
        talk(server.url, upload_of(path))


def test_a_reply_that_takes_too_long_is_lost(server: TinyServer) -> None:
    """The server got the call."""
    held = Answer(hold=threading.Event())
    assert held.hold is not None
    try:
        assert isinstance(trouble_of(server, held, timeout_s=0.1), Lost)
    finally:
        held.hold.set()
    assert len(server.requests) == 1


def test_a_connection_that_ends_while_sending_is_lost(server: TinyServer, tmp_path: Path) -> None:
    """How much the server took of it is not known."""
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"x" * 30_000_000)
    server.answers(WHILE_READING)
    with pytest.raises(Lost):
        talk(server.url, upload_of(path))


@pytest.mark.parametrize("place", [unused_url(), "ftp://127.0.0.1/v1"], ids=["nobody there", "no such protocol"])
def test_a_call_that_was_sent_elsewhere_and_did_not_arrive_is_lost(server: TinyServer, place: str) -> None:
    """The first server had it in its hands, and may have acted before it pointed to another place."""
    assert isinstance(trouble_of(server, Answer(303, b"", {"location": place})), Lost)


def test_a_lost_reply_says_when_to_come_again(server: TinyServer) -> None:
    """A server that is overloaded does."""
    assert trouble_of(server, refusal(503, "server_is_overloaded", retry_after="30")).retry_after_s == 30.0
    assert trouble_of(server, refusal(503)).retry_after_s is None


def test_a_lost_reply_tells_what_was_seen(server: TinyServer) -> None:
    """Status and the server's words, for the log."""
    assert "503" in str(trouble_of(server, refusal(503, message="sorry, too busy")))
    assert "sorry, too busy" in str(trouble_of(server, refusal(503, message="sorry, too busy")))


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 415, 418, 422, 429])
def test_a_status_of_4xx_is_a_refusal(server: TinyServer, status: int) -> None:
    """The server said no, so nothing happened."""
    trouble = trouble_of(server, refusal(status, "some_code", "some words", kind="some_type", param="some.param"))
    assert isinstance(trouble, Refused)
    assert trouble.status == status
    facts = trouble.error
    assert (facts.code, facts.type, facts.param, facts.message) == (
        "some_code",
        "some_type",
        "some.param",
        "some words",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "in full"}}', "in full"),
        (b'{"error": "as a text"}', "as a text"),
        (b'{"message": "without a frame"}', "without a frame"),
        (b"plain words", "plain words"),
        (b"<html>No</html>", "No"),
        (b'["a list"]', ""),
        (b"", ""),
        (b'{"error": null}', ""),
        (b'{"error": {"message": null, "code": 7}}', ""),
        (b"\xff\xfe\xfd", ""),
        (b'{"error": ' + b"[" * 200_000, ""),
        (b'{"error": {"message": "half \\ud83d of it", "code": "\\udc00", "param": "\\ud83d"}}', "half ? of it"),
    ],
    ids=lambda item: repr(item)[:40],
)
def test_a_refusal_of_any_shape_is_understood(server: TinyServer, body: bytes, message: str) -> None:
    """Other providers word their errors otherwise; some say nothing."""
    trouble = trouble_of(server, Answer(400, body))
    assert isinstance(trouble, Refused)
    assert message in trouble.error.message
    assert str(trouble).encode("utf-8")
    assert "\ud83d" not in trouble.error.param


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "86401"}, 86400.0),
        ({"retry-after": "9" * 400}, 86400.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "1500.5", "retry-after": "9"}, 1.5005),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
    ids=str,
)
def test_a_refusal_says_when_to_come_again(server: TinyServer, headers: dict[str, str], expected: float | None) -> None:
    """In seconds or, more exactly, milliseconds; what is no number of them is no word."""
    body = refusal(429, "rate_limit_exceeded").body
    raw = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    trouble = trouble_of(server, Answer(429, body, raw))
    assert isinstance(trouble, Refused)
    assert trouble.retry_after_s == expected


@pytest.mark.parametrize(
    ("answer", "transient"),
    [
        (refusal(429, "rate_limit_exceeded"), True),
        (refusal(429), True),
        (refusal(429, "slow_down"), True),
        (refusal(409), True),
        (refusal(400), False),
        (refusal(404), False),
        (refusal(422), False),
        (refusal(418), False),
        (refusal(429, "rate_limit_exceeded", "Limit 30000, Requested 34307."), False),
        (refusal(429, "rate_limit_exceeded", "Limit 30000, Used 29000, Requested 4307."), True),
    ],
    ids=lambda item: f"{item.status} {item.body[:60]!r}" if isinstance(item, Answer) else "",
)
def test_a_refusal_says_whether_the_same_call_may_pass_later(
    server: TinyServer, answer: Answer, transient: bool
) -> None:
    """A request larger than the limit has a rate limit's code, and never passes."""
    trouble = trouble_of(server, answer)
    assert isinstance(trouble, Refused)
    assert trouble.is_transient is transient


# ---------------------------------------------------------------- the account


def account_error(server: TinyServer, answer: Answer) -> AccountError:
    server.answers(answer)
    with pytest.raises(AccountError) as caught:
        talk(server.url, create)
    assert server.connections == 1
    return caught.value


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_concerns_the_account(server: TinyServer, status: int) -> None:
    """Nothing of this account will pass: no other call is tried."""
    error = account_error(server, refusal(status, "some_code", "You may not."))
    assert (error.status, error.code) == (status, "some_code")
    assert "You may not." in str(error)


@pytest.mark.parametrize("code", sorted(BILLING_CODES))
def test_a_billing_code_concerns_the_account(server: TinyServer, code: str) -> None:
    """Whether it stands as code or as type, and although its status is that of a rate limit."""
    assert account_error(server, refusal(429, code)).code == code
    server.connections = 0
    assert account_error(server, refusal(429, kind=code)).status == 429


def test_the_account_is_told_from_a_repeated_call_at_once(server: TinyServer) -> None:
    """Looking is not tried five times with a wrong key."""
    server.answers(refusal(401, "invalid_api_key"))
    with pytest.raises(AccountError):
        talk(server.url, lambda transport: batches.retrieve(transport, "batch_1"))
    assert server.connections == 1


# ---------------------------------------------------------------- not of an exchange


@pytest.mark.parametrize("error", [ValueError("ours"), OSError("disk"), KeyError("x"), RuntimeError("bug")])
def test_what_is_no_trouble_of_an_exchange_is_raised_again(error: Exception) -> None:
    """A mistake of ours, or a full disk, is not the network's fault."""
    with pytest.raises(type(error)) as caught:
        understand(error)
    assert caught.value is error


def test_a_mistake_in_our_own_text_is_no_reply(server: TinyServer) -> None:
    """Half a character in what we send is our fault, not the server's, and nothing is sent."""
    server.answers(document(BATCH))
    with pytest.raises(UnicodeEncodeError):
        talk(server.url, lambda transport: batches.retrieve(transport, "\ud83d"))
    assert server.connections == 0


def test_a_connection_error_that_names_no_request_is_understood() -> None:
    """A proxy's, or a test's."""
    import httpx2
    import openai

    error = openai.APIConnectionError(request=httpx2.Request("GET", "http://x"))
    error.__cause__ = httpx2.ConnectError("nobody there")
    assert isinstance(understand(error), NotSent)


@pytest.mark.parametrize("trouble", [NotSent("x"), Lost("x")])
def test_trouble_that_is_understood_stays_as_it_is(trouble: Trouble) -> None:
    """Understanding twice changes nothing."""
    assert understand(trouble) is trouble


def test_a_local_file_that_is_not_there_sends_nothing(server: TinyServer, tmp_path: Path) -> None:
    """And is told as what it is."""
    server.answers(document({"id": "file-1"}))
    with pytest.raises(FileNotFoundError):
        talk(server.url, upload_of(tmp_path / "nowhere.jsonl"))
    assert server.connections == 0
