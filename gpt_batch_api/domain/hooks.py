"""The only way up: what the engine asks of a task, and of whoever listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpt_batch_api.domain.delivery import Output
from gpt_batch_api.domain.events import Event
from gpt_batch_api.domain.outcome import Outcome, Usage
from gpt_batch_api.domain.request import GPTRequest, RequestKey, ResponseSchema
from gpt_batch_api.domain.states import RequestState


@dataclass(frozen=True)
class ToHand:
    """An answer that the task's code has not seen yet."""

    response_id: int
    request_id: int
    sample_id: int
    key: RequestKey
    endpoint: str
    model: str
    schema: ResponseSchema | None
    meta: Any
    attempt: int
    may_retry: bool
    """Whether the request has an attempt left."""
    outcome: Outcome
    usage: Usage
    cost_pico: int
    raw: bytes | None
    direct: bool = False
    """Whether it came by a direct call."""


@dataclass(frozen=True)
class Ended:
    """What the task's code (or the parser before it) made of one answer."""

    response_id: int
    request_id: int
    outcome: Outcome
    state: RequestState
    """`succeeded`, `failed`, or `queued` to be asked once more (which counts an attempt)."""


@dataclass(frozen=True)
class Handed:
    """What the task's code did with a chunk of answers; recorded in one transaction, or not at all."""

    ended: Sequence[Ended]
    states: Mapping[int, str | None]
    """The task's state, as JSON text, of each sample where it changed."""
    rows: Sequence[tuple[int, int, str]]
    """New output rows: (sample, request, JSON text)."""
    asked: Sequence[GPTRequest]
    """Follow-up requests."""
    figures: Mapping[str, int | float] = field(default_factory=dict)
    """Figures of its own that the task's code has logged."""


class TaskHooks(Protocol):
    """What the engine asks of a task."""

    @property
    def output(self) -> Output | None:
        """Where the task's rows are delivered; None: nowhere."""
        ...

    def requests(self) -> Iterator[GPTRequest]:
        """All requests that the task wants answered; those known already do no harm."""
        ...

    def hand(self, answers: Sequence[ToHand], states: Mapping[int, str | None]) -> Handed:
        """Let the task's code see answers. *states* are its own states of the samples concerned, as JSON text.

        Raises TaskCodeError if the task's code raised.
        """
        ...

    def completed(self, *, changed: bool) -> Mapping[str, int | float]:
        """Everything is done and delivered. *changed*: the output is not as it was when this was told last.

        Returns the figures of its own that the task's code has logged since it last saw answers.
        """
        ...


class Listener(Protocol):
    """Whoever wants to know what happens. Told after the fact is committed; must not raise."""

    def __call__(self, event: Event) -> None: ...
