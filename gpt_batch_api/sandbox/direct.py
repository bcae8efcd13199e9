"""Direct calls: judge, admit, answer, book, in this order; the answer is booked before it is sent."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from dataclasses import dataclass, field
from typing import Any

from gpt_batch_api.sandbox import calls, ledger
from gpt_batch_api.sandbox.answering import Answerer, Reply
from gpt_batch_api.sandbox.batch_lines import billing_error, flex_unavailable
from gpt_batch_api.sandbox.billing import Billing, Road
from gpt_batch_api.sandbox.calls import Call
from gpt_batch_api.sandbox.chance import Asker, fingerprint, share
from gpt_batch_api.sandbox.endpoint import Body, Endpoint
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.rate_limits import RateLimiter
from gpt_batch_api.sandbox.store import Store

_TOKEN, _PICTURE = 4, 3_000
_MEDIA = ("image_url", "input_image", "input_audio", "file", "input_file")


@dataclass(frozen=True)
class Admitted:
    """A call that is right and within all limits. `headers` say what the limits still leave."""

    endpoint: Endpoint
    body: Body
    answerer: Answerer
    at: float
    headers: dict[str, str]


@dataclass(frozen=True)
class Given:
    """An answer on its way out."""

    reply: Reply
    headers: dict[str, str] = field(default_factory=dict)


class Direct:
    """Answers direct calls."""

    def __init__(self, store: Store, billing: Billing) -> None:
        self._store = store
        self._billing = billing
        self._limiter = RateLimiter()
        self._times = _Times(store)
        self._waits = itertools.count()

    def admit(self, endpoint: Endpoint, body: Any, *, plan: Plan, now: float) -> Admitted:
        """Take a call, or raise what the service says against it."""
        answerer = Answerer(plan, self._billing)
        answerer.check(endpoint, body)
        if plan.billing_error is not None:
            raise billing_error(plan.billing_error)
        headers = self._limiter.admit(
            str(body["model"]),
            characters=_characters(body),
            limits=plan.rate_limits,
            now=now,
            time_scale=plan.timing.time_scale,
        )
        return Admitted(endpoint, body, answerer, now, headers)

    def latency_s(self, plan: Plan) -> float:
        """How many real seconds the next answer takes."""
        if not plan.latency_spread_s:
            return plan.latency_s
        return plan.latency_s + plan.latency_spread_s * share(plan.seed, "latency", next(self._waits))

    def answer(self, admitted: Admitted, *, call: Call) -> Given:
        """Answer a call and charge for it; both are on the disk when it returns."""
        body, plan, answerer = admitted.body, admitted.answerer.plan, admitted.answerer
        model, question = str(body["model"]), fingerprint(body)
        times = self._times.once_more(question)
        road: Road = "flex" if body.get("service_tier") == "flex" else "direct"
        if road == "flex" and share(plan.seed, "flex", question, times) < plan.flex_unavailable_rate:
            error = flex_unavailable()
            error.headers = admitted.headers
            raise error
        who = f"#{times}"
        reply = answerer.answer(
            admitted.endpoint,
            body,
            tokens=admitted.endpoint.count_input(body),
            asker=Asker(plan.seed, question, who),
            at=admitted.at,
            spoilt=answerer.spoilt(model, question, who, fault=call.fault),
        )
        with self._store.transaction() as tx:
            self._times.save(tx, question, times)
            if reply.usage is not None:
                cost = self._billing.cost_pico(reply.usage, model=model, road=road)
                ledger.book(tx, [ledger.Entry(admitted.at, road, model, reply.usage, cost)])
            call.key = reply.body.get("id")
            calls.log(tx, call, at=admitted.at, status=reply.status)
        return Given(reply, admitted.headers)


class _Times:
    """How often each body has been asked. Kept in memory too, so that a call needs one transaction only."""

    def __init__(self, store: Store) -> None:
        self._lock = threading.Lock()
        with store.reading() as db:
            self._times: dict[str, int] = {row[0]: row[1] for row in db.execute("SELECT body, times FROM asked")}

    def once_more(self, question: str) -> int:
        """Count that *question* is asked once more; return how often it has been now."""
        with self._lock:
            self._times[question] = self._times.get(question, 0) + 1
            return self._times[question]

    def save(self, tx: sqlite3.Connection, question: str, times: int) -> None:
        """Write down that *question* has been asked so many *times*, or more if that is known already."""
        query = """INSERT INTO asked (body, times) VALUES (?, ?)
                   ON CONFLICT (body) DO UPDATE SET times = MAX(times, excluded.times)"""
        tx.execute(query, (question, times))


def _characters(body: Body) -> int:
    """How long *body* is, as a rate limiter sees it. Pictures and the like count alike, whatever their size."""
    asked = body.get("messages") or body.get("input") or ""
    return sum(map(_length, (asked, body.get("instructions"))))


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        return _TOKEN  # an input of Embeddings in tokens
    if isinstance(value, list):
        return sum(map(_length, value))
    if isinstance(value, dict):
        if value.get("type") in _MEDIA:
            return _PICTURE
        inner = value.get("content", value.get("text", value.get("output")))
        return len(json.dumps(value)) if inner is None else _length(inner)
    return 0
