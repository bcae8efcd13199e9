"""Answer one request body: the one way for direct calls and for the lines of batches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from gpt_batch_api.sandbox.billing import Billing, Usage
from gpt_batch_api.sandbox.chance import Asker, share
from gpt_batch_api.sandbox.chat import Chat
from gpt_batch_api.sandbox.embeddings import Embeddings
from gpt_batch_api.sandbox.endpoint import Asked, Body, Endpoint, Spoilt
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.models import context_tokens
from gpt_batch_api.sandbox.plan import ANSWER_FAULTS, Plan
from gpt_batch_api.sandbox.responses import Responses

_ALL: tuple[Endpoint, ...] = (Chat(), Responses(), Embeddings())
ENDPOINTS = {endpoint.path: endpoint for endpoint in _ALL}


@dataclass(frozen=True)
class Reply:
    """An answer or an error, as status and document. `usage` is what it is charged for; None costs nothing."""

    status: int
    body: Body
    usage: Usage | None = None


@dataclass(frozen=True)
class Answerer:
    """All that answers depend on besides the question."""

    plan: Plan
    billing: Billing

    @property
    def models(self) -> Collection[str]:
        """The models that exist; empty if no catalogue is known, then all do."""
        names = self.billing.names
        return names | set(self.plan.extra_models) if names else names

    def check(self, endpoint: Endpoint, body: Any) -> None:
        """Raise what the service says against *body*, if it does."""
        if not isinstance(body, dict):
            raise ApiError(400, "Invalid type for request body: expected an object.")
        endpoint.check(body, models=self.models)

    def answer(self, endpoint: Endpoint, body: Body, *, tokens: int, asker: Asker, at: float, spoilt: Spoilt) -> Reply:
        """Answer a checked *body* of *tokens* input tokens."""
        limit = self.plan.limits.context_tokens or context_tokens(str(body["model"]))
        if tokens > limit and not endpoint.path.endswith("embeddings"):
            raise endpoint.overflow(tokens, limit)
        answered = endpoint.answer(Asked(body, asker, tokens, at, self.plan.answers, spoilt))
        document = answered.body
        if spoilt.blank_id and "id" in document:
            document = {**document, "id": ""}
        if spoilt.no_usage:
            document = {name: value for name, value in document.items() if name != "usage"}
        return Reply(200, document, answered.usage)

    def spoilt(self, model: str, *identity: object, fault: str | None = None) -> Spoilt:
        """What the plan's rates spoil of the answer with this *identity*, and *fault* if it is one of answers."""
        answers, seed = self.plan.answers, self.plan.seed

        def happens(rate: float, what: str) -> bool:
            return rate > 0 and share(seed, what, *identity) < rate

        spoilt = Spoilt(
            refusal=happens(answers.refusal_rate, "refusal"),
            length=happens(answers.length_rate, "length"),
            broken_json=happens(answers.broken_json_rate, "broken_json"),
            cached=happens(answers.cache_rate, "cache"),
            cache_write=self.billing.writes_cost(model) and happens(answers.cache_write_rate, "cache_write"),
        )
        return replace(spoilt, **{fault: True}) if fault in ANSWER_FAULTS else spoilt
