"""Warn of models that are shut down before the work may be done."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from gpt_batch_api.domain.events import Advice
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.engine.context import Context
from gpt_batch_api.planning.schedule import ROUND_S, schedule
from gpt_batch_api.pricing.catalogue import Catalogue
from gpt_batch_api.store import batches, requests

LEAST_DAYS = 7
"""A model that ends within so many days is told of, however little is left."""


def ending(
    models: Iterable[str], catalogue: Catalogue, *, now: float, rounds: int | None
) -> Iterator[tuple[str, datetime.date]]:
    """Those of *models* that may end before so many rounds of batches are through, each with its last day."""
    today = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    needed_days = max(LEAST_DAYS, (rounds or 1) * ROUND_S / 86_400 + 1)
    for model in sorted(set(models)):
        last_day = catalogue.prices(model).shutdown
        if last_day is not None and (last_day - today).days <= needed_days:
            yield model, last_day


def warn_of_shutdown(context: Context, model: str) -> None:
    """Once in a run, when something is about to go out: say if *model* ends before all that is known can be done."""
    if model in context.told_shutdown:
        return
    context.told_shutdown.add(model)
    for name, last_day in ending([model], context.catalogue, now=context.clock.now(), rounds=_rounds(context)):
        context.tell(
            Advice(
                text=f"{name} is shut down on {last_day}: what is left may not be done by then. Raise the limits of what "
                "may be on the server at once, use direct calls (--force_direct), or choose another model for new requests."
            )
        )


def _rounds(context: Context) -> int | None:
    db = context.db
    queued = {
        (endpoint, model): load + Load(cost_pico=context.plain_cost_pico(endpoint, model, load))
        for (endpoint, model), load in requests.queue_loads(db).items()
    }
    there = batches.in_states(db, BatchState.SEALED, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)
    return schedule(
        queued,
        [batch.load for batch in there],
        [],
        batch=context.limits.batch,
        remote=context.limits.remote,
        admitted={},
        min_batch_requests=context.settings.limits.min_batch_requests,
        tokens_of={},
    ).rounds
