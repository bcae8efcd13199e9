"""One direct call: a request's exact bytes out, the reply's bytes back, whatever they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.endpoints.verdict import ServerError
from gpt_batch_api.wire.transport import Transport
from gpt_batch_api.wire.trouble import retry_after

DIRECT_S = 600.0
"""How long an answer may take; the provider's own limit."""
FLEX_S = 900.0
"""The same in the flex tier."""


@dataclass(frozen=True)
class Reply:
    """A reply with its HTTP status. `body` is its JSON object; None if it is none."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    body: dict[str, Any] | None
    retry_after_s: float | None

    @property
    def error(self) -> ServerError:
        """The error it tells of."""
        return ServerError.read(self.body if self.body is not None else _text(self.content), status=self.status)


def by_flex(body: bytes) -> bytes | None:
    """The same request for the flex tier; None if it names a tier itself."""
    document = json.loads(body)
    if "service_tier" in document:
        return None
    return json.dumps({**document, "service_tier": "flex"}, ensure_ascii=False, separators=(",", ":")).encode()


async def ask(transport: Transport, *, endpoint: str, body: bytes, timeout_s: float) -> Reply:
    """Make one call, exactly once.

    Raises NotSent if the server had nothing of it, Lost if no reply came.
    """

    async def call() -> Reply:
        raw = await transport.post(endpoint.removeprefix("/v1"), body, timeout_s=timeout_s)
        content = raw.content
        if raw.status == 200:
            transport.heard(raw.headers)
        else:
            content = transport.without_key(content)
        return Reply(raw.status, raw.headers, content, _object(content), retry_after(raw.headers))

    return await transport.once(call)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _text(content: bytes) -> str:
    return content[:2000].decode(errors="replace")
