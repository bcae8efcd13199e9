"""Take requests from the task's generator into the store.

The generator may yield everything, every time: keys are looked up a thousand per query, and what is known already is
passed by. A payload given as a function is called only for requests that are new. What was pulled from the generator
and is not needed yet waits in memory, at most a thousand requests or 16 MB.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gpt_batch_api.domain.errors import PayloadError
from gpt_batch_api.domain.events import Problem, RequestsAdded
from gpt_batch_api.domain.request import (
    GPTRequest,
    Kind,
    KnownRequest,
    Load,
    NewRequest,
    Prepared,
    RequestKey,
    batch_line,
    hash_of_payload,
)
from gpt_batch_api.endpoints.base import Endpoint, Shape, encode, get_endpoint
from gpt_batch_api.engine.context import Context
from gpt_batch_api.planning.batching import LIMIT_SETTINGS, passed_limit
from gpt_batch_api.planning.next_step import Generator
from gpt_batch_api.store import requests, tasks
from gpt_batch_api.store import twins as stored_twins

LOOKUP = 1000
LOOKUP_BYTES = 16_000_000
FEW = 100
"""So many are looked up at a time where only a few are wanted, so that nothing waits long for it."""


@dataclass(frozen=True)
class Arrived:
    """A request pulled from the generator. Shape and body are there if its payload was given as such."""

    request: GPTRequest
    shape: Shape | None = None
    body: bytes | None = None


class Intake:
    """The task's generator, and what was pulled from it and is not stored yet."""

    def __init__(self, context: Context, *, source: Iterable[GPTRequest] | None) -> None:
        self._context = context
        self._endpoint = get_endpoint(context.settings.general.endpoint)
        self._source: Iterator[GPTRequest] | None = None if source is None else iter(source)
        self._arrived: deque[Arrived] = deque()
        self._known: dict[RequestKey, KnownRequest] = {}
        self._exhausted = False
        self._metadata_version = tasks.get_task(context.db).metadata_version
        if context.settings.extra.dedupe:
            with context.transaction() as tx:
                stored_twins.prepare(tx)

    @property
    def state(self) -> Generator:
        if self._source is None:
            return Generator.OFF
        return Generator.EXHAUSTED if self._exhausted and not self._arrived else Generator.OPEN

    def take(self, want: int) -> None:
        """Store up to *want* new requests; those known already do not count."""
        if not self._arrived:
            self._pull(LOOKUP if want > FEW else FEW)
            self._look_up()
        new: dict[RequestKey, NewRequest] = {}
        passed = 0
        size_bytes = 0
        while self._arrived and len(new) < want and size_bytes < LOOKUP_BYTES:
            arrived = self._arrived[0]
            key = arrived.request.key
            if key in self._known:
                self._compare(arrived, self._known[key])
                passed += 1
            elif key in new:
                self._compare_twins(arrived, new[key])
                passed += 1
            else:
                new[key] = self._prepare(arrived)
                size_bytes += len(new[key].prepared.body)
            self._arrived.popleft()
        with self._context.transaction() as tx:
            if new:
                twins = store(self._context, tx, list(new.values()))
                tasks.set_complete(tx, False)
                self._context.tell(RequestsAdded(new=len(new), known=passed, twins=twins))
        self._known.update({key: KnownRequest(item.payload_hash, self._metadata_version) for key, item in new.items()})

    def note_asked(self) -> None:
        """The task's code has asked follow-ups: what waits here may be known by now."""
        self._look_up()

    def _look_up(self) -> None:
        """Which of the requests that wait here are known already."""
        self._known = requests.find_known(self._context.db, [arrived.request.key for arrived in self._arrived])

    def prepare_asked(self, asked: Sequence[GPTRequest]) -> list[NewRequest]:
        """Make ready the follow-up requests of the task's code; those known already are left out."""
        arrivals = [self._arrive(request) for request in asked]
        known = requests.find_known(self._context.db, [arrived.request.key for arrived in arrivals])
        new: dict[RequestKey, NewRequest] = {}
        for arrived in arrivals:
            key = arrived.request.key
            if key in known:
                self._compare(arrived, known[key])
            elif key in new:
                self._compare_twins(arrived, new[key])
            else:
                new[key] = self._prepare(arrived)
        return list(new.values())

    def _pull(self, most: int) -> None:
        assert self._source is not None
        size_bytes = 0
        for request in self._source:
            arrived = self._arrive(request)
            self._arrived.append(arrived)
            size_bytes += len(arrived.body or b"")
            if len(self._arrived) >= most or size_bytes >= LOOKUP_BYTES or self._context.interruption.wanted:
                return
        self._exhausted = True

    def _arrive(self, request: GPTRequest) -> Arrived:
        check_request(request)
        return Arrived(request) if callable(request.payload) else self._shaped(Arrived(request))

    def _shaped(self, arrived: Arrived) -> Arrived:
        request = arrived.request
        payload = request.payload() if callable(request.payload) else request.payload
        try:
            shape = self._endpoint.prepare(payload)
            return replace(arrived, shape=shape, body=encode(shape.body))
        except PayloadError as error:
            error.sample_key = request.sample_key
            error.args = (f"Request {request.key}: {error}",)
            raise

    def _prepare(self, arrived: Arrived) -> NewRequest:
        """Estimate a request once, and refuse it if it can never be sent."""
        if arrived.shape is None:
            arrived = self._shaped(arrived)
        shape, body = arrived.shape, arrived.body
        assert shape is not None
        assert body is not None
        self._context.catalogue.prices(shape.model)  # raises if there are none; nothing else matters then
        count = self._context.estimator.count(endpoint=self._endpoint.path, body=shape.body)
        for note in count.notes:
            self._guessed(arrived.request.key, note)
        new = NewRequest(
            key=arrived.request.key,
            endpoint=self._endpoint.path,
            prepared=Prepared(
                body=body,
                model=shape.model,
                input_tokens=count.tokens,
                sureness=str(count.sureness),
                max_output_tokens=shape.max_output_tokens,
                choices=shape.choices,
                schema=shape.schema,
                notes=count.notes,
            ),
            payload_hash=hash_of_payload(body),
            meta=arrived.request.meta,
        )
        refuse_oversize(self._context, new, self._endpoint)
        bounded = shape.max_output_tokens is not None
        if not self._context.is_budgetable(bounded=bounded, sureness=new.prepared.sureness):
            raise unbudgetable(new.key, bounded=bounded)
        return new

    def _guessed(self, key: RequestKey, note: str) -> None:
        if self._context.settings.requester.token_estimator_warn != "never":
            self._context.tell(
                Problem(severity="guess", batch=None, request=str(key), reason="token_guess", message=note)
            )

    def _compare(self, arrived: Arrived, known: KnownRequest) -> None:
        """The same key must mean the same question, as long as the task's metadata are the same."""
        if arrived.body is None or known.metadata_version != self._metadata_version:
            return
        if known.payload_hash != hash_of_payload(arrived.body):
            raise _changed(arrived.request.key)

    def _compare_twins(self, arrived: Arrived, twin: NewRequest) -> None:
        if arrived.body is not None and hash_of_payload(arrived.body) != twin.payload_hash:
            raise PayloadError(
                f"Request {arrived.request.key} is asked twice with different payloads. "
                "Give the second one another purpose or number.",
                sample_key=arrived.request.sample_key,
            )


def store(context: Context, tx: sqlite3.Connection, new: Sequence[NewRequest], *, asked_by_task: bool = False) -> int:
    """Store new requests; how many of them wait for the answers of identical ones (`dedupe`)."""
    first_id = requests.add_requests(tx, new, asked_by_task=asked_by_task)
    if not context.settings.extra.dedupe:
        return 0
    return stored_twins.join(tx, first_new_id=first_id, now=context.clock.now())


def check_request(request: object) -> None:
    """Raise PayloadError unless *request* is one, with a key, a number and metadata that the store can keep."""
    if not isinstance(request, GPTRequest):
        raise PayloadError(f"The task asks {request!r:.60}, but requests must be GPTRequest objects.")
    for name, text in (("sample key", request.sample_key), ("purpose", request.purpose)):
        if not isinstance(text, str) or not _is_storable(text) or (name == "sample key" and not text):
            raise PayloadError(
                f"The {name} {text!r:.60} is no good: it must be a text of whole characters"
                + (", not empty." if name == "sample key" else ".")
            )
    number = request.number
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
        raise PayloadError(
            f"The number of request {request.sample_key!r} is {number!r:.40}, but must be a whole number from 0."
        )
    try:
        encode({"meta": request.meta})
    except PayloadError as error:
        words = str(error).replace("The payload", "The metadata")
        raise PayloadError(f"Request {request.key}: {words}", sample_key=request.sample_key) from error


def _is_storable(text: str) -> bool:
    """No zero characters (SQLite's JSON functions end texts there), no halves of character pairs."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def unbudgetable(key: RequestKey, *, bounded: bool) -> PayloadError:
    """The error for a request whose greatest cost is not known before."""
    why = "its input can only be guessed" if bounded else "it sets no maximum of output tokens (max_completion_tokens)"
    return PayloadError(f"With strict_budget request {key} cannot be sent: {why}.", sample_key=key.sample_key)


def refuse_oversize(context: Context, new: NewRequest, endpoint: Endpoint) -> None:
    """Raise PayloadError if the request alone is more than a whole batch may be."""
    prepared = new.prepared
    kind = Kind(
        endpoint.path,
        prepared.model,
        prepared.max_output_tokens,
        prepared.output_allowance,
        context.schema_id(prepared.schema),
    )
    load = context.load(
        kind,
        size_bytes=len(batch_line(10**9, 10**3, endpoint=endpoint.path, body=prepared.body)),
        input_tokens=prepared.input_tokens,
    )
    measure = passed_limit(load, context.limits.batch)
    if measure is not None:
        raise too_heavy(context, new.key, load, measure)


def too_heavy(context: Context, key: RequestKey, load: Load, measure: str) -> PayloadError:
    """The error for a request that fits into no batch."""
    from gpt_batch_api.pricing.cost import dollars

    name = LIMIT_SETTINGS[measure]
    needs = {
        "size_bytes": f"{load.size_bytes / 1e6:,.2f} MB",
        "input_tokens": f"{load.input_tokens:,} tokens",
        "cost_pico": dollars(load.cost_pico),
    }.get(measure, f"{load.requests} requests")
    margin = {"size_bytes": "max_mb_safety", "input_tokens": "max_token_safety"}.get(measure)
    setting = context.settings.value(name)
    tail = f" (and {margin} {context.settings.value(margin)})" if margin else ""
    return PayloadError(
        f"Request {key} alone needs {needs}, but {name} is {setting}{tail}. Raise the limit or shorten the request.",
        sample_key=key.sample_key,
    )


def _changed(key: RequestKey) -> PayloadError:
    return PayloadError(
        f"Request {key} was asked before with another payload. Give the new question another sample key or purpose, "
        "or forget the old one: --wipe_requests if it is not answered yet, --reinit_meta to keep the old answers and ask "
        "only new requests the new way, --wipe_task to start from scratch.",
        sample_key=key.sample_key,
    )
