"""In how many batches, and in how many rounds of them, work that is left goes through the present limits.

A round is what may be on the server at once. The numbers are those of batches filled as full as they may be; how long a
round takes is the server's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpt_batch_api.domain.limits import BatchLimits, RemoteLimits
from gpt_batch_api.domain.request import Load

ROUND_S = 24 * 3600.0
"""What the server promises for a batch."""


@dataclass(frozen=True)
class Schedule:
    """How the work that is left would go out."""

    batches: int
    """That are still to be made."""
    direct_requests: int
    """That go by direct calls: remainders too small for a batch."""
    rounds: int | None
    """None: the limits let nothing onto the server."""


def schedule(
    queued: Mapping[tuple[str, str], Load],
    local: Iterable[Load],
    on_server: Iterable[Load],
    *,
    batch: BatchLimits,
    remote: RemoteLimits,
    admitted: Mapping[str, int],
    min_batch_requests: int,
    tokens_of: Mapping[str, int],
) -> Schedule:
    """Plan all that is left. *admitted*: enqueued tokens that the server is known to take, by model.

    *tokens_of*: input tokens of each model in the local batches and those on the server.
    """
    batches = direct = 0
    total = sum((*local, *on_server), Load())
    made = len([*local, *on_server])
    tokens = dict(tokens_of)
    for (_, model), load in queued.items():
        small = load.requests < min_batch_requests and not _fills(load, batch)
        if small:
            direct += load.requests
            continue
        batches += _times(load, batch)
        total += load
        tokens[model] = tokens.get(model, 0) + load.input_tokens
    if not made + batches:
        return Schedule(0, direct, 0)
    if not all((remote.batches, remote.requests, remote.size_bytes, remote.input_tokens, remote.cost_pico)):
        return Schedule(batches, direct, None)
    by_model = (_ceil(tokens[model], most) for model, most in admitted.items() if model in tokens)
    return Schedule(batches, direct, max(_ceil(made + batches, remote.batches), _times(total, remote), *by_model, 1))


def _fills(load: Load, limits: BatchLimits) -> bool:
    return load.requests >= limits.requests or _times(load, limits) > 1


def _times(load: Load, limits: BatchLimits | RemoteLimits) -> int:
    """How often *limits* must be filled for *load*."""
    return max(
        _ceil(load.requests, limits.requests),
        _ceil(load.size_bytes, limits.size_bytes),
        _ceil(load.input_tokens, limits.input_tokens),
        _ceil(load.cost_pico, limits.cost_pico),
    )


def _ceil(amount: int, part: int) -> int:
    return -(-amount // max(1, part))
