"""One exchange with the server, through the official client.

The client's own resending is switched off: it would send a call that creates something twice. Here a call is either
*repeatable* (reading, deleting: tried several times) or made exactly once, and its trouble is the caller's to judge.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from gpt_batch_api.domain.clock import Clock
from gpt_batch_api.domain.errors import AccountError, SettingError, Unreachable
from gpt_batch_api.endpoints.base import printable
from gpt_batch_api.wire.connections import Connections, RawReply
from gpt_batch_api.wire.listing import server_time
from gpt_batch_api.wire.trouble import Lost, NotSent, Refused, Trouble, blotted, understand

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

T = TypeVar("T")

SANDBOX_HEADER = "x-gpt-batch-api-sandbox"
QUICK_S = 60.0
"""How long a call may take that moves no big file."""
_TRIES = 5
_GREATEST = 2**53
_LONGEST_PAUSE_S = 8.0
_began_at: ContextVar[float | None] = ContextVar("began_at", default=None)
"""When the present call was begun, by our clock."""


@dataclass(frozen=True)
class Server:
    """Which server, and as whom."""

    api_key: str
    base_url: str | None = None
    organization: str | None = None
    project: str | None = None

    def __repr__(self) -> str:
        """Which server; without a password that its address may hold."""
        return f"Server({re.sub(r'//[^/@]*@', '//', self.base_url or 'default')})"

    def cleaned(self) -> Server:
        """The same without what copying brings along. Raises SettingError for what no header can carry."""
        return replace(
            self,
            api_key=_header_value(self.api_key, "openai_api_key") or "",
            organization=_header_value(self.organization, "openai_organization"),
            project=_header_value(self.project, "openai_project"),
        )


def _header_value(text: str | None, name: str) -> str | None:
    text = (text or "").strip() or None
    if text is not None and not (text.isascii() and text.isprintable()):
        raise SettingError(f"{name} holds a character that cannot be part of it. Copy it once more.", name)
    return text


@dataclass(frozen=True)
class Reply:
    """A successful reply: its JSON document, and the sandbox's name if a sandbox gave it."""

    document: dict[str, Any]
    sandbox: str | None = None


class Transport:
    """The way to one server. `http_client` and `chance` are seams for tests."""

    def __init__(
        self,
        server: Server,
        *,
        clock: Clock,
        chance: random.Random | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self._server = server.cleaned()
        if not self._server.api_key:
            raise SettingError(
                "There is no API key: set OPENAI_API_KEY (or --openai_api_key), or use --sandbox to try without one.",
                "openai_api_key",
            )
        self.clock = clock
        self._chance = chance or random.Random()
        self._http_client = http_client
        self._client: AsyncOpenAI | None = None
        self._connections: Connections | None = None
        self._ahead_s = 0.0
        self.was_answered = False
        """Whether the server has replied yet; from then on its time is known, as far as it tells it."""
        self.sandbox: str | None = None
        """The name of the sandbox that replies, if it is one."""

    def server_now(self) -> float:
        """The server's time (seconds since 1970), as far as its last reply told it; ours until then.

        What is compared with the server's lists is kept in its time, so that a wrong or corrected clock here does no harm.
        """
        return self.clock.now() + self._ahead_s

    def looked_at(self, began_at: float) -> float:
        """When, in the server's time, a look at it was made that began at *began_at* and has just been read.

        Not now: the machine may have slept since.
        """
        return min(began_at, self.server_now())

    @property
    def client(self) -> AsyncOpenAI:
        """The official client, made at first use (its import takes most of a second)."""
        if self._client is None:
            from httpx2 import InvalidURL
            from openai import AsyncOpenAI

            try:
                self._client = AsyncOpenAI(
                    api_key=self._server.api_key,
                    base_url=self._server.base_url,
                    organization=self._server.organization,
                    project=self._server.project,
                    max_retries=0,
                    http_client=self._http_client,
                )
            except InvalidURL as error:
                raise SettingError(f"client_base_url is no address: {error}", "client_base_url") from error
        return self._client

    def without_key(self, content: bytes) -> bytes:
        """*content* with the API key made unreadable: servers repeat a wrong one in their errors."""
        return blotted(content.decode(errors="replace"), self._server.api_key).encode()

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> RawReply:
        """Send bytes that are ready, as they are; a reply of any status is returned. Raises NotSent, Lost."""
        return await self._connected().post(path, body, timeout_s=timeout_s)

    def make_ready(self) -> None:
        """Make what `post` needs. Raises SettingError if that cannot be."""
        self._connected()

    def _connected(self) -> Connections:
        """The connections of direct calls. They send what the official client would send."""
        if self._connections is None:
            client = self.client
            headers = {**client.default_headers, **client.auth_headers}
            address = str(client.base_url).rstrip("/")
            self._connections = Connections(address, {name: str(value) for name, value in headers.items() if value})
        return self._connections

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
        if self._connections is not None:
            await self._connections.close()
        self._client = self._connections = None

    async def once(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call exactly once. Raises Trouble, or AccountError if the account itself is refused."""
        began = _began_at.set(self.clock.now())
        try:
            return await call()
        except Exception as error:
            trouble = understand(error).without(self._server.api_key)
            if isinstance(trouble, Refused) and trouble.is_account:
                raise AccountError(
                    f"The server refuses this account: {trouble}", code=trouble.error.code, status=trouble.status
                ) from None
            raise trouble from None
        finally:
            _began_at.reset(began)

    def read(self, raw: Any) -> Reply:
        """The JSON document of a raw response of the client (`with_raw_response`). Raises Lost if it is none.

        Numbers that JSON does not have (NaN, Infinity, 1e999) become None, halves of characters a question mark.
        """
        self.heard(raw.headers)
        try:
            document = json.loads(raw.content, parse_constant=lambda name: None, parse_float=_finite)
            document = json.loads(printable(json.dumps(document, ensure_ascii=False)))
        except (ValueError, RecursionError) as error:
            raise Lost(f"the reply was not readable ({error})") from None
        if not isinstance(document, dict):
            raise Lost("the reply was not readable (no JSON object)")
        return Reply(document, raw.headers.get(SANDBOX_HEADER))

    def heard(self, headers: Mapping[str, str]) -> None:
        """Learn from a reply whose it is, and the server's time."""
        self.was_answered = True
        self.sandbox = headers.get(SANDBOX_HEADER) or self.sandbox
        self._learn_time(headers.get("date"))

    def _learn_time(self, date_header: str | None) -> None:
        """Correct the server's time by the second that a reply names.

        It was written at some moment of the call, so after a slow one (the machine may have slept) it says only within
        which bounds the server's time is. What is known already is changed no more than they demand.
        """
        told = server_time(date_header)
        if told is not None:
            now = self.clock.now()
            began = _began_at.get()
            least_s, most_s = told - now, told + 1.0 - (now if began is None else began)
            self._ahead_s = min(max(self._ahead_s, least_s), most_s)

    async def repeatedly(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that may safely be repeated, several times if need be.

        Raises Unreachable if it never passes, Refused if the server says no for good, AccountError.
        """
        for tries in range(1, _TRIES + 1):
            try:
                return await self.once(call)
            except Trouble as trouble:
                if isinstance(trouble, Refused) and not trouble.is_transient:
                    raise
                asked_s = trouble.retry_after_s
                if tries == _TRIES or (asked_s or 0.0) > _LONGEST_PAUSE_S:
                    raise Unreachable(f"The server cannot be reached: {trouble}", retry_after_s=asked_s) from trouble
                await self.clock.sleep(asked_s or self._pause_s(tries, gentle=isinstance(trouble, NotSent)))
        raise AssertionError("unreachable")

    def _pause_s(self, tries: int, *, gentle: bool) -> float:
        longest = min(_LONGEST_PAUSE_S, (0.25 if gentle else 0.1) * 2.0**tries)
        return longest * self._chance.uniform(0.5, 1.0)


def items_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of a list reply. Raises Lost if it shows no list: that is no word that nothing is there."""
    data = document.get("data", False)
    if data is None and document.get("object") == "list":  # so do some servers write an empty list
        return []
    if not isinstance(data, list):
        raise Lost("the reply shows no list")
    return [item for item in data if isinstance(item, Mapping)]


def number_or_none(value: Any) -> float | None:
    """A number of a reply; anything else, and what is beyond all reason, is None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= _GREATEST else None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def text_or_none(document: Mapping[str, Any], name: str) -> str | None:
    """The text at *name*; servers also leave it out, send null, or send an empty text."""
    value = document.get(name)
    return value if isinstance(value, str) and value else None
