"""What can go wrong with one exchange, by what is known about the server afterwards.

    Trouble
    ├── NotSent     the server never got the call: nothing happened
    ├── Lost        no usable reply: the call may have acted or not
    └── Refused     the server said no: nothing happened

The difference decides whether a call that creates something may simply be repeated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from gpt_batch_api.domain.outcome import Outcome, Verdict
from gpt_batch_api.endpoints.verdict import ServerError, judge

BLOT = "(the key)"

_UNCERTAIN = frozenset({408, 499})
"""Statuses of 4xx after which nobody knows whether the server, behind a gateway, did it."""
_LEAST_SECRET = 8
"""A shorter key is a word ("none", "token") for a server that wants none. Blotting it would spoil what the server says."""
_LONGEST_PAUSE_S = 86_400.0


class Trouble(Exception):
    """One exchange failed."""

    def __init__(self, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        """When to come again, if the server says so."""

    def without(self, secret: str) -> Trouble:
        """The same, with *secret* blotted out of its words."""
        return type(self)(blotted(str(self), secret), retry_after_s=self.retry_after_s)


class NotSent(Trouble):
    """The server never got the call."""


class Lost(Trouble):
    """Whether the server acted is not known."""


class Refused(Trouble):
    """The server answered with an error and did nothing.

    *by_api*: the reply had an API's form (a JSON object). Otherwise a gateway may have given it.
    """

    def __init__(self, error: ServerError, *, retry_after_s: float | None = None, by_api: bool = True) -> None:
        super().__init__(str(error), retry_after_s=retry_after_s)
        self.error = error
        self.by_api = by_api

    def without(self, secret: str) -> Refused:
        facts = self.error
        reworded = replace(
            facts,
            code=blotted(facts.code, secret),
            type=blotted(facts.type, secret),
            param=blotted(facts.param, secret),
            message=blotted(facts.message, secret),
        )
        return Refused(reworded, retry_after_s=self.retry_after_s, by_api=self.by_api)

    @property
    def status(self) -> int:
        return self.error.status or 0

    @property
    def outcome(self) -> Outcome:
        return judge(self.error)

    @property
    def is_account(self) -> bool:
        """Key, permission or billing."""
        return self.outcome.verdict is Verdict.ACCOUNT

    @property
    def is_transient(self) -> bool:
        """The same call may pass later."""
        return self.outcome.verdict is Verdict.RETRYABLE


def understand(error: Exception) -> Trouble:
    """What an exception of the client library means. Anything that is no trouble of an exchange is raised again."""
    import httpx2
    import openai

    if isinstance(error, Trouble):
        return error
    if isinstance(error, openai.APIStatusError):
        return _of_status(error)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        return _of_transport(cause, redirected=_redirected(error, cause))
    if isinstance(error, httpx2.HTTPError):
        return _of_transport(error)
    if isinstance(error, (json.JSONDecodeError, openai.APIResponseValidationError)) or _is_decoding(error):
        return Lost(f"the reply was not readable ({error})")
    raise error


def doubted(trouble: Trouble) -> Trouble:
    """Take a "not found" for the word on what was asked for only if the API itself says it.

    The page of a gateway says nothing about what is behind it. To believe it would be to give up answers that are paid.
    """
    if isinstance(trouble, Refused) and trouble.status in (404, 410) and not trouble.by_api:
        return Lost(f"HTTP {trouble.status}, but not in the server's form: {trouble.error.message}")
    return trouble


def _is_decoding(error: Exception) -> bool:
    """Bytes that are no text in the encoding that the reply names (some codecs raise the plain UnicodeError)."""
    return isinstance(error, UnicodeError) and not isinstance(error, UnicodeEncodeError)


def _redirected(error: object, cause: Exception) -> bool:
    """Whether a server had the call already, and sent us elsewhere."""
    import httpx2
    import openai

    assert isinstance(error, openai.APIConnectionError)
    if not isinstance(cause, httpx2.RequestError):
        return False
    try:
        return cause.request.url != error.request.url
    except RuntimeError:  # it names no request
        return False


def _of_transport(cause: Exception, *, redirected: bool = False) -> Trouble:
    import httpx2

    text = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
    if isinstance(cause, unsent) and not redirected:
        return NotSent(text)
    return Lost(text)


def _of_status(error: object) -> Trouble:
    import openai

    assert isinstance(error, openai.APIStatusError)
    facts = ServerError.read(error.body, status=error.status_code)
    if not facts.message:
        facts = replace(facts, message=_text_of(error))
    if not 400 <= error.status_code < 500 or error.status_code in _UNCERTAIN:
        return Lost(f"HTTP {error.status_code}: {facts.message}", retry_after_s=retry_after(error.response.headers))
    return Refused(facts, retry_after_s=retry_after(error.response.headers), by_api=_is_object(error.response.content))


def blotted(text: str, secret: str) -> str:
    """*text* with *secret* made unreadable (a very short one is a word like any other)."""
    return text.replace(secret, BLOT) if len(secret) >= _LEAST_SECRET else text


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _text_of(error: object) -> str:
    message = getattr(error, "message", "")
    return str(message)[:500]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to be left alone, in seconds; None if it does not say."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return min(float(text) * factor, _LONGEST_PAUSE_S)
    return None
