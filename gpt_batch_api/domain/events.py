"""What happened, as facts. Code emits events; only the monitor makes words of them.

An event is committed together with the change it tells of, and told to listeners after the commit: after a rollback
nothing wrong was said. Amounts are picodollars, sizes bytes, times seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpt_batch_api.domain.outcome import Outcome, Usage


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events; `kind` names the class in the store."""

    kind: ClassVar[str] = "event"
    kept: ClassVar[bool] = True
    """Whether the event stands in the store's timeline."""

    def __init_subclass__(cls, kept: bool = True) -> None:
        cls.kind = cls.__name__
        cls.kept = kept


@dataclass(frozen=True, kw_only=True)
class RunBegan(Event):
    """A process took the task up. `in_doubt` replies of an earlier one were never seen."""

    resumed: bool
    in_doubt: int


@dataclass(frozen=True, kw_only=True)
class RequestsAdded(Event):
    """The generator yielded new requests; `known` others were there already. `twins` of the new ones are not asked
    themselves, because others ask the same."""

    new: int
    known: int
    twins: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchSealed(Event):
    """A batch file lies on disk. `full` names the limit that ended it, if one did."""

    batch: int
    requests: int
    size_bytes: int
    input_tokens: int
    cost_pico: int
    file_name: str
    full: str | None


@dataclass(frozen=True, kw_only=True)
class BatchDissolved(Event):
    """The requests of a local batch went back to the queue."""

    batch: int
    requests: int
    why: str


@dataclass(frozen=True, kw_only=True)
class BatchRecalled(Event):
    """The server was asked to cancel the batch, because of the deadline. `done`: answers that it told of by then."""

    batch: int
    requests: int
    done: int | None


@dataclass(frozen=True, kw_only=True)
class BatchPushed(Event):
    """The server has the batch. `adopted`: its reply was lost, and it was found on the server again."""

    batch: int
    remote_id: str
    requests: int
    input_tokens: int
    cost_pico: int
    adopted: bool


@dataclass(frozen=True, kw_only=True)
class WouldPush(Event, kept=False):
    """A dry run came to where the batch would be pushed."""

    batch: int
    requests: int
    input_tokens: int
    size_bytes: int
    cost_pico: int


@dataclass(frozen=True, kw_only=True)
class ReplyLost(Event):
    """The reply to a call that may have acted is lost; it will be looked for on the server."""

    batch: int
    operation: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PushRefused(Event):
    """The server refused a batch before it existed; it stays local."""

    batch: int
    message: str


@dataclass(frozen=True, kw_only=True)
class BatchProgressed(Event, kept=False):
    """The server's counts or status changed."""

    batch: int
    status: str
    completed: int | None
    failed: int | None
    total: int | None


@dataclass(frozen=True, kw_only=True)
class BatchEnded(Event):
    """The server will change nothing more."""

    batch: int
    status: str


@dataclass(frozen=True, kw_only=True)
class BatchPostponed(Event):
    """The server could not take the batch now (token limit); it goes again later. `limit_tokens`: what was learnt."""

    batch: int
    model: str
    limit_tokens: int | None
    message: str


@dataclass(frozen=True, kw_only=True)
class AnswersSettled(Event):
    """Answers that are looked at together are all booked, with their true cost beside what was expected."""

    requests: int
    succeeded: int
    retried: int
    failed: int
    held: int
    free: int
    expected_input_tokens: int
    input_tokens: int
    expected_output_tokens: int
    output_tokens: int
    output_allowance: int
    longest_output_tokens: int
    expected_cost_pico: int
    cost_pico: int
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class BatchSettled(AnswersSettled):
    """All answers of a batch are booked."""

    batch: int
    status: str


@dataclass(frozen=True, kw_only=True)
class UsageDiffers(Event):
    """A batch says itself that it used other numbers of tokens than its answers together.

    `cost_pico`: what it used beyond them cost; that is booked as spent.
    """

    batch: int
    told_input_tokens: int
    told_output_tokens: int
    input_tokens: int
    output_tokens: int
    cost_pico: int


@dataclass(frozen=True, kw_only=True)
class Problem(Event, kept=False):
    """Something went wrong with one request. `severity`: warning or error."""

    severity: str
    batch: int | None
    request: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class AnswersHanded(Event):
    """The task's code has seen a chunk of answers."""

    succeeded: int
    failed: int
    retried: int
    rows: int
    asked: int


@dataclass(frozen=True, kw_only=True)
class FiguresLogged(Event):
    """Figures of the task's own, as they stand with all that is committed by then."""

    figures: Mapping[str, int | float]


@dataclass(frozen=True, kw_only=True)
class HeldDecided(Event):
    """A failed batch was force-processed: its held requests are asked again or count as failed."""

    what: str
    """`Batch 3`, `Direct group 2`."""
    retried: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class OutputCut(Event):
    """What stood behind the delivered rows is gone: a run was killed while it wrote, or somebody added it."""

    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class OutputDelivered(Event):
    """Rows stand in the output file now."""

    file_name: str
    rows: int
    total_rows: int
    continuous: bool = False
    """Whether rows are added to it as they come, and it is not written whole."""


@dataclass(frozen=True, kw_only=True)
class DirectSettled(AnswersSettled):
    """A group of answers to direct calls is complete."""

    group: int


@dataclass(frozen=True, kw_only=True)
class CallsUnknown(Event):
    """Nobody knows whether these direct calls ran: a process ended while they were in flight. They count as spent."""

    count: int
    cost_pico: int


@dataclass(frozen=True, kw_only=True)
class DirectExchange(Event, kept=False):
    """All that was said in one direct call. Without `outcome` it was not made (a dry run); without `cost_pico` nobody
    knows what it cost."""

    request: str
    endpoint: str
    body: bytes
    outcome: Outcome | None = None
    usage: Usage = Usage()
    cost_pico: int | None = None
    reply: bytes | None = None
    took_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WouldCall(Event):
    """A dry run: so many requests would be sent by direct calls now."""

    requests: int
    input_tokens: int
    cost_pico: int


@dataclass(frozen=True, kw_only=True)
class FilesDeleted(Event):
    """Files of ours were removed from the server."""

    count: int


@dataclass(frozen=True, kw_only=True)
class Advice(Event):
    """Something the reader can act upon."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Waiting(Event, kept=False):
    """Nothing can be done for `delay_s` seconds, for these reasons."""

    delay_s: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wiped(Event):
    """Part of the task was forgotten on purpose."""

    what: str
    requests: int
    samples: int
    rows: int
    to_replay: int


@dataclass(frozen=True, kw_only=True)
class Reprocessing(Event):
    """Stored answers are shown to the task's present code once more; what followed from them was taken back."""

    samples: int
    rows: int
    answers: int


@dataclass(frozen=True, kw_only=True)
class TaskCompleted(Event):
    """Everything asked for is done and delivered."""

    rows: int


@dataclass(frozen=True, kw_only=True)
class SessionEnded(Event, kept=False):
    """The last word of every run, however it ends. The store is closed next: nobody in this process may look any more."""


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """The process lets the task go. `outcome`: done, work left, stopped, interrupted."""

    outcome: str
    reasons: tuple[str, ...]
