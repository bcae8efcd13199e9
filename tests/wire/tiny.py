"""A tiny HTTP server on loopback that does exactly what a test says, and writes down what reached it."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.wire.transport import Server, Transport

T = TypeVar("T")

KEY = "sk-very-secret-key-0123456789"
_KEPT_BYTES = 5_000_000
"""More than this of a request's body is counted, but not kept."""


@dataclass(frozen=True)
class Seen:
    """A request that reached the server."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes
    size_bytes: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What the server does with one request.

    `cut_after` ends the connection after so many bytes of a body that was announced in full, `cut_head_after` after so many
    of what comes before the body (or so many before its end). `meanwhile` is called when `pause_at` bytes of the body are
    sent. `hang_up` resets the connection instead of answering: before, during or after reading. `hold` waits, before
    answering, until the test lets go.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    cut_head_after: int | None = None
    meanwhile: Callable[[], None] | None = None
    pause_at: int = 0
    hang_up: str | None = None
    hold: threading.Event | None = None


BEFORE_READING = Answer(hang_up="before")
WHILE_READING = Answer(hang_up="during")
AFTER_READING = Answer(hang_up="after")
CUT_IN_THE_HEAD = {
    "ended without a reply": Answer(cut_head_after=0),
    "reply cut in its first line": Answer(cut_head_after=10),
    "reply cut after its first line": Answer(cut_head_after=len("HTTP/1.1 200 Whatever\r\n")),
    "reply cut in a header": Answer(cut_head_after=len("HTTP/1.1 200 Whatever\r\ncontent-l")),
    "reply cut after its headers": Answer(cut_head_after=-len("\r\n")),
}
"""Some clients take such a reply for a whole one with an empty body (that of the standard library does)."""

Decide = Callable[[Seen], Answer]


def document(content: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON reply. Underscores in the names of headers are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(content).encode(), {"content-type": "application/json", **named})


def refusal(
    status: int,
    code: str | None = None,
    message: str = "no",
    *,
    kind: str | None = None,
    param: str | None = None,
    **headers: str,
) -> Answer:
    """An error as OpenAI words it."""
    return document({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, **headers)


class TinyServer:
    """Answers requests one by one as `answers` says; what comes after the last one gets the last one again."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.connections = 0
        self._answers: list[Answer | Decide] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            tiny = outer

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that hang up are nothing to print about."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answers(self, *answers: Answer | Decide) -> None:
        """From now on answer so."""
        with self._lock:
            self._answers = list(answers)

    def next_answer(self) -> Answer | Decide:
        with self._lock:
            self.connections += 1
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def saw(self, seen: Seen) -> None:
        with self._lock:
            self.requests.append(seen)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    tiny: TinyServer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """One request for each connection."""
        self.close_connection = True
        answer = self.tiny.next_answer()
        if isinstance(answer, Answer) and answer.hang_up == "before":
            self._reset()
            return
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        if isinstance(answer, Answer) and answer.hang_up == "during":
            self.tiny.saw(Seen(self.command, self.path, {}, self.headers, b"", 0))
            self._reset()
            return
        seen = self._read()
        self.tiny.saw(seen)
        self._give(answer if isinstance(answer, Answer) else answer(seen))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _read(self) -> Seen:
        left = int(self.headers.get("content-length") or 0)
        kept = bytearray()
        size = left
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            if not piece:
                break
            left -= len(piece)
            if len(kept) < _KEPT_BYTES:
                kept += piece
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return Seen(self.command, parts.path.removeprefix("/v1"), query, self.headers, bytes(kept), size - left)

    def _give(self, answer: Answer) -> None:
        if answer.hang_up:
            self._reset()
            return
        if answer.hold is not None:
            answer.hold.wait(30)
        headers = {"content-length": str(len(answer.body)), "connection": "close", **answer.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {answer.status} Whatever\r\n{lines}\r\n".encode()
        self.wfile.write(head[: answer.cut_head_after])
        if answer.cut_head_after is not None:
            return
        body = memoryview(answer.body)
        body = body if answer.cut_after is None else body[: answer.cut_after]
        if answer.meanwhile is not None:
            self.wfile.write(body[: answer.pause_at])
            self.wfile.flush()
            answer.meanwhile()
            body = body[answer.pause_at :]
        for start in range(0, len(body), 1 << 16):
            self.wfile.write(body[start : start + (1 << 16)])
        self.wfile.flush()

    def _reset(self) -> None:
        """End the connection the hard way."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


@contextmanager
def tiny_server() -> Iterator[TinyServer]:
    server = TinyServer()
    try:
        yield server
    finally:
        server.close()


def unused_url() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


class WatchedClock(ManualClock):
    """A manual clock that writes down how long was slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await super().sleep(delay_s)


def talk(
    url: str,
    call: Callable[[Transport], Awaitable[T]],
    *,
    clock: ManualClock | None = None,
    key: str = KEY,
    timeout_s: float = 30.0,
    organization: str | None = None,
    project: str | None = None,
) -> T:
    """Reach the server at *url* and make a call, as a run does: with a transport that is closed at the end."""

    async def main() -> T:
        import openai

        transport = Transport(
            Server(key, url, organization, project),
            clock=clock or ManualClock(),
            chance=random.Random(7),
            # loading certificates takes long, and nothing here is encrypted
            http_client=openai.DefaultAsyncHttpxClient(verify=False, timeout=timeout_s),
        )
        try:
            return await call(transport)
        finally:
            await transport.close()

    return asyncio.run(main())


def paged(items: Sequence[Mapping[str, Any]], *, most: int = 100, tells_more: bool = True, **headers: str) -> Decide:
    """A list endpoint: pages of at most *most* items, continued by `after`; `has_more` is told truly, or left out."""

    def page(seen: Seen) -> Answer:
        limit = min(most, int(seen.query.get("limit", "20")))
        after = seen.query.get("after")
        start = 0 if after is None else 1 + next(i for i, item in enumerate(items) if item.get("id") == after)
        shown = items[start : start + limit]
        more = {"has_more": start + limit < len(items)} if tells_more else {}
        return document({"object": "list", "data": shown, **more}, 200, **headers)

    return page
