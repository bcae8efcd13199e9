"""Say in log lines what happens. A quiet run prints a line per batch, none per request.

Repeated problems are summarised: of each kind a batch shows the first few, then only a count. What earlier batches have
shown counts half, and counts are told when they have doubled, and at the end. So equal problems stay a handful of lines in
however many batches they come.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpt_batch_api.domain import events
from gpt_batch_api.domain.events import Event
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.words import count, sentence
from gpt_batch_api.monitor.exchange import answer_text, request_text
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store.events import Told

logger = logging.getLogger("gpt_batch_api")

WAIT_LINE_S = 300.0
"""How often a wait is told of on the log."""


@dataclass
class _Kind:
    """The problems of a kind that a run has met."""

    seen: int = 0
    shown: int = 0
    told: int = 0
    """How many were hidden when a number of them was last told,"""
    summed_up: int = 0
    """and that number: of one batch, or of all."""
    _seen_in: Counter[int | None] = field(default_factory=Counter)
    _shown_in: Counter[int | None] = field(default_factory=Counter)

    @property
    def hidden(self) -> int:
        return self.seen - self.shown

    def in_batch(self, batch: int) -> tuple[int, int]:
        """How many were seen in a batch, and how many of them were not shown."""
        return self._seen_in[batch], self._seen_in[batch] - self._shown_in[batch]

    def shows(self, batch: int | None, *, most: int) -> bool:
        """Count one more; say whether it is to be shown. *most*: so many in a batch."""
        self.seen += 1
        self._seen_in[batch] += 1
        earlier = self.shown - self._shown_in[batch]
        shows = self._shown_in[batch] < most - earlier // 2
        self._shown_in[batch] += shows
        self.shown += shows
        return shows

    def forget(self, batch: int | None) -> None:
        """A batch is over."""
        del self._seen_in[batch], self._shown_in[batch]


class LogLines:
    """A listener that writes events to the log `gpt_batch_api`."""

    def __init__(
        self,
        settings: Settings,
        *,
        prefix: str = "",
        beside_view: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """With *beside_view* what changes all the time is left to a live view below the log."""
        self._settings = settings
        self._prefix = prefix
        self._beside_view = beside_view and settings.extra.verbosity != "verbose"
        self._monotonic = monotonic
        self._problems: dict[tuple[str, str], _Kind] = {}
        self._guesses: set[str] = set()
        self._progress_told = float("-inf")
        self._wait_told = float("-inf")

    def __call__(self, event: Event) -> None:
        teller = getattr(self, f"_tell_{type(event).__name__}", None)
        if teller is not None:
            teller(event)

    def _say(self, level: int, text: str) -> None:
        if self._settings.extra.verbosity == "quiet" and level < logging.WARNING:
            return
        logger.log(level, "%s%s", self._prefix, text)

    # ------------------------------------------------------------ the run

    def _tell_RunBegan(self, event: events.RunBegan) -> None:  # noqa: N802 - named after its event
        if event.in_doubt:
            self._say(logging.INFO, f"Resuming; asking the server what became of {count(event.in_doubt, 'push')}.")
        elif event.resumed:
            self._say(logging.INFO, "Resuming where the last run stopped.")

    def _tell_RequestsAdded(self, event: events.RequestsAdded) -> None:  # noqa: N802
        level = logging.INFO if self._settings.extra.verbosity == "verbose" else logging.DEBUG
        twins = f", {event.twins:,} ask what others have asked" if event.twins else ""
        self._say(level, f"Generated {count(event.new, 'request')} ({event.known:,} known already{twins}).")

    def _tell_Waiting(self, event: events.Waiting) -> None:  # noqa: N802
        now = self._monotonic()
        if now - self._wait_told >= WAIT_LINE_S and not self._beside_view:
            self._wait_told = now
            self._say(logging.INFO, f"Waiting for {', '.join(event.reasons)}. Ctrl+C is safe.")

    def _tell_Advice(self, event: events.Advice) -> None:  # noqa: N802
        self._say(logging.WARNING, event.text)

    def _tell_Wiped(self, event: events.Wiped) -> None:  # noqa: N802
        again = f"; {event.to_replay:,} stored answers are shown to the task again" if event.to_replay else ""
        self._say(
            logging.WARNING,
            f"Wiped ({event.what}): {count(event.requests, 'request')} of {count(event.samples, 'sample')}, "
            f"{count(event.rows, 'output row')}{again}.",
        )

    def _tell_Reprocessing(self, event: events.Reprocessing) -> None:  # noqa: N802
        self._say(
            logging.INFO,
            f"Reprocessing {count(event.samples, 'sample')}: {count(event.answers, 'stored answer')} shown to the task again, "
            f"{count(event.rows, 'output row')} taken back.",
        )

    def _tell_TaskCompleted(self, event: events.TaskCompleted) -> None:  # noqa: N802
        self._say(logging.INFO, f"The task is complete: {count(event.rows, 'output row')}.")

    def _tell_RunEnded(self, event: events.RunEnded) -> None:  # noqa: N802
        self._sum_up_problems(None)

    # ------------------------------------------------------------ batches

    def _tell_BatchSealed(self, event: events.BatchSealed) -> None:  # noqa: N802
        self._say(
            logging.INFO,
            f"Batch {event.batch}: prepared {count(event.requests, 'request')}, {event.input_tokens:,} input tokens, "
            f"{event.size_bytes / 1e6:,.2f} MB, about {dollars(event.cost_pico)} ({event.file_name}).",
        )

    def _tell_BatchDissolved(self, event: events.BatchDissolved) -> None:  # noqa: N802
        self._say(
            logging.INFO,
            f"Batch {event.batch}: dissolved, {count(event.requests, 'request')} back in the queue ({event.why}).",
        )

    def _tell_BatchRecalled(self, event: events.BatchRecalled) -> None:  # noqa: N802
        done = "" if event.done is None else f", {event.done:,} of {event.requests:,} done"
        self._say(logging.INFO, f"Batch {event.batch}: cancelled because of the deadline{done}.")

    def _tell_BatchPushed(self, event: events.BatchPushed) -> None:  # noqa: N802
        how = "found on the server again" if event.adopted else "pushed"
        self._say(
            logging.INFO,
            f"Batch {event.batch}: {how} as {event.remote_id} ({count(event.requests, 'request')}, "
            f"reserved {dollars(event.cost_pico)}).",
        )

    def _tell_WouldPush(self, event: events.WouldPush) -> None:  # noqa: N802
        self._say(
            logging.INFO,
            f"Batch {event.batch}: would be pushed now ({count(event.requests, 'request')}, {event.input_tokens:,} input "
            f"tokens, {event.size_bytes / 1e6:,.2f} MB, reserving {dollars(event.cost_pico)}).",
        )

    def _tell_ReplyLost(self, event: events.ReplyLost) -> None:  # noqa: N802
        self._say(
            logging.WARNING,
            f"Batch {event.batch}: the reply was lost while {event.operation} ({event.message}). "
            "It is looked for on the server before anything is sent again.",
        )

    def _tell_PushRefused(self, event: events.PushRefused) -> None:  # noqa: N802
        self._say(logging.WARNING, f"Batch {event.batch}: not taken by the server ({event.message}). It stays local.")

    def _tell_BatchPostponed(self, event: events.BatchPostponed) -> None:  # noqa: N802
        learnt = f" Learnt: {event.limit_tokens:,} enqueued tokens for {event.model}." if event.limit_tokens else ""
        self._say(logging.INFO, f"Batch {event.batch}: the server's queue is full, it goes again later.{learnt}")

    def _tell_BatchProgressed(self, event: events.BatchProgressed) -> None:  # noqa: N802
        if self._beside_view:
            return
        now = self._monotonic()
        if now - self._progress_told < WAIT_LINE_S and self._settings.extra.verbosity != "verbose":
            return
        self._progress_told = now
        done = (
            ""
            if not event.total
            else f", {event.completed or 0:,} of {event.total:,} done, {event.failed or 0:,} failed"
        )
        self._say(logging.INFO, f"Batch {event.batch}: {event.status}{done}.")

    def _tell_BatchSettled(self, event: events.BatchSettled) -> None:  # noqa: N802
        self._tell_answers(f"Batch {event.batch}", event.status, event)
        self._sum_up_problems(event.batch)
        if event.failure:
            self._say(logging.ERROR, f"Batch {event.batch} failed: {event.failure}.")

    def _tell_UsageDiffers(self, event: events.UsageDiffers) -> None:  # noqa: N802
        paid = (
            f"{dollars(event.cost_pico)} have no answer to show for them, and count as spent"
            if event.cost_pico
            else "what the answers say is booked"
        )
        self._say(
            logging.WARNING,
            f"Batch {event.batch}: the server says that it used {event.told_input_tokens:,} input and "
            f"{event.told_output_tokens:,} completion tokens, its answers say {event.input_tokens:,} and "
            f"{event.output_tokens:,}: {paid}.",
        )

    def _tell_DirectSettled(self, event: events.DirectSettled) -> None:  # noqa: N802
        if event.requests:
            self._tell_answers(f"Direct group {event.group}", "answered", event)
        if event.failure:
            self._say(logging.ERROR, f"Direct group {event.group} failed: {event.failure}.")

    def _tell_answers(self, whose: str, status: str, event: events.AnswersSettled) -> None:
        counts = {
            "succeeded": event.succeeded,
            "to be asked again": event.retried,
            "not run": event.free,
            "failed": event.failed,
            "held": event.held,
        }
        told = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "no answers"
        self._say(
            logging.INFO,
            f"{whose}: {status}, {told}; {event.input_tokens:,} input tokens "
            f"(predicted {event.expected_input_tokens:,}), {event.output_tokens:,} completion tokens "
            f"(assumed {event.expected_output_tokens:,}), max {event.longest_output_tokens:,} tokens, "
            f"completion ratio {ratio(event.output_tokens, event.output_allowance)}; "
            f"cost {dollars(event.cost_pico)} (expected {dollars(event.expected_cost_pico)}).",
        )
        self._warn_of_predictions(whose, event)

    def _warn_of_predictions(self, whose: str, event: events.AnswersSettled) -> None:
        requester = self._settings.requester
        for what, predicted, true, factor, name in (
            (
                "input tokens were predicted",
                event.expected_input_tokens,
                event.input_tokens,
                requester.warn_predicted_input_factor,
                "warn_predicted_input_factor",
            ),
            (
                "completion tokens were assumed (see assumed_completion_ratio)",
                event.expected_output_tokens,
                event.output_tokens,
                requester.warn_assumed_completion_factor,
                "warn_assumed_completion_factor",
            ),
        ):
            if predicted and true and max(predicted / true, true / predicted) > factor:
                self._say(
                    logging.WARNING,
                    f"{whose}: {predicted:,} {what}, {true:,} were used: off by more than {factor:g} ({name}).",
                )

    # ------------------------------------------------------------ direct calls

    def _tell_CallsUnknown(self, event: events.CallsUnknown) -> None:  # noqa: N802
        self._say(
            logging.WARNING,
            f"{count(event.count, 'direct call')} had no answer when the process ended. Whether they ran is not known: "
            f"{dollars(event.cost_pico)} count as spent, and they are asked again.",
        )

    def _tell_WouldCall(self, event: events.WouldCall) -> None:  # noqa: N802
        self._say(
            logging.INFO,
            f"{count(event.requests, 'request')} would be sent by direct calls now ({event.input_tokens:,} input tokens, "
            f"reserving {dollars(event.cost_pico)}).",
        )

    def _tell_DirectExchange(self, event: events.DirectExchange) -> None:  # noqa: N802
        colour = wants_colour()
        text = request_text(event.request, json.loads(event.body), endpoint=event.endpoint, colour=colour)
        if event.outcome is not None:
            text += "\n" + answer_text(
                event.request,
                _document(event.reply),
                endpoint=event.endpoint,
                outcome=event.outcome,
                usage=event.usage,
                cost_pico=event.cost_pico,
                took_s=event.took_s,
                colour=colour,
            )
        logger.info("%s\n%s", self._prefix.strip(), text)

    # ------------------------------------------------------------ requests

    def _tell_Problem(self, event: events.Problem) -> None:  # noqa: N802
        if event.severity == "guess":
            self._tell_guess(event)
            return
        kind = self._problems.setdefault((event.severity, event.reason), _Kind())
        if kind.shows(event.batch, most=self._most(event.severity)):
            where = f"Batch {event.batch}: request" if event.batch is not None else "Request"
            self._say(_level(event.severity), f"{where} {event.request}: {event.reason}: {sentence(event.message)}")

    def _most(self, severity: str) -> int:
        requester = self._settings.requester
        return requester.show_errors if severity == "error" else requester.show_warnings

    def _tell_guess(self, event: events.Problem) -> None:
        often = self._settings.requester.token_estimator_warn == "always"
        if often or event.message not in self._guesses:
            self._guesses.add(event.message)
            self._say(logging.WARNING, f"Request {event.request}: tokens are guessed: {sentence(event.message)}")

    def _sum_up_problems(self, batch: int | None) -> None:
        """Tell how many were not shown, if that says much more than what was told before. None: of the whole run."""
        for (severity, reason), kind in sorted(self._problems.items()):
            seen, hidden = (kind.seen, kind.hidden) if batch is None else kind.in_batch(batch)
            is_news = kind.summed_up < kind.hidden if batch is None else kind.told * 2 <= kind.hidden
            if hidden and is_news:
                kind.told, kind.summed_up = kind.hidden, hidden
                whose = "Requests" if batch is None else f"Batch {batch}"
                self._say(_level(severity), f"{whose}: {hidden:,} more of {reason} ({seen:,} in all).")
            kind.forget(batch)

    def _tell_HeldDecided(self, event: events.HeldDecided) -> None:  # noqa: N802
        self._say(
            logging.WARNING,
            f"{event.what}: force-processed, {event.failed:,} held requests count as failed, "
            f"{event.retried:,} are asked again.",
        )

    def _tell_OutputCut(self, event: events.OutputCut) -> None:  # noqa: N802
        self._say(
            logging.INFO,
            f"Output: cut {count(event.size_bytes, 'byte')} that stood behind the delivered rows: a run was ended while it "
            "wrote them, or they were added by hand.",
        )

    def _tell_OutputDelivered(self, event: events.OutputDelivered) -> None:  # noqa: N802
        level = logging.INFO if self._settings.extra.verbosity == "verbose" else logging.DEBUG
        self._say(level, f"Output: {event.total_rows:,} rows in {event.file_name}.")

    def _tell_FilesDeleted(self, event: events.FilesDeleted) -> None:  # noqa: N802
        self._say(logging.DEBUG, f"Deleted {count(event.count, 'file')} of ours on the server.")


def _level(severity: str) -> int:
    return logging.ERROR if severity == "error" else logging.WARNING


class _Words(LogLines):
    """The lines of events, kept instead of logged."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.lines: list[str] = []

    def _say(self, level: int, text: str) -> None:
        self.lines.append(text)


def words_of(told: Told, *, settings: Settings) -> list[str]:
    """What the log said of an event of the timeline; nothing if it is one of another version."""
    kind = getattr(events, told.kind, None)
    words = _Words(settings)
    try:
        words(kind(**told.data))  # type: ignore[misc]
    except TypeError:
        return []
    return words.lines


def wants_colour() -> bool:
    """Whether the log goes where colours are shown (see `utils.ColorFormatter`)."""
    handlers = logging.getLogger().handlers
    return bool(handlers) and all(getattr(handler.formatter, "color", False) for handler in handlers)


def _document(reply: bytes | None) -> Any:
    """The reply as JSON; what is none is shown as the text it is."""
    if reply is None:
        return None
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        return {"reply": reply[:2000].decode(errors="replace")}


def ratio(part: int, whole: int) -> str:
    """A share with three digits, or – where there is none."""
    return f"{part / whole:.3f}" if whole else "–"
