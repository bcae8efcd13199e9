"""How many batches and rounds of batches are to come at the present limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpt_batch_api.domain.limits import BatchLimits, RemoteLimits
from gpt_batch_api.domain.request import Load
from gpt_batch_api.planning.schedule import Schedule, schedule

BATCH = BatchLimits(requests=100, size_bytes=10**6, input_tokens=10_000, cost_pico=10**12)
REMOTE = RemoteLimits(batches=4, requests=10**6, size_bytes=10**9, input_tokens=10**9, cost_pico=10**15)
KEY = ("/v1/chat/completions", "m")


def load(requests: int, **more: int) -> Load:
    return Load(**{"requests": requests, "size_bytes": requests, "input_tokens": requests, **more})


def plan(queued: Load | None = None, **values: Any) -> Schedule:
    given: dict[str, Any] = {
        "batch": BATCH,
        "remote": REMOTE,
        "admitted": {},
        "min_batch_requests": 10,
        "tokens_of": {},
        "local": [],
        "on_server": [],
        **values,
    }
    local, on_server = given.pop("local"), given.pop("on_server")
    return schedule({KEY: queued} if queued else {}, local, on_server, **given)


def test_nothing_left_needs_no_round() -> None:
    assert plan() == Schedule(0, 0, 0)


@pytest.mark.parametrize(
    ("queued", "batches"),
    [
        (load(100), 1),
        (load(101), 2),
        (load(50, input_tokens=30_001), 4),
        (load(50, size_bytes=2_000_001), 3),
        (load(50, cost_pico=5 * 10**12), 5),
    ],
    ids=["full", "one more", "tokens", "bytes", "cost"],
)
def test_the_limit_that_is_met_first_decides_how_many_batches(queued: Load, batches: int) -> None:
    assert plan(queued).batches == batches


def test_a_small_remainder_goes_by_direct_calls() -> None:
    """But for one that fills a batch in another measure."""
    assert plan(load(9)) == Schedule(0, 9, 0)
    assert plan(load(10)) == Schedule(1, 0, 1)
    assert plan(load(9, input_tokens=10_001)) == Schedule(2, 0, 1)


def test_rounds_are_what_fits_on_the_server_at_once() -> None:
    """With the batches that are made, and there, already."""
    assert plan(load(400)).rounds == 1
    assert plan(load(401)).rounds == 2
    assert plan(load(400), local=[load(100)], on_server=[load(100)] * 3).rounds == 2
    assert plan(load(400), remote=replace(REMOTE, input_tokens=100)).rounds == 4


def test_what_the_server_admits_of_a_model_decides_too() -> None:
    found = plan(load(300), admitted={"m": 100, "other": 1}, tokens_of={"m": 100})
    assert found.rounds == 4


def test_limits_of_0_let_nothing_out() -> None:
    assert plan(load(300), remote=replace(REMOTE, batches=0)) == Schedule(3, 0, None)
