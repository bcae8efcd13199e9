"""Book the answers of an ended batch: fetch both result files, judge each line, one transaction.

No code of the user runs here, so nothing that the user wrote can lose a paid answer. Lines arrive in any order, twice,
broken, for requests never sent, or not at all; each request of the batch ends up answered, queued again, or held.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any

from gpt_batch_api.domain.errors import AccountError
from gpt_batch_api.domain.events import Advice, BatchPostponed, BatchSettled, UsageDiffers
from gpt_batch_api.domain.outcome import Outcome, Road, Usage, Verdict
from gpt_batch_api.domain.request import Load
from gpt_batch_api.endpoints.base import Endpoint, batch_usage, get_endpoint
from gpt_batch_api.endpoints.verdict import BILLING_CODES, ServerError, judge
from gpt_batch_api.engine.booking import Booking, Judged, figures
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.enqueued import batch_limit
from gpt_batch_api.engine.fetch import Fetched, fetch_results
from gpt_batch_api.engine.push import MOST_UPLOADS
from gpt_batch_api.engine.seal import split_if_too_heavy
from gpt_batch_api.engine.spool import Line, read_in_order
from gpt_batch_api.engine.weigh import weigh
from gpt_batch_api.pricing.catalogue import ModelPrices
from gpt_batch_api.pricing.cost import cost_pico
from gpt_batch_api.pricing.exact import round_up
from gpt_batch_api.store import batches, ledger, pushes, responses, tasks
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.store.responses import Awaiting
from gpt_batch_api.wire.batches import RemoteBatch, read_batch

PAGE = 500

MISSING = Outcome(Verdict.RETRYABLE, "missing", "no answer to it is in the result files")
UNFINISHED = {
    "expired": Outcome(Verdict.FREE, "expired", "the batch expired before it was this request's turn"),
    "cancelled": Outcome(Verdict.FREE, "cancelled", "the batch was cancelled before it was this request's turn"),
}
VANISHED = Outcome(
    Verdict.FATAL, "results_vanished", "the result file is gone from the server; asking again would be paid again"
)
CUT_SHORT = Outcome(
    Verdict.FATAL,
    "results_cut_short",
    "the result file came cut short, and its answer was not in it; asking again would be paid again",
)


async def settle(context: Context, batch_id: int) -> None:
    """ended → settled, or sealed again if nothing of the batch ran and it may go another time.

    Nothing, if its results are not all there yet (`context.searches` says when to come again).
    """
    batch = batches.get(context.db, batch_id)
    report = read_batch(batches.report_of(context.db, batch_id))
    if report is not None and report.status == "failed" and not report.output_file_id:
        _settle_failed(context, batch, report)
        return
    fetched = await fetch_results(context, batch)
    if fetched is None:
        return
    is_gone = bool(fetched.vanished) or (report is not None and report.hides_answers)
    booking = _BatchBooking(context, batch, status=batch.remote_status or "unknown")
    with context.transaction() as tx:
        booking.book_lines(tx, read_in_order(fetched.paths, on_broken=booking.tell_broken))
        gone = VANISHED if is_gone else CUT_SHORT if fetched.cut_short else None
        rest = gone or UNFINISHED.get(booking.status, MISSING)
        booking.note_silence(rest)
        booking.book_rest(tx, rest)
        booking.check_usage(tx)
        if not batch.discard:
            _leave_on_server(context, tx, batch, fetched)
        booking.close(tx)
        weigh(context, tx)
    fetched.remove()
    if booking.account_trouble is not None and not batch.discard:
        raise AccountError(
            f"The server refuses this account: {booking.account_trouble.message}", code=booking.account_trouble.reason
        )


def _leave_on_server(context: Context, tx: sqlite3.Connection, batch: BatchRow, fetched: Fetched) -> None:
    """Do not delete result files whose answers could not be read: they may be had by other means."""
    for part in (*fetched.cut_short, *fetched.vanished):
        batches.mark_deleted(tx, [part.file_id])
        what = "is still not there" if part in fetched.vanished else "still came cut short"
        context.tell(
            Advice(
                text=f"The {part.role} file of batch {batch.id} {what}. It is left on the server, as {part.file_id}; "
                "requests whose answers did not come are held."
            )
        )


def judge_line(line: Mapping[str, Any], *, endpoint: Endpoint, structured: bool) -> tuple[Outcome, Usage, int | None]:
    """(verdict, usage, HTTP status) of one result line of any shape."""
    error, response = ServerError.read(line.get("error") or {}), line.get("response")
    if not isinstance(response, Mapping) or (error.says_something and response.get("status_code") != 200):
        return judge(error), Usage(), None
    status = response.get("status_code")
    status = status if isinstance(status, int) else None
    body = response.get("body")
    if status == 200 or (status is None and isinstance(body, Mapping) and "error" not in body):
        reading = endpoint.read(body if isinstance(body, Mapping) else {}, structured=structured)
        return reading.outcome, reading.usage, status
    return judge(ServerError.read(body, status=status)), Usage(), status


class _BatchBooking(Booking):
    """The answers of one batch."""

    def __init__(self, context: Context, batch: BatchRow, *, status: str) -> None:
        super().__init__(context, batch_id=batch.id, discards=batch.discard)
        self._batch = batch
        self._endpoint = get_endpoint(batch.endpoint)
        self.status = status
        self.silent_pico = 0
        """What was paid without an answer to show for it."""
        self._silent_answers = 0
        """Answers that do not say what they used."""
        self._silent = Load()
        """The requests without an answer that may have run."""
        self._long = Load()
        """Those of them that are above the long-context step."""

    def tell_broken(self, raw: bytes) -> None:
        self.problem("warning", "–", "broken_line", f"a result line could not be read: {raw[:80]!r}")

    def book_lines(self, tx: sqlite3.Connection, lines: Iterable[Line]) -> None:
        """Book the answers in *lines*; whatever fits no awaited request is told and left out."""
        lines = iter(lines)
        while page := list(islice(lines, PAGE)):
            awaited = responses.awaiting(tx, self._batch.id, {line.request_id for line in page})
            judged: dict[int, Judged] = {}
            for line in page:
                request = awaited.get(line.request_id)
                if request is None or request.epoch != line.epoch or request.id in judged:
                    name = line.document.get("custom_id")
                    self.problem(
                        "warning", str(name), "stray_answer", "an answer that nobody waits for (or a second one)"
                    )
                    continue
                outcome, usage, status = judge_line(
                    line.document, endpoint=self._endpoint, structured=request.structured
                )
                judged[request.id] = Judged(request, outcome, usage, status, line.raw)
                self._silent_answers += judged[request.id].hides_usage
            self.book(tx, judged.values(), road=Road.BATCH)

    def note_silence(self, outcome: Outcome) -> None:
        """What may have run, and shows no usage, was paid as it was reserved, unless the batch itself says what it used.

        Those are answers without usage and, if *outcome* does not say that they never ran, all that have no answer.
        """
        load, silent = self._batch.load, self._silent_answers
        if outcome.verdict is not Verdict.FREE:
            found = self.sum.succeeded + self.sum.retried + self.sum.failed + self.sum.held + self.sum.free
            silent += load.requests - found
        self.silent_pico = load.cost_pico * silent // load.requests

    def book_rest(self, tx: sqlite3.Connection, outcome: Outcome) -> None:
        """Whoever still waits got no answer."""
        while waiting := responses.unanswered(tx, self._batch.id, limit=PAGE):
            if outcome.verdict is not Verdict.FREE:
                self._add_silent(waiting)
            if self._batch.discard:
                return
            self.book(tx, [Judged(request, outcome) for request in waiting], road=Road.BATCH)

    def _add_silent(self, waiting: Iterable[Awaiting]) -> None:
        step = self._prices.long_context_above
        for request in waiting:
            load = self._context.load(request.kind, size_bytes=0, input_tokens=request.input_tokens)
            self._silent += load
            if step is not None and request.input_tokens > step:
                self._long += load

    def check_usage(self, tx: sqlite3.Connection) -> None:
        """What the batch itself says that it used is what was paid: compare it with the sum of its answers."""
        told = batch_usage(batches.report_of(tx, self._batch.id))
        if told is None:
            return
        self.silent_pico = 0
        if (told.input_tokens, told.output_tokens) == (self.used.input_tokens, self.used.output_tokens):
            return
        self.silent_pico = self._cost_of_silence(told)
        self._context.tell(
            UsageDiffers(
                batch=self._batch.id,
                told_input_tokens=told.input_tokens,
                told_output_tokens=told.output_tokens,
                input_tokens=self.used.input_tokens,
                output_tokens=self.used.output_tokens,
                cost_pico=self.silent_pico,
            )
        )

    def _cost_of_silence(self, told: Usage) -> int:
        """What the tokens cost that no answer shows.

        No sum can show the long-context step: it is applied to as much of them as those requests were to have above it.
        """
        prices, silent, long = self._prices, self._silent, self._long
        plain = replace(prices, long_context_above=None)
        read = Usage(
            input_tokens=max(0, told.input_tokens - self.used.input_tokens),
            cached_tokens=max(0, told.cached_tokens - self.used.cached_tokens),
        )
        said = Usage(output_tokens=max(0, told.output_tokens - self.used.output_tokens))
        above_in = Fraction(long.input_tokens, silent.input_tokens or 1)
        above_out = Fraction(long.expected_output_tokens, silent.expected_output_tokens or 1)
        return round_up(
            cost_pico(read, plain, road=Road.BATCH) * (1 + (prices.long_input_factor - 1) * above_in)
            + cost_pico(said, plain, road=Road.BATCH) * (1 + (prices.long_output_factor - 1) * above_out)
        )

    @property
    def _prices(self) -> ModelPrices:
        return self._context.catalogue.prices(self._batch.model)

    def book_each(self, tx: sqlite3.Connection, outcomes: Mapping[int, Outcome]) -> None:
        """Book an outcome for the requests on certain lines of the batch file (line → outcome)."""
        waiting = responses.unanswered(tx, self._batch.id, limit=self._batch.load.requests)
        chosen = [Judged(request, outcomes[request.line or 0]) for request in waiting if request.line in outcomes]
        for start in range(0, len(chosen), PAGE):
            self.book(tx, chosen[start : start + PAGE], road=Road.BATCH)

    def close(self, tx: sqlite3.Connection, *, failure: str | None = None) -> None:
        """Settle money and batch, and say how it went."""
        now, load = self._context.clock.now(), self._batch.load
        failure = None if self._batch.discard else failure or self._failure()
        self._settle_money(tx, now)
        expected_output_tokens = self._share(load.expected_output_tokens)
        batches.settle(
            tx,
            self._batch,
            self.sum,
            expected_input_tokens=self.expected_input_tokens,
            expected_output_tokens=expected_output_tokens,
            failure=failure,
            now=now,
        )
        self._context.tell(
            BatchSettled(
                batch=self._batch.id,
                status=self.status,
                requests=load.requests,
                expected_input_tokens=self.expected_input_tokens,
                expected_output_tokens=expected_output_tokens,
                expected_cost_pico=load.expected_cost_pico,
                failure=failure,
                **figures(self.sum),
            )
        )

    def _share(self, expected_output_tokens: int) -> int:
        """What was expected of the requests that were answered, of all that was expected of the batch."""
        allowance = self._batch.load.output_allowance
        return expected_output_tokens * self.answered_allowance // allowance if allowance else 0

    def _failure(self) -> str | None:
        if not self.sum.held or self._batch.discard:
            return None
        return f"{self.sum.held:,} of its {self._batch.load.requests:,} requests cannot succeed; the first: {self.first_fatal}"

    def _settle_money(self, tx: sqlite3.Connection, now: float) -> None:
        batch = self._batch
        assert batch.session_id is not None
        booked = ledger.batch_total(tx, batch.id)
        ledger.book(
            tx,
            "discard" if batch.discard else "settle",
            now=now,
            session_id=batch.session_id,
            batch_id=batch.id,
            requests=-self.unrun_requests,
            input_tokens=-self.unrun_tokens,
            reserved_pico=-booked.reserved_pico,
            spent_pico=self.sum.cost_pico + self.silent_pico,
            unlinked_pico=self.silent_pico + (self.sum.cost_pico if batch.discard else 0),
            note="some answers are not in the result files, but were paid" if self.silent_pico else None,
        )


def _settle_failed(context: Context, batch: BatchRow, report: RemoteBatch) -> None:
    """The server refused the whole batch after it was created: nothing of it ran."""
    errors = [ServerError.read(item) for item in report.errors]
    if not batch.discard:
        postponed = batch_limit(report.errors)
        if postponed is not None:
            _postpone(context, batch, limit=postponed[0], message=postponed[1])
            return
        if any(_misses_file(error) for error in errors) and batches.count_uploads(context.db, batch.id) < MOST_UPLOADS:
            _send_again(context, batch, note=str(errors[0]), forget_file=True)
            return
        billing = next((error for error in errors if error.code in BILLING_CODES), None)
        if billing is not None:
            _send_again(context, batch, note=str(billing), forget_file=False)
            raise AccountError(f"The server refuses this account: {billing}", code=billing.code)
    bad_lines = {
        item["line"]: Outcome(
            Verdict.FATAL, error.code or "invalid_batch", f"line {item['line']}: {error}{_param(error)}"
        )
        for item, error in zip(report.errors, errors, strict=True)
        if isinstance(item.get("line"), int) and 1 <= item["line"] <= batch.load.requests
    }
    why = str(errors[0]) if errors else "the server gives no reason"
    booking = _BatchBooking(context, batch, status="failed")
    with context.transaction() as tx:
        booking.book_each(tx, bad_lines)
        if bad_lines:
            booking.book_rest(
                tx, Outcome(Verdict.ACCOUNT, "batch_refused", "its batch was refused because of other lines")
            )
            booking.account_trouble = None
        else:
            booking.book_rest(tx, Outcome(Verdict.FATAL, "batch_refused", why))
        booking.unrun_requests = batch.load.requests
        booking.unrun_tokens = batch.load.input_tokens
        booking.close(tx, failure=f"the server refused it as a whole: {why}")
        weigh(context, tx)


def _misses_file(error: ServerError) -> bool:
    """The batch service did not see the input file: uploaded too recently, or gone."""
    return error.param == "file_id" or "cannot find file" in error.message.lower()


def _send_again(context: Context, batch: BatchRow, *, note: str, forget_file: bool) -> None:
    """Nothing ran and nothing is wrong with the batch: it is local again and goes out anew."""
    now = context.clock.now()
    with context.transaction() as tx:
        if forget_file and (uploaded := pushes.reusable_file(tx, batch.id)) is not None:
            batches.supersede_file(tx, uploaded.file_id)
        pushes.release(tx, batch, now=now, note=note)
        batches.seal_again(tx, batch, not_before=now + context.postponed_s if forget_file else None)


def _param(error: ServerError) -> str:
    return f" (field {error.param})" if error.param else ""


def _postpone(context: Context, batch: BatchRow, *, limit: int, message: str) -> None:
    """Enqueued tokens: no failure. The batch waits and goes again with the same file."""
    now = context.clock.now()
    with context.transaction() as tx:
        if limit:
            tasks.learn_model_limit(tx, batch.model, enqueued_tokens=limit, now=now)
        pushes.release(tx, batch, now=now, note="token limit")
        batches.seal_again(tx, batch, not_before=now + context.postponed_s)
        context.tell(BatchPostponed(batch=batch.id, model=batch.model, limit_tokens=limit or None, message=message))
    split_if_too_heavy(context, batch.id)
