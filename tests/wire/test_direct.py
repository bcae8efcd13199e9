"""One direct call: exact bytes out, the reply's bytes back; and what trouble on the way says about the server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import AccountError, SettingError
from gpt_batch_api.wire import batches, direct
from gpt_batch_api.wire.connections import Connections
from gpt_batch_api.wire.transport import Transport
from gpt_batch_api.wire.trouble import Lost, NotSent
from tests.wire.tiny import (
    AFTER_READING,
    BEFORE_READING,
    CUT_IN_THE_HEAD,
    KEY,
    WHILE_READING,
    Answer,
    TinyServer,
    document,
    refusal,
    talk,
    tiny_server,
    unused_url,
)

BODY = b'{"model": "m",  "messages": [], "x": "\xc3\xa9"}'
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def ask(transport: Transport) -> direct.Reply:
    return await direct.ask(transport, endpoint="/v1/chat/completions", body=BODY, timeout_s=0.5)


# ---------------------------------------------------------------- what is sent


def test_the_bytes_go_as_they_are(server: TinyServer) -> None:
    """They were counted, hashed and stored; nobody words them anew."""
    server.answers(document({"id": "x"}))
    reply = talk(server.url, ask)
    assert (reply.status, reply.body) == (200, {"id": "x"})
    [seen] = server.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/chat/completions", BODY)


def test_the_server_is_told_what_the_official_client_tells_it(server: TinyServer) -> None:
    """Who asks, by which organization and project, what is sent, what is understood."""
    server.answers(document({"id": "x"}))

    async def both(transport: Transport) -> None:
        await ask(transport)
        await transport.client.post("/chat/completions", cast_to=object, body={})

    talk(server.url, both, organization="org-1", project="proj-1")
    ours, theirs = ({name.lower(): value for name, value in seen.headers.items()} for seen in server.requests)
    beside = {"content-length", "accept-encoding", "connection", "host"}
    of_each_call = {name for name in theirs if name.startswith(("x-stainless-retry", "x-stainless-read"))}
    assert {name: value for name, value in ours.items() if name not in beside} == {
        name: value for name, value in theirs.items() if name not in beside | of_each_call
    }
    assert ours["authorization"] == f"Bearer {KEY}"
    assert (ours["openai-organization"], ours["openai-project"]) == ("org-1", "proj-1")


def test_no_cookie_is_kept(server: TinyServer) -> None:
    """Nothing but the request decides what a server answers."""
    server.answers(document({}, set_cookie="session=1"))

    async def twice(transport: Transport) -> None:
        await ask(transport)
        await ask(transport)

    talk(server.url, twice)
    assert len(server.requests) == 2
    assert not any(seen.headers["cookie"] for seen in server.requests)


def test_a_call_is_followed_to_where_the_server_has_moved(server: TinyServer) -> None:
    """As the official client does it."""
    server.answers(Answer(308, b"", {"location": f"{server.url}/elsewhere"}), document({"id": "x"}))
    assert talk(server.url, ask).body == {"id": "x"}
    assert [(seen.path, seen.body) for seen in server.requests] == [("/chat/completions", BODY), ("/elsewhere", BODY)]


@pytest.mark.parametrize("moved", [False, True], ids=["as it is", "to where the server has moved"])
def test_a_big_body_is_a_body_like_any_other(server: TinyServer, moved: bool) -> None:
    """A few pictures are some megabytes."""
    body = b'{"x": "' + bytes(range(32, 34)) * 2_000_000 + b'"}'
    if moved:
        server.answers(Answer(308, b"", {"location": f"{server.url}/elsewhere"}), document({"id": "x"}))
    else:
        server.answers(document({"id": "x"}))

    async def send(transport: Transport) -> direct.Reply:
        return await direct.ask(transport, endpoint="/v1/chat/completions", body=body, timeout_s=30)

    assert talk(server.url, send).body == {"id": "x"}
    for seen in server.requests:
        assert seen.body == body
        assert seen.headers["content-length"] == str(len(body))
        assert seen.headers["content-type"] == "application/json"


def test_the_key_does_not_go_to_another_server(server: TinyServer) -> None:
    """A redirection may point anywhere."""
    with tiny_server() as other:
        server.answers(Answer(308, b"", {"location": f"{other.url}/here"}))
        other.answers(document({"id": "x"}))
        assert talk(server.url, ask).body == {"id": "x"}
        [seen] = other.requests
        assert seen.headers["authorization"] is None


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
def test_a_reply_of_any_status_is_a_reply(server: TinyServer, status: int) -> None:
    """Its error says what it means."""
    server.answers(refusal(status, "some_code", "some words", retry_after="7"))
    reply = talk(server.url, ask)
    assert (reply.status, reply.error.code, reply.error.message) == (status, "some_code", "some words")
    assert reply.retry_after_s == 7.0
    assert server.connections == 1


def test_names_of_headers_are_found_however_they_are_written(server: TinyServer) -> None:
    """Servers write them in capitals or not."""
    server.answers(Answer(200, b"{}", {"X-RateLimit-Remaining-Requests": "7"}))
    assert talk(server.url, ask).headers.get("x-ratelimit-remaining-requests") == "7"


def test_a_header_may_be_long(server: TinyServer) -> None:
    """Gateways add what they like."""
    server.answers(Answer(200, b"{}", {"content-security-policy": "x" * 30_000}))
    assert talk(server.url, ask).body == {}


def test_a_reply_that_is_compressed_is_read(server: TinyServer) -> None:
    """Many servers compress."""
    import gzip

    server.answers(Answer(200, gzip.compress(b'{"id": "x"}'), {"content-encoding": "gzip"}))
    assert talk(server.url, ask).body == {"id": "x"}


def test_a_server_that_drops_idle_connections_loses_no_call() -> None:
    """It need not announce it: what it has closed is not used again."""

    async def often(transport: Transport) -> list[int]:
        statuses = []
        for _ in range(5):
            statuses.append((await ask(transport)).status)
            await asyncio.sleep(0.02)
        return statuses

    with rude_server() as url:
        assert talk(url, often) == [200] * 5


@contextmanager
def encrypted_server(folder: Path) -> Iterator[str]:
    """A server with a certificate of its own making."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                trust.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/v1"
    thread.join(5)


@contextmanager
def rude_server() -> Iterator[str]:
    """Closes each connection after a reply, though the reply promises to keep it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    got = b""
                    while not got.endswith(BODY):
                        got += connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


# ---------------------------------------------------------------- trouble on the way

LOST = {
    **CUT_IN_THE_HEAD,
    "hung up while reading": WHILE_READING,
    "hung up after reading": AFTER_READING,
    "reply cut in the middle": Answer(200, json.dumps({"id": "x"}).encode(), cut_after=5),
    "reply cut before its body": Answer(200, json.dumps({"id": "x"}).encode(), cut_after=0),
    "not compressed as it says": Answer(200, b'{"id": "x"}', {"content-encoding": "gzip"}),
    "sent back and forth for ever": Answer(307, b"", {"location": "/v1/chat/completions"}),
    "sent to no address": Answer(307, b"", {"location": "http://[::1"}),
    "sent to another protocol": Answer(307, b"", {"location": "ftp://127.0.0.1/v1"}),
    "sent to where nobody is": Answer(307, b"", {"location": unused_url()}),
}


@pytest.mark.parametrize("name", LOST)
def test_a_server_that_had_the_call_may_have_acted(server: TinyServer, name: str) -> None:
    """It counts as spent, and is never sent again behind our back."""
    server.answers(LOST[name])
    with pytest.raises(Lost) as caught:
        talk(server.url, ask)
    assert str(caught.value)
    assert name.startswith("sent") or server.connections == 1


def test_a_server_that_hangs_up_at_once_is_asked_once(server: TinyServer) -> None:
    """Whether that is before our bytes have left or after is a matter of luck, and told as it was."""
    server.answers(BEFORE_READING)
    with pytest.raises((NotSent, Lost)):
        talk(server.url, ask)
    assert server.connections == 1


def test_a_reply_that_takes_too_long_is_lost(server: TinyServer) -> None:
    """The server has the call."""
    held = Answer(hold=threading.Event())
    assert held.hold is not None
    server.answers(held)
    try:
        with pytest.raises(Lost):
            talk(server.url, ask)
    finally:
        held.hold.set()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url",
    [unused_url(), "http://nowhere.invalid/v1", "ftp://127.0.0.1/v1"],
    ids=["nobody there", "no such name", "no such protocol"],
)
def test_where_no_connection_was_made_nothing_happened(url: str) -> None:
    """Nothing is booked for it."""
    with pytest.raises(NotSent):
        talk(url, ask)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/v1", "no connection to 127.0.0.1:9 (Connection refused)"),
        ("http://nowhere.invalid/v1", "no connection to nowhere.invalid:80 ("),
    ],
)
def test_what_is_wrong_is_told_in_words(url: str, words: str) -> None:
    with pytest.raises(NotSent, match=re.escape(words)):
        talk(url, ask)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the certificate is made by openssl")
def test_a_certificate_that_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    """It is the one trouble with a connection that the user must settle, so it is told in full."""
    with encrypted_server(tmp_path) as url, pytest.raises(NotSent) as caught:
        talk(url, ask)
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)


def test_a_server_that_does_not_take_connections_had_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither accepts nor refuses: after a while the call is given up, unsent."""
    monkeypatch.setattr("gpt_batch_api.wire.connections.CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        with pytest.raises(NotSent):
            talk(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", ask)


def test_a_server_without_the_encryption_that_is_asked_for_had_nothing(server: TinyServer) -> None:
    """The key has not left either."""
    server.answers(document({}))
    with pytest.raises((NotSent, Lost)) as caught:
        talk(server.url.replace("http:", "https:"), ask)
    assert isinstance(caught.value, NotSent)
    assert server.requests == []


def test_the_account_is_not_the_business_of_a_call(server: TinyServer) -> None:
    """Who books the reply decides; and the key is not repeated."""
    server.answers(refusal(401, "invalid_api_key", f"Incorrect API key provided: {KEY}."))
    reply = talk(server.url, ask)
    assert reply.status == 401
    assert KEY.encode() not in reply.content
    with pytest.raises(AccountError):
        talk(server.url, lambda transport: batches.retrieve(transport, "batch_1"))


# ---------------------------------------------------------------- proxies


def test_calls_go_through_the_proxy_that_the_environment_names(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who needs a proxy for the official client needs it here."""
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1").replace("//", "//me:secret@"))
    server.answers(document({"id": "x"}))
    assert talk("http://api.invalid/v1", ask).body == {"id": "x"}
    [seen] = server.requests
    assert seen.headers["host"] == "api.invalid"
    assert seen.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert seen.headers["authorization"] == f"Bearer {KEY}"


def test_a_proxy_on_the_way_to_an_encrypted_server_is_not_told_the_key(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where to; and if it refuses, the server had nothing."""
    monkeypatch.setenv("HTTPS_PROXY", server.url.removesuffix("/v1"))
    server.answers(Answer(407, b""))
    with pytest.raises(NotSent):
        talk("https://api.invalid/v1", ask)
    [seen] = server.requests
    assert seen.method == "CONNECT"
    assert KEY not in str(seen.headers)


def test_a_server_may_be_excepted_from_the_proxy(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By NO_PROXY."""
    monkeypatch.setenv("ALL_PROXY", unused_url())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.answers(document({"id": "x"}))
    assert talk(server.url, ask).body == {"id": "x"}


def test_a_proxy_that_is_not_there_had_nothing(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor had the server."""
    monkeypatch.setenv("ALL_PROXY", unused_url().removesuffix("/v1").removeprefix("http://"))
    with pytest.raises(NotSent):
        talk(server.url, ask)
    assert server.connections == 0


def test_a_proxy_of_no_use_is_told_before_anything_is_intended(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the way out."""
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080")
    with pytest.raises(SettingError) as caught:
        Connections(server.url, {})
    assert "socks5://127.0.0.1:1080" in str(caught.value)
    assert "NO_PROXY" in str(caught.value)
