"""Direct calls: judge, admit, answer, book, in this order; the answer is booked before it is sent."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from gpt_batch_api.sandbox import calls, ledger
from gpt_batch_api.sandbox.answering import Answerer, Reply
from gpt_batch_api.sandbox.batch_lines import billing_error
from gpt_batch_api.sandbox.billing import Billing, Road
from gpt_batch_api.sandbox.calls import Call
from gpt_batch_api.sandbox.chance import Asker, fingerprint, share
from gpt_batch_api.sandbox.endpoint import Endpoint
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.rate_limits import RateLimiter
from gpt_batch_api.sandbox.store import Store


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

    def ask(self, endpoint: Endpoint, body: Any, *, plan: Plan, now: float, call: Call) -> Given:
        """Answer *body* and charge for it, or raise what the service says against it."""
        answerer = Answerer(plan, self._billing)
        answerer.check(endpoint, body)
        model = str(body["model"])
        if plan.billing_error is not None:
            raise billing_error(plan.billing_error)
        headers = self._limiter.admit(
            model,
            characters=_characters(body),
            limits=plan.rate_limits,
            now=now,
            time_scale=plan.timing.time_scale,
        )
        tokens = endpoint.count_input(body)  # before the transaction: a long text takes a while
        question = fingerprint(body)
        road: Road = "flex" if body.get("service_tier") == "flex" else "direct"
        with self._store.transaction() as tx:
            times = _ask_again(tx, question)
        if road == "flex" and share(plan.seed, "flex", question, times) < plan.flex_unavailable_rate:
            message = "The server is currently overloaded with flex requests. Please try again later."
            raise ApiError(429, message, type="resource_unavailable", code="resource_unavailable", headers=headers)
        who = f"#{times}"
        reply = answerer.answer(
            endpoint,
            body,
            tokens=tokens,
            asker=Asker(plan.seed, question, who),
            at=now,
            spoilt=answerer.spoilt(model, question, who),
        )
        with self._store.transaction() as tx:
            if reply.usage is not None:
                cost = self._billing.cost_pico(reply.usage, model=model, road=road)
                ledger.book(tx, [ledger.Entry(now, road, model, reply.usage, cost)])
            call.key = reply.body.get("id")
            calls.log(tx, call, at=now, status=reply.status)
        return Given(reply, headers)


def _ask_again(tx: sqlite3.Connection, question: str) -> int:
    """Count that the body is asked once more; return how often it has been now."""
    query = """INSERT INTO asked (body, times) VALUES (?, 1)
               ON CONFLICT (body) DO UPDATE SET times = times + 1 RETURNING times"""
    return int(tx.execute(query, (question,)).fetchone()[0])


def _characters(body: dict[str, Any]) -> int:
    """How long the texts of *body* are, as a rate limiter sees it."""
    asked = body.get("messages") or body.get("input") or ""
    return sum(map(len, _texts(asked)))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for entry in value for text in _texts(entry)]
    if isinstance(value, dict):
        inner = value.get("content", value.get("text", value.get("output")))
        return _texts(inner) if inner is not None else [json.dumps(value)]
    return []
