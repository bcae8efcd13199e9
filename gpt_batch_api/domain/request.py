"""A request as the user asks for it, as it is prepared for the wire, and as a weight for planning."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Payload = Mapping[str, Any]

ASSUMED_MAX_OUTPUT_TOKENS = 2048
"""What is assumed as a request's maximum of output tokens where it sets none."""

_CUSTOM_ID = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")


@dataclass(frozen=True)
class GPTRequest:
    """One question to the model, asked on behalf of one sample.

    `payload` is the body of the API call (`model`, `messages`, `max_completion_tokens`, …), or a function without
    arguments that returns it; the function is called only if the request is not known yet. A pydantic model class as
    `response_format` asks for structured output: it goes out as a strict JSON schema, and the result's `value` is an
    instance of it.

    A request is known by (`sample_key`, `purpose`, `number`): asking again for the same one is harmless. Several
    opinions on one sample have the numbers 0, 1, 2 …; a follow-up question has another purpose. `meta` is small JSON
    that comes back with the result.
    """

    sample_key: str
    payload: Payload | Callable[[], Payload]
    purpose: str = ""
    number: int = 0
    meta: Any = None

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.sample_key, self.purpose, self.number)


@dataclass(frozen=True, order=True)
class RequestKey:
    """What makes a request the same one after a restart."""

    sample_key: str
    purpose: str = ""
    number: int = 0

    def __str__(self) -> str:
        tail = f", {self.purpose!r}" if self.purpose else ""
        return f"{self.sample_key!r}{tail}" + (f" #{self.number}" if self.number else "")


@dataclass(frozen=True)
class ResponseSchema:
    """The structure that a request demands of its answer.

    `python` is `module:qualname` of the pydantic model, by which a restarted process finds it again, or None where
    the user gave a plain JSON schema.
    """

    name: str
    json: str
    python: str | None = None


@dataclass(frozen=True)
class Kind:
    """What makes answers alike in length: who is asked, how much they may say, and in which form.

    `schema_id` is the store's number of the response schema; None: there is none, or the store does not know it yet.
    """

    endpoint: str
    model: str
    max_output_tokens: int | None
    output_allowance: int
    schema_id: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A payload made ready: exact bytes, and what planning needs to know of it."""

    body: bytes
    model: str
    input_tokens: int
    sureness: str
    max_output_tokens: int | None
    choices: int = 1
    schema: ResponseSchema | None = None
    notes: tuple[str, ...] = ()

    @property
    def output_allowance(self) -> int:
        """Most tokens that the answer can have (assumed where the request sets no maximum)."""
        return (self.max_output_tokens or ASSUMED_MAX_OUTPUT_TOKENS) * self.choices


@dataclass(frozen=True)
class Load:
    """How heavy some requests are together: what every limit counts.

    `cost_pico` is what they reserve. What they are expected to say and to cost is told beside it; no limit counts that.
    """

    requests: int = 0
    size_bytes: int = 0
    input_tokens: int = 0
    output_allowance: int = 0
    cost_pico: int = 0
    expected_output_tokens: int = 0
    expected_cost_pico: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.requests + other.requests,
            self.size_bytes + other.size_bytes,
            self.input_tokens + other.input_tokens,
            self.output_allowance + other.output_allowance,
            self.cost_pico + other.cost_pico,
            self.expected_output_tokens + other.expected_output_tokens,
            self.expected_cost_pico + other.expected_cost_pico,
        )

    def __sub__(self, other: Load) -> Load:
        return Load(
            self.requests - other.requests,
            self.size_bytes - other.size_bytes,
            self.input_tokens - other.input_tokens,
            self.output_allowance - other.output_allowance,
            self.cost_pico - other.cost_pico,
            self.expected_output_tokens - other.expected_output_tokens,
            self.expected_cost_pico - other.expected_cost_pico,
        )


@dataclass(frozen=True)
class KnownRequest:
    """A request that the store has already: what it asked, and under which version of the task's metadata."""

    payload_hash: bytes
    metadata_version: int


@dataclass(frozen=True)
class NewRequest:
    """A request ready to be stored: who asks, what exactly, and how heavy it is."""

    key: RequestKey
    endpoint: str
    prepared: Prepared
    payload_hash: bytes
    meta: Any = None


def custom_id(request_id: int, epoch: int) -> str:
    """The name of a request in a batch file. A wipe raises the epoch, so a late answer to a wiped request fits none."""
    return f"{request_id}-{epoch}"


def parse_custom_id(text: object) -> tuple[int, int] | None:
    """The (request id, epoch) that `custom_id` was given; None for a name that is not ours."""
    match = _CUSTOM_ID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    found = int(match[1]), int(match[2])
    return found if custom_id(*found) == text else None  # leading zeros would be a second name


def hash_of_payload(body: bytes) -> bytes:
    """By what a payload is known again."""
    return hashlib.sha256(body).digest()[:16]


def batch_line(request_id: int, epoch: int, *, endpoint: str, body: bytes) -> bytes:
    """One line of a batch input file (WIRE: method POST, url = the batch's endpoint, no headers)."""
    name = custom_id(request_id, epoch)
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (name.encode(), endpoint.encode(), body)
