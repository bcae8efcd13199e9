"""Say whether a batch may go to the server now, and if not, give every reason.

Limits of the task and of the session are sums: once reached they stay reached. Limits of what may be on the server at
once clear by themselves as batches end. A limit is allowed to be reached, never to be passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpt_batch_api.domain.limits import BatchLimits, RemoteLimits, TotalLimits
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.pricing.cost import dollars


@dataclass(frozen=True)
class Limits:
    """All limits of a run, in the units that the engine counts in."""

    batch: BatchLimits
    remote: RemoteLimits
    session: TotalLimits
    task: TotalLimits
    direct: TotalLimits
    """Of direct calls whose answers are looked at together."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            batch=BatchLimits.of(settings),
            remote=RemoteLimits.of(settings),
            session=TotalLimits.of_session(settings),
            task=TotalLimits.of_task(settings),
            direct=TotalLimits.of_direct(settings),
        )


@dataclass(frozen=True)
class Total:
    """What counts against a total limit: sent or reserved."""

    requests: int = 0
    input_tokens: int = 0
    cost_pico: int = 0


@dataclass(frozen=True)
class OnServer:
    """What is on the server now. `model_tokens`: input tokens enqueued there by model."""

    batches: int = 0
    load: Load = Load()
    model_tokens: tuple[tuple[str, int], ...] = ()

    def tokens_of(self, model: str) -> int:
        return dict(self.model_tokens).get(model, 0)


@dataclass(frozen=True)
class Hold:
    """One limit that keeps a batch back. `clears`: by itself, as batches end."""

    limit: str
    needed: int
    used: int
    allowed: int
    clears: bool
    of_model: bool = False
    """It is what the server admits of one model at once."""

    def __str__(self) -> str:
        needed, used, allowed = (self._amount(number) for number in (self.needed, self.used, self.allowed))
        return f"{self.limit}: {used} of {allowed} used, {needed} more needed"

    def _amount(self, number: int) -> str:
        if self.of_model or self.limit.endswith("_ktokens"):
            return f"{number:,} tokens"
        if self.limit.endswith("_cost"):
            return dollars(number)
        return f"{number / 1e6:,.2f} MB" if self.limit.endswith("_mb") else f"{number:,}"


def admit(
    load: Load, *, model: str, task: Total, session: Total, remote: OnServer, limits: Limits, learnt: int | None = None
) -> tuple[Hold, ...]:
    """Every reason why a batch of *load* may not go out now; none means that it may.

    *learnt* is the number of enqueued tokens that the server is known to admit for *model*.
    """
    holds = [
        *admit_direct(load, task=task, session=session, limits=limits),
        *_passed(_remote_checks(load, remote=remote, limits=limits)),
    ]
    enqueued = remote.tokens_of(model)
    if learnt is not None and enqueued and enqueued + load.input_tokens > learnt:
        # With nothing of ours enqueued the server must be asked: others may have filled its queue, or emptied it.
        name = f"the server's limit for {model}"
        holds.append(Hold(name, load.input_tokens, enqueued, learnt, clears=True, of_model=True))
    return tuple(holds)


def admit_direct(load: Load, *, task: Total, session: Total, limits: Limits) -> tuple[Hold, ...]:
    """Every reason why a direct call of *load* may not go out in this session; what is on the server is no matter."""
    return tuple(_passed(_total_checks(load, task=task, session=session, limits=limits)))


_Check = tuple[str, int, int, int, bool]


def _passed(checks: Iterator[_Check]) -> Iterator[Hold]:
    for name, needed, used, allowed, clears in checks:
        if used + needed > allowed:
            yield Hold(name, needed, used, allowed, clears)


def _total_checks(load: Load, *, task: Total, session: Total, limits: Limits) -> Iterator[_Check]:
    for name, total, limit in (("task", task, limits.task), ("session", session, limits.session)):
        yield f"max_{name}_requests", load.requests, total.requests, limit.requests, False
        yield f"max_{name}_ktokens", load.input_tokens, total.input_tokens, limit.input_tokens, False
        yield f"max_{name}_cost", load.cost_pico, total.cost_pico, limit.cost_pico, False


def _remote_checks(load: Load, *, remote: OnServer, limits: Limits) -> Iterator[_Check]:
    on, may = remote.load, limits.remote
    yield "max_remote_batches", 1, remote.batches, may.batches, may.batches > 0
    yield "max_remote_requests", load.requests, on.requests, may.requests, load.requests <= may.requests
    yield "max_remote_mb", load.size_bytes, on.size_bytes, may.size_bytes, load.size_bytes <= may.size_bytes
    yield (
        "max_remote_ktokens",
        load.input_tokens,
        on.input_tokens,
        may.input_tokens,
        load.input_tokens <= may.input_tokens,
    )
    yield "max_remote_cost", load.cost_pico, on.cost_pico, may.cost_pico, load.cost_pico <= may.cost_pico
