"""The key goes to the server and nowhere else."""

from __future__ import annotations

import traceback

import pytest

from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.domain.errors import AccountError, GPTBatchError, SettingError
from gpt_batch_api.wire import batches
from gpt_batch_api.wire.transport import Server, Transport
from gpt_batch_api.wire.trouble import Trouble
from tests.wire.tiny import AFTER_READING, KEY, Answer, TinyServer, document, refusal, talk, tiny_server, unused_url

GOOD = document({"id": "batch_1"})


async def look(transport: Transport) -> batches.RemoteBatch | None:
    return await batches.retrieve(transport, "batch_1")


@pytest.mark.parametrize("url", [None, "https://example.org/v1"])
def test_without_a_key_there_is_no_transport(url: str | None) -> None:
    """The text names the setting, and the way to try without one."""
    with pytest.raises(SettingError, match="OPENAI_API_KEY") as caught:
        Transport(Server("", url), clock=ManualClock())
    assert caught.value.names == ("openai_api_key",)
    assert "--sandbox" in str(caught.value)


def test_the_key_is_not_shown() -> None:
    """Neither by the server's facts nor by the transport, however they are printed."""
    server = Server(KEY, "https://example.org/v1", "org-x", "proj-y")
    transport = Transport(server, clock=ManualClock())
    shown = [repr(server), str(server), f"{server}", repr(transport), str([server, transport])]
    assert [text for text in shown if KEY in text] == []
    assert "example.org" in repr(server)
    assert "default" in repr(Server(KEY))


def test_the_key_goes_to_the_server(server: TinyServer) -> None:
    """With organisation and project, where they are given."""
    server.answers(GOOD)
    talk(server.url, look, organization="org-x", project="proj-y")
    headers = server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-x", "proj-y")


TROUBLES = {
    "401": refusal(401, "invalid_api_key", "Incorrect API key provided: sk-very***6789."),
    "401 that repeats the key everywhere": refusal(401, f"code {KEY}", f"a {KEY} b {KEY}", kind=KEY, param=KEY),
    "400 that repeats the key everywhere": refusal(400, f"code {KEY}", f"a {KEY} b {KEY}", kind=KEY, param=KEY),
    "500 that repeats the key": refusal(500, "server_error", f"broke on {KEY}"),
    "401 that repeats the key": refusal(401, "invalid_api_key", f"Incorrect API key provided: {KEY}."),
    "400 that repeats the headers": Answer(400, f"bad header Authorization: Bearer {KEY}".encode()),
    "500": refusal(500),
    "hung up": AFTER_READING,
    "broken": Answer(200, b"{"),
}


@pytest.mark.parametrize("answer", TROUBLES.values(), ids=TROUBLES)
def test_the_key_is_in_no_error(server: TinyServer, answer: Answer) -> None:
    """Not in its text, which goes to the log, the store and the screen, and not in its traceback either."""
    server.answers(answer)
    with pytest.raises((GPTBatchError, Trouble)) as caught:
        talk(server.url, look)
    error = caught.value
    assert KEY not in str(error)
    assert KEY not in repr(error)
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY not in str(vars(error))


def test_a_short_key_spoils_no_words(server: TinyServer) -> None:
    """For a server that wants no key people write any word; it may stand in all that the server says."""
    server.answers(refusal(429, "insufficient_quota", "No quota left. No tokens."))
    for key in ("n", "quota", "token", "EMPTY", "sandbox"):
        with pytest.raises(AccountError, match=r"No quota left\. No tokens\.") as caught:
            talk(server.url, look, key=key)
        assert caught.value.code == "insufficient_quota"


def test_the_key_is_not_sent_to_another_server(server: TinyServer) -> None:
    """To which the first one points."""
    server.answers(GOOD)
    with tiny_server() as first:
        first.answers(Answer(307, b"", {"location": f"{server.url}/batches/batch_1"}))
        assert talk(first.url, look) is not None
        assert first.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert [str(seen.headers) for seen in server.requests if KEY in str(seen.headers)] == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["https://me:secret@example.org/v1", "https://secret@example.org/v1"])
def test_a_password_in_the_address_is_not_shown(url: str) -> None:
    """Some gateways want one."""
    assert repr(Server(KEY, url)) == "Server(https://example.org/v1)"


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:port/v1", "http://127.0.0.1:1/v1\n", "http://xn--ü/v1"], ids=ascii
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    """In one line that names the setting."""
    with pytest.raises(SettingError, match="client_base_url"):
        talk(url, look)


@pytest.mark.parametrize("end", ["", " ", "\n", "\r\n", "\u2028"], ids=ascii)
def test_organization_and_project_are_sent_without_what_copying_added(server: TinyServer, end: str) -> None:
    """A line end would make every call fail."""
    server.answers(GOOD)
    talk(server.url, look, organization=f" org-1{end}", project=f"{end}proj-1{end}")
    headers = server.requests[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")


@pytest.mark.parametrize("name", ["organization", "project"])
@pytest.mark.parametrize("odd", ["x-ü", "x\x00", "x\n1", "x\u20281"], ids=ascii)
def test_an_organization_or_project_that_no_header_can_carry_is_told(name: str, odd: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SettingError, match=name) as caught:
        Transport(Server(KEY, None, **{name: odd}), clock=ManualClock())
    assert caught.value.names == (f"openai_{name}",)


def test_the_key_is_in_no_traceback() -> None:
    """Of a server that is not there."""
    with pytest.raises(GPTBatchError) as caught:
        talk(unused_url(), look)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "odd", [f"{KEY}\n", f"{KEY}\r\n", f" {KEY}", f"{KEY}\x00", f"{KEY}é", f"{KEY}\u2028"], ids=ascii
)
def test_a_key_that_no_header_can_carry_is_told_without_showing_it(server: TinyServer, odd: str) -> None:
    """A line end read from a file, a letter of another alphabet: it works, or one line says what is wrong with the key."""
    server.answers(GOOD)
    try:
        found = talk(server.url, look, key=odd)
    except GPTBatchError as error:
        assert KEY not in str(error)  # noqa: PT017
        assert isinstance(error, SettingError)  # noqa: PT017
    else:
        assert found is not None
