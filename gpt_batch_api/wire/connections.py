"""The connections of direct calls: many small exchanges at once, each as cheap as can be.

They go by aiohttp, not by the official client and its HTTP library, which take four times the CPU time for a small call
(`python -m benchmarks.transports`). What is sent is the same: address, headers, proxy of the environment.
"""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.wire.trouble import Lost, NotSent

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 10.0
"""How long it may take to get a connection."""
KEPT_S = 4.0
"""How long an idle connection is kept. Many servers close it after 5 seconds, just when it may be used again."""
LONGEST_HEADER = 65_536
LARGE_BYTES = 1_000_000
"""From here on a body is sent piece by piece, so that other calls go on meanwhile."""


@dataclass
class _Way:
    """Where a call has come to."""

    is_redirected: bool = False
    """Whether a server had it already, and sent us elsewhere."""


@dataclass(frozen=True)
class RawReply:
    """A reply of any status. Names of headers are found however they are written."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """Connections to one server, as many as there are calls at once. Made and used in one event loop."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        """*address*: where paths are added to. Raises SettingError if the environment names a proxy of no use."""
        import aiohttp
        from httpx2 import create_ssl_context

        self._address = address
        self._proxy, told = _proxy_for(address)
        is_encrypted = address.startswith("https:")
        self._proxy_headers = told if is_encrypted else {}
        self._headers = dict(headers) if is_encrypted else {**headers, **told}
        """Given with each call: those of a session would be told to the proxy, too, and the key is not the proxy's business."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ssl=create_ssl_context() if is_encrypted else True,
                keepalive_timeout=KEPT_S,
                resolver=aiohttp.ThreadedResolver(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            trace_configs=[_redirections()],
        )

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> RawReply:
        """Send bytes as they are, exactly once. *timeout_s*: how long the server may be silent.

        Raises NotSent if no server had anything of it, Lost if no whole reply came.
        """
        import aiohttp

        way = _Way()
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=timeout_s)
        try:
            async with self._session.post(
                self._address + path,
                data=body if len(body) < LARGE_BYTES else io.BytesIO(body),
                headers=self._headers,
                timeout=timeout,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                trace_request_ctx=way,
            ) as reply:
                return RawReply(reply.status, reply.headers, await reply.read())
        except aiohttp.ClientError as error:
            unsent = (
                aiohttp.ClientConnectorError,
                aiohttp.ConnectionTimeoutError,
                aiohttp.InvalidURL,
                aiohttp.NonHttpUrlClientError,
                aiohttp.ClientHttpProxyError,
            )
            is_unsent = isinstance(error, unsent) and not way.is_redirected
            raise (NotSent if is_unsent else Lost)(_words(error)) from error

    async def close(self) -> None:
        """Close all of them, also those whose calls were just broken off: their sockets go with the next round of the loop."""
        await self._session.close()
        await asyncio.sleep(0)


def _words(error: aiohttp.ClientError) -> str:
    """What is wrong. The library's own words for a connection that was not made name its insides."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        number = 0 if isinstance(cause, ssl.SSLError) else cause.errno or 0
        why = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        return f"no connection to {error.host}:{error.port} ({why})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _redirections() -> aiohttp.TraceConfig:
    """Let a call note that it is sent elsewhere."""
    import aiohttp

    async def note(session: aiohttp.ClientSession, context: SimpleNamespace, what: object) -> None:
        context.trace_request_ctx.is_redirected = True

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(note)
    return trace


def _proxy_for(address: str) -> tuple[str | None, dict[str, str]]:
    """The proxy that the environment names for an address (HTTPS_PROXY, ALL_PROXY, NO_PROXY, …), and what it wants to be told."""
    import aiohttp
    from yarl import URL

    here, named = urlsplit(address), getproxies()
    proxy = named.get(here.scheme) or named.get("all")
    if not proxy or proxy_bypass(here.hostname or ""):
        return None, {}
    url = URL(proxy if "://" in proxy else f"http://{proxy}")
    bare = str(url.with_user(None))
    if url.scheme not in ("http", "https"):
        raise SettingError(
            f"Direct calls cannot go through the proxy {bare} that the environment names, only through one whose address "
            "begins with http: set HTTPS_PROXY to such a one, or name the server in NO_PROXY."
        )
    told = {"Proxy-Authorization": aiohttp.encode_basic_auth(url.user, url.password or "")} if url.user else {}
    return bare, told
