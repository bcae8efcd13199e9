"""Estimate what is left of a task, from its store and the present settings. Nothing is changed, nobody is asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gpt_batch_api.domain.limits import BatchLimits, RemoteLimits, TotalLimits, less_token_margin
from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.engine.context import forecast_of, plain_cost_pico
from gpt_batch_api.engine.seal import LEARNT_FOR_S
from gpt_batch_api.engine.session import load_catalogue
from gpt_batch_api.engine.shutdowns import ending
from gpt_batch_api.planning.estimate import Estimate
from gpt_batch_api.planning.forecast import Rest, foretell
from gpt_batch_api.planning.schedule import schedule
from gpt_batch_api.pricing.catalogue import Catalogue
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store import ledger, remainder, tasks
from gpt_batch_api.store.connection import reading
from gpt_batch_api.store.ledger import Booked
from gpt_batch_api.store.pace import pace
from gpt_batch_api.store.remainder import Standing
from gpt_batch_api.tokens.calibrate import Forecast


def estimate_stored(path: Path, settings: Settings, *, now: float) -> Estimate | None:
    """Estimate what is left of the task in the store at *path*, as far as the store knows; None if it has not begun.

    Another process may be working on it. Raises StoreError, SettingError.
    """
    with reading(path) as db:
        if not tasks.has_begun(db):
            return None
        db.execute("BEGIN")
        return estimate(db, settings, now=now, generator_asked=False)


def estimate(db: sqlite3.Connection, settings: Settings, *, now: float, generator_asked: bool) -> Estimate:
    """Estimate what is left. Raises SettingError if a model has no price."""
    catalogue = load_catalogue(settings)
    forecast = forecast_of(db, settings)
    rest = foretell(remainder.known(db), catalogue=catalogue, forecast=forecast)
    standing = remainder.standing(db)
    lately = pace(db)
    queued = {
        (endpoint, model): _with_cost(load, endpoint, model, catalogue, forecast)
        for (endpoint, model), load in standing.queued.items()
    }
    plan = schedule(
        queued,
        _all(standing.local),
        _all(standing.on_server),
        batch=BatchLimits.of(settings),
        remote=RemoteLimits.of(settings),
        admitted={
            model: less_token_margin(learnt, settings)
            for model, learnt in tasks.model_limits(db, learnt_after=now - LEARNT_FOR_S).items()
        },
        min_batch_requests=settings.limits.min_batch_requests,
        tokens_of={
            model: sum(
                load.input_tokens for load in (*standing.local.get(model, ()), *standing.on_server.get(model, ()))
            )
            for model in {*standing.local, *standing.on_server}
        },
    )
    booked = ledger.task_total(db)
    to_send = sum(queued.values(), sum(_all(standing.local), Load()))
    return Estimate(
        rest=rest,
        generator_asked=generator_asked,
        in_local_batches=sum(load.requests for load in _all(standing.local)),
        on_server=sum(load.requests for load in _all(standing.on_server)),
        answered=standing.answered,
        held=standing.held,
        spent_pico=booked.spent_pico,
        schedule=plan,
        local_batches=len(_all(standing.local)),
        remote_batches=len(_all(standing.on_server)),
        round_s=lately.batch_s,
        longest_round_s=lately.longest_batch_s,
        direct_per_s=lately.direct_per_s,
        limits=tuple(_passed(to_send, rest, booked, settings)),
        shutdowns=tuple(ending(_models(standing), catalogue, now=now, rounds=plan.rounds)),
    )


def _models(standing: Standing) -> set[str]:
    return {model for _, model in standing.queued} | set(standing.local) | set(standing.on_server)


def _all(by_model: dict[str, list[Load]]) -> list[Load]:
    return [load for loads in by_model.values() for load in loads]


def _with_cost(load: Load, endpoint: str, model: str, catalogue: Catalogue, forecast: Forecast) -> Load:
    """*load* with what it reserves, about."""
    cost = plain_cost_pico(catalogue.prices(model).batch, forecast, endpoint, model, load)
    return load + Load(cost_pico=cost)


def _passed(to_send: Load, rest: Rest, booked: Booked, settings: Settings) -> Iterator[str]:
    """The limits of task and run that are in the way of what is still to be sent."""
    for name, limits, used in (
        ("task", TotalLimits.of_task(settings), booked),
        ("session", TotalLimits.of_session(settings), Booked()),
    ):
        cost = rest.cost_pico[Road.BATCH].expected
        checks = (
            ("requests", to_send.requests, limits.requests, used.requests, f"{to_send.requests:,}"),
            (
                "ktokens",
                to_send.input_tokens,
                limits.input_tokens,
                used.input_tokens,
                f"{to_send.input_tokens:,} tokens",
            ),
            ("cost", cost, limits.cost_pico, used.cost_pico, f"{dollars(cost)} in batches"),
        )
        for measure, needed, most, already, words in checks:
            if already + needed > most:
                left = max(0, most - already)
                amount = dollars(left) if measure == "cost" else f"{left:,}"
                yield f"max_{name}_{measure} leaves {amount}, and {words} are still to be sent"
