"""The table of all figures: name, unit, meaning, and how each is read off a snapshot (see `facts`).

A name is what stands before the slash, and what is counted of it. Money is exact: whole picodollars under names that end
in `_pico`. A figure that is None is not known yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from gpt_batch_api.domain.outcome import LOST_REPLY
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import FINAL_REQUEST_STATES, BatchState, RequestState
from gpt_batch_api.monitor.eta import Eta, eta_of
from gpt_batch_api.planning.admission import Limits
from gpt_batch_api.store.snapshot import Snapshot
from gpt_batch_api.store.spending import Line, Spent

Number = int | float

ON_SERVER = (BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)
NOT_RUN = ("free", "account")
"""Verdicts of answers that say: the request did not run."""


@dataclass(frozen=True)
class Figure:
    """One named number."""

    name: str
    unit: str
    meaning: str
    of: Callable[[Look], Number | None]


@dataclass(frozen=True)
class Family:
    """Figures of which there are as many as there are kinds of something."""

    prefix: str
    kind: str
    unit: str
    meaning: str
    of: Callable[[Look], Mapping[str, Number]]


@dataclass(frozen=True)
class Look:
    """What figures are read from."""

    snapshot: Snapshot
    settings: Settings
    now: float

    @cached_property
    def limits(self) -> Limits:
        return Limits.of(self.settings)

    @cached_property
    def eta(self) -> Eta:
        return eta_of(self.snapshot, settings=self.settings, now=self.now)

    @cached_property
    def local(self) -> Load:
        """Batches that wait on disk."""
        return self._load(BatchState.SEALED)

    @cached_property
    def remote(self) -> Load:
        """Batches that are being pushed, run, or have ended and are to be fetched."""
        return self._load(*ON_SERVER)

    def _load(self, *states: BatchState) -> Load:
        return sum((batch.load for batch in self.snapshot.batches_in(*states)), Load())

    def spent(self, wanted: Callable[[Line], bool] = lambda line: True) -> Spent:
        """The sum of the answers that are *wanted*."""
        return sum((line.spent for line in self.snapshot.spending if wanted(line)), Spent())


def _ran(line: Line) -> bool:
    return line.verdict not in NOT_RUN


def _pass_ratio(look: Look) -> float | None:
    ran = look.spent(_ran).answers
    return look.spent(lambda line: line.good).answers / ran if ran else None


def _session_number(look: Look) -> int | None:
    return None if look.snapshot.session is None else look.snapshot.session.id


def _elapsed_s(look: Look) -> float | None:
    session = look.snapshot.session
    if session is None:
        return None
    return max(0.0, (look.now if session.ended_at is None else session.ended_at) - session.started_at)


def _done_share(look: Look) -> float | None:
    done = sum(look.snapshot.count(state) for state in FINAL_REQUEST_STATES)
    return done / look.snapshot.asked if look.snapshot.asked else None


def _server_counts(look: Look) -> tuple[int, int]:
    there = look.snapshot.batches_in(*ON_SERVER)
    return sum(batch.count_completed or 0 for batch in there), sum(batch.count_failed or 0 for batch in there)


def _requests(name: str, meaning: str, state: RequestState) -> Figure:
    return Figure(f"requests/{name}", "requests", meaning, lambda look: look.snapshot.count(state))


def _samples(status: str, meaning: str) -> Figure:
    return Figure(f"samples/{status}", "samples", meaning, lambda look: look.snapshot.samples[status])


FIGURES = (
    Figure(
        "task/complete",
        "0, 1",
        "all that was asked is done and delivered",
        lambda look: int(look.snapshot.task.complete),
    ),
    Figure("task/age_s", "s", "since the task was created", lambda look: look.now - look.snapshot.task.created_at),
    Figure("session/number", "", "how often the task has been run", _session_number),
    Figure("session/elapsed_s", "s", "how long the last run has taken so far, or took", _elapsed_s),
    # ---------------------------------------------------------------- samples and requests
    Figure("samples/total", "samples", "all samples", lambda look: sum(look.snapshot.samples.values())),
    _samples("pending", "samples with a request that has no final result yet"),
    _samples("succeeded", "samples whose requests have all succeeded"),
    _samples("failed", "samples whose requests have all failed"),
    _samples("mixed", "samples of whose requests some have succeeded and some have failed"),
    Figure(
        "requests/total",
        "requests",
        "all requests asked for: succeeded + failed + held + under way",
        lambda look: look.snapshot.asked,
    ),
    _requests("succeeded", "with a final good answer that the task has processed", RequestState.SUCCEEDED),
    _requests("failed", "given up, for the reasons in `failed/`", RequestState.FAILED),
    _requests("held", "cannot succeed as they are, and wait for the user's decision", RequestState.HELD),
    Figure(
        "requests/under_way",
        "requests",
        "neither final nor held: the next five together",
        lambda look: look.snapshot.under_way,
    ),
    _requests("queued", "waiting to be sent", RequestState.QUEUED),
    _requests("batched", "in a batch, local or on the server", RequestState.BATCHED),
    _requests("sending", "direct calls in flight", RequestState.SENDING),
    _requests("twin", "waiting for the answer to an identical request (dedupe)", RequestState.TWIN),
    _requests("answered", "answered and paid, not yet processed by the task", RequestState.ANSWERED),
    Figure("requests/done_share", "0…1", "share of all requests that have succeeded or failed", _done_share),
    # ---------------------------------------------------------------- batches
    Figure(
        "batches/local",
        "batches",
        "lying on disk, not pushed",
        lambda look: len(look.snapshot.batches_in(BatchState.SEALED)),
    ),
    Figure(
        "batches/remote",
        "batches",
        "on the server, or on their way there",
        lambda look: len(look.snapshot.batches_in(*ON_SERVER)),
    ),
    Figure("batches/finished", "batches", "whose answers are all booked", lambda look: look.snapshot.finished_batches),
    Figure(
        "batches/failed",
        "batches",
        "failed batches, and groups of direct calls, that wait for the user's decision",
        lambda look: len(look.snapshot.failures) + len(look.snapshot.failed_groups),
    ),
    Figure("batches/local_requests", "requests", "in local batches", lambda look: look.local.requests),
    Figure("batches/local_bytes", "bytes", "size of the local batches", lambda look: look.local.size_bytes),
    Figure(
        "batches/local_input_tokens",
        "tokens",
        "predicted input of the local batches",
        lambda look: look.local.input_tokens,
    ),
    Figure("batches/remote_requests", "requests", "in batches on the server", lambda look: look.remote.requests),
    Figure("batches/remote_bytes", "bytes", "size of the batches on the server", lambda look: look.remote.size_bytes),
    Figure(
        "batches/remote_input_tokens",
        "tokens",
        "predicted input of the batches on the server",
        lambda look: look.remote.input_tokens,
    ),
    Figure(
        "batches/remote_completed",
        "requests",
        "that the server says are completed, in batches still there",
        lambda look: _server_counts(look)[0],
    ),
    Figure(
        "batches/remote_failed",
        "requests",
        "that the server says have failed, in batches still there",
        lambda look: _server_counts(look)[1],
    ),
    # ---------------------------------------------------------------- answers
    Figure(
        "answers/total",
        "answers",
        "all that was booked, those of earlier attempts too",
        lambda look: look.spent().answers,
    ),
    Figure("answers/good", "answers", "of use to the task", lambda look: look.spent(lambda line: line.good).answers),
    Figure(
        "answers/not_run",
        "answers",
        "that say: did not run (expired, cancelled), asked again for free",
        lambda look: look.spent(lambda line: not _ran(line)).answers,
    ),
    Figure(
        "answers/retries",
        "answers",
        "to a request's second or later attempt",
        lambda look: look.spent(lambda line: line.attempt > 1).answers,
    ),
    Figure(
        "answers/unknown",
        "calls",
        "direct calls whose answer nobody has seen: lost replies, and what was in flight when a process ended",
        lambda look: look.snapshot.unknown_calls + look.spent(lambda line: line.reason == LOST_REPLY).answers,
    ),
    Figure("answers/pass_ratio", "0…1", "good ones among the answers that ran", _pass_ratio),
    # ---------------------------------------------------------------- tokens
    Figure(
        "tokens/input",
        "tokens",
        "input as the server counted it, of answers in finished batches and by direct calls",
        lambda look: look.snapshot.answered.input_tokens,
    ),
    Figure(
        "tokens/output",
        "tokens",
        "completion as the server counted it, likewise",
        lambda look: look.snapshot.answered.output_tokens,
    ),
    Figure(
        "tokens/input_predicted",
        "tokens",
        "input as it was predicted, of the requests that were answered",
        lambda look: look.snapshot.answered.expected_input_tokens,
    ),
    Figure(
        "tokens/output_predicted",
        "tokens",
        "completion as it was predicted, likewise",
        lambda look: look.snapshot.answered.expected_output_tokens,
    ),
    Figure(
        "tokens/cached",
        "tokens",
        "part of the input that was read from the cache",
        lambda look: look.spent().cached_tokens,
    ),
    Figure(
        "tokens/cache_write",
        "tokens",
        "part of the input that was written to the cache",
        lambda look: look.spent().cache_write_tokens,
    ),
    Figure(
        "tokens/reasoning",
        "tokens",
        "part of the completion that was reasoning",
        lambda look: look.spent().reasoning_tokens,
    ),
    Figure(
        "tokens/longest_output",
        "tokens",
        "the longest completion",
        lambda look: look.snapshot.answered.longest_output_tokens,
    ),
    Figure(
        "tokens/completion_ratio",
        "0…1",
        "completion tokens used, as a share of the maxima of the answered requests",
        lambda look: look.snapshot.answered.completion_ratio,
    ),
    # ---------------------------------------------------------------- money
    Figure(
        "money/spent_pico",
        "picodollars",
        "true cost of all answers, and what is lost without an answer",
        lambda look: look.snapshot.booked.spent_pico,
    ),
    Figure(
        "money/reserved_pico",
        "picodollars",
        "promised to batches and calls that are under way",
        lambda look: look.snapshot.booked.reserved_pico,
    ),
    Figure(
        "money/predicted_pico",
        "picodollars",
        "predicted cost of finished batches and direct calls",
        lambda look: look.snapshot.answered.expected_cost_pico,
    ),
    Figure("money/true_pico", "picodollars", "true cost of the same", lambda look: look.snapshot.answered.cost_pico),
    Figure(
        "money/unlinked_pico",
        "picodollars",
        "part of spent that has no answer to show for it: lost replies, wiped batches, vanished results",
        lambda look: look.snapshot.booked.unlinked_pico,
    ),
    Figure(
        "money/bad_pico",
        "picodollars",
        "part of spent for answers that were no good",
        lambda look: look.spent(lambda line: not line.good).cost_pico,
    ),
    Figure(
        "money/retries_pico",
        "picodollars",
        "part of spent for second and later attempts",
        lambda look: look.spent(lambda line: line.attempt > 1).cost_pico,
    ),
    Figure(
        "money/archived_pico",
        "picodollars",
        "spent before the task was wiped, not in spent",
        lambda look: look.snapshot.archived.spent_pico,
    ),
    Figure(
        "money/session_spent_pico",
        "picodollars",
        "part of spent for what the last run sent",
        lambda look: look.snapshot.session_booked.spent_pico,
    ),
    Figure(
        "money/session_reserved_pico",
        "picodollars",
        "part of reserved for what the last run sent",
        lambda look: look.snapshot.session_booked.reserved_pico,
    ),
    # ---------------------------------------------------------------- pushed, and the limits
    Figure(
        "pushed/task_requests",
        "requests",
        "sent by the task (those that did not run are taken off)",
        lambda look: look.snapshot.booked.requests,
    ),
    Figure(
        "pushed/task_input_tokens",
        "tokens",
        "predicted input of the same",
        lambda look: look.snapshot.booked.input_tokens,
    ),
    Figure(
        "pushed/session_requests",
        "requests",
        "sent by the last run, likewise",
        lambda look: look.snapshot.session_booked.requests,
    ),
    Figure(
        "pushed/session_input_tokens",
        "tokens",
        "predicted input of the same",
        lambda look: look.snapshot.session_booked.input_tokens,
    ),
    Figure("limits/task_requests", "requests", "max_task_requests", lambda look: look.limits.task.requests),
    Figure(
        "limits/task_input_tokens",
        "tokens",
        "max_task_ktokens, over its safety factor",
        lambda look: look.limits.task.input_tokens,
    ),
    Figure(
        "limits/task_cost_pico",
        "picodollars",
        "max_task_cost: spent and reserved together stay below",
        lambda look: look.limits.task.cost_pico,
    ),
    Figure("limits/session_requests", "requests", "max_session_requests", lambda look: look.limits.session.requests),
    Figure(
        "limits/session_input_tokens",
        "tokens",
        "max_session_ktokens, over its safety factor",
        lambda look: look.limits.session.input_tokens,
    ),
    Figure("limits/session_cost_pico", "picodollars", "max_session_cost", lambda look: look.limits.session.cost_pico),
    Figure("limits/remote_batches", "batches", "max_remote_batches", lambda look: look.limits.remote.batches),
    Figure(
        "limits/remote_input_tokens",
        "tokens",
        "max_remote_ktokens, over its safety factor",
        lambda look: look.limits.remote.input_tokens,
    ),
    # ---------------------------------------------------------------- output, and when it is done
    Figure("output/rows", "rows", "standing in the output files", lambda look: look.snapshot.rows),
    Figure("output/files", "files", "of the output", lambda look: len(look.snapshot.delivered)),
    Figure("eta/server_s", "s", "until the batches now on the server have ended", lambda look: look.eta.server_s),
    Figure(
        "eta/waiting_s",
        "s",
        "from then until all that waits has gone through the server too",
        lambda look: look.eta.waiting_s,
    ),
    Figure(
        "eta/direct_s", "s", "for what goes by direct calls, which go on beside batches", lambda look: look.eta.direct_s
    ),
    Figure("eta/total_s", "s", "until all that has been asked so far is answered", lambda look: look.eta.total_s),
)
"""Every figure. What is left out of `Facts.numbers` is not known."""


def _bad_answers(look: Look) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for line in look.snapshot.spending:
        if not line.good:
            found[line.reason] = found.get(line.reason, 0) + line.spent.answers
    return found


FAMILIES = (
    Family(
        "failed/", "REASON", "requests", "given up, by reason", lambda look: look.snapshot.bad_ends[RequestState.FAILED]
    ),
    Family("held/", "REASON", "requests", "held, by reason", lambda look: look.snapshot.bad_ends[RequestState.HELD]),
    Family(
        "answers/bad/", "REASON", "answers", "booked answers that were no good or did not run, by reason", _bad_answers
    ),
)
"""Figures by kind of something."""
