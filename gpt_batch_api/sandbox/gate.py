"""The gate every request passes: who asks, what befalls it, the log, and the headers of the reply.

A plain ASGI wrapper around the routes. A fault that lets the server act does so by running the routes and meddling with
what they send. Nothing is sent before the call is logged on the disk.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

from gpt_batch_api.sandbox.batch_lines import fault_error
from gpt_batch_api.sandbox.calls import Call
from gpt_batch_api.sandbox.chance import hexadecimal
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.operations import ANSWERING, ROUTES
from gpt_batch_api.sandbox.plan import ANSWER_FAULTS, CallRule
from gpt_batch_api.sandbox.sandbox import Sandbox

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Run = Callable[..., Awaitable[Any]]

_ROUTES = tuple((method, re.compile(pattern), name) for name, (method, pattern) in ROUTES.items())
_JSON_BODIES = ("batches.create", *ANSWERING)
_WRONG_KEY = "sk-wrong"
_KEYS_PAGE = "https://platform.openai.com/account/api-keys"
_GARBAGE = b"<html><body>This is not the reply you were promised.</body></html>"


class Gate:
    """Wraps *app*, which serves *sandbox*; *run* runs a function in a thread."""

    def __init__(self, app: App, sandbox: Sandbox, run: Run) -> None:
        self._app = app
        self._sandbox = sandbox
        self._run = run
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._served += 1
        send = self._stamped(send)
        if not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        refusal = _refusal(scope)
        if refusal is not None:
            await _drain(receive)
            await send_error(send, refusal)
            return
        call = call_of(scope["method"], scope["path"])
        if call is None:
            await self._app(scope, receive, send)
            return
        scope["call"] = call
        text = ""
        if call.operation in _JSON_BODIES:
            body = await _read(receive)
            if body is None:
                return  # the client has gone away without saying all
            text, receive = body.decode("utf-8", "replace"), _replay(body, receive)
        fault = None
        if self._sandbox.force.plan.faults:
            fault = await self._run(self._sandbox.call_fault, call.operation, text)
        await self._pass(scope, receive, self._logging(call, send), fault=fault, text=text)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, *, fault: CallRule | None, text: str) -> None:
        """Let the call through, or let *fault* befall it."""
        call: Call = scope["call"]
        if fault is None:
            await self._app(scope, receive, send)
            return
        call.fault = fault.fault
        if fault.fault in ANSWER_FAULTS:
            await self._app(scope, receive, send)  # whoever answers looks at the call
        elif fault.fault == "lose_before":
            await self._run(self._log, call)
            await _reset(scope, receive)
        elif fault.fault == "status":
            await _drain(receive)
            await send_error(send, _error_of(fault, text))
        elif fault.fault == "cut":
            await self._app(scope, receive, _cutting(scope, receive, send, fault.after_bytes))
        else:
            kept = _Kept()
            await self._app(scope, receive, kept)
            if fault.fault == "lose_after":
                await self._run(self._log, call)
                await _reset(scope, receive)
            elif fault.fault == "garbage":
                await _send_bytes(send, 200, _GARBAGE, "application/json")
            elif fault.fault == "short":
                await kept.send_short(send, fault.after_bytes)
            else:
                await asyncio.sleep(fault.seconds)
                for message in kept.messages:
                    await send(message)

    def _log(self, call: Call) -> None:
        self._sandbox.log(call, status=None)

    def _logging(self, call: Call, send: Send) -> Send:
        """Log *call* before its reply begins."""

        async def log_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and not call.logged:
                status = int(message["status"])
                await self._run(lambda: self._sandbox.log(call, status=status))
            await send(message)

        return log_and_send

    def _stamped(self, send: Send) -> Send:
        """Add the headers that every reply has."""
        begun = time.monotonic()
        request_id = f"req_{hexadecimal(32, self._sandbox.uuid, begun, self._served)}"

        async def stamp_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                spent_ms = int((time.monotonic() - begun) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"date", formatdate(self._sandbox.time.now(), usegmt=True).encode()),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", str(spent_ms).encode()),
                    (b"x-gpt-batch-api-sandbox", self._sandbox.uuid.encode()),
                ]
            await send(message)

        return stamp_and_send


class _Kept:
    """Keeps what the routes send."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    async def send_short(self, send: Send, length: int) -> None:
        """Send only the first *length* bytes of the body, as if they were all."""
        begin, *pieces = self.messages
        body = b"".join(piece.get("body", b"") for piece in pieces)[:length]
        headers = [header for header in begin["headers"] if header[0].lower() != b"content-length"]
        await send({**begin, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


def call_of(method: str, path: str) -> Call | None:
    """Which operation a request asks for, and about what; None if there is no such operation."""
    for wanted, pattern, name in _ROUTES:
        found = pattern.fullmatch(path)
        if found and method == wanted:
            return Call(name, key=found.group(1) if pattern.groups else None)
    return None


async def send_error(send: Send, error: ApiError) -> None:
    """Reply with *error*."""
    content = json.dumps(error.body()).encode()
    await _send_bytes(send, error.status, content, "application/json", error.headers)


async def _send_bytes(send: Send, status: int, content: bytes, kind: str, headers: Any = None) -> None:
    given = {"content-type": kind, "content-length": str(len(content)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def _refusal(scope: Scope) -> ApiError | None:
    """What is wrong with the key of the request, if anything."""
    given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    scheme, _, key = given.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        message = (
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            f"auth (i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from {_KEYS_PAGE}."
        )
        return ApiError(401, message)
    if key == _WRONG_KEY:
        message = f"Incorrect API key provided: {key}. You can find your API key at {_KEYS_PAGE}."
        return ApiError(401, message, code="invalid_api_key")
    return None


def _error_of(fault: CallRule, text: str) -> ApiError:
    try:
        model = str(json.loads(text)["model"])
    except (ValueError, KeyError, TypeError):
        model = "the model"
    error = fault_error(fault, status=fault.status, model=model)
    if fault.retry_after is not None:
        error.headers = {"retry-after": f"{fault.retry_after:g}"}
    return error


async def _read(receive: Receive) -> bytes | None:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out *body* again, then what really comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


async def _drain(receive: Receive) -> None:
    """Read the body away, so that the client has sent it before it reads the reply."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _cutting(scope: Scope, receive: Receive, send: Send, after_bytes: int) -> Send:
    """Send only *after_bytes* bytes of the body and hang up, with a Content-Length that promised more."""
    left = after_bytes
    cut = False

    async def send_some(message: Message) -> None:
        nonlocal left, cut
        if cut:
            return
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")
        if len(body) <= left and message.get("more_body", False):
            left -= len(body)
            await send(message)
            return
        cut = True
        # One byte at least stays unsent, else the reply would be whole.
        some = body[: min(left, max(len(body) - 1, 0))]
        await send({"type": "http.response.body", "body": some, "more_body": True})
        scope["state"]["transport"].close()  # sends what is buffered first
        await _until_gone(receive)

    return send_some


async def _reset(scope: Scope, receive: Receive) -> None:
    """Break the connection so that the client sees a reset."""
    transport: asyncio.Transport = scope["state"]["transport"]
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    """Wait until the server knows that the connection is gone, so that it does not complain of a missing reply."""
    while (await receive())["type"] != "http.disconnect":
        pass
