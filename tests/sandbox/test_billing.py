"""Money: what a response costs, and that the ledger holds every charged response once."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_batch_api.sandbox.billing import Billing, Road, Usage
from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import PRICES, Rig, body, request, requests

ODD = {"odd": {"input": "0.0000001", "cached": "0", "output": "0", "batch": {"input": "0.0000005"}}}


def cost(model: str, road: Road, **tokens: int) -> int:
    usage = Usage(**{"input": 0, **tokens})
    return Billing(PRICES).cost_pico(usage, model=model, road=road)


def test_prices_are_whole_picodollars_a_token() -> None:
    """$0.15 and $0.60 a million tokens are 150,000 and 600,000 picodollars a token; a snapshot costs the same."""
    assert cost("gpt-4o-mini", "direct", input=10, output=3) == 10 * 150_000 + 3 * 600_000
    assert cost("gpt-4o-mini-2024-07-18", "direct", input=10, output=3) == 10 * 150_000 + 3 * 600_000


def test_batch_costs_half() -> None:
    """Of input and output."""
    assert cost("gpt-4o-mini", "batch", input=10, output=3) == 10 * 75_000 + 3 * 300_000


def test_cached_input_in_batch_follows_the_catalogue() -> None:
    """gpt-4o pays the full batch price, gpt-5 and later half of the cached one."""
    assert cost("gpt-4o-mini", "batch", input=1000, cached=1000) == 1000 * 75_000
    assert cost("gpt-5-nano", "batch", input=1000, cached=1000) == 1000 * 2_500
    assert cost("gpt-4o-mini", "direct", input=1000, cached=400) == 600 * 150_000 + 400 * 75_000


def test_flex_costs_half_of_everything() -> None:
    """Cached input too."""
    assert cost("gpt-5-nano", "flex", input=100, cached=50, output=10) == 50 * 25_000 + 50 * 2_500 + 10 * 200_000


def test_cache_writes_cost_a_quarter_more() -> None:
    """By models that charge for them."""
    assert cost("gpt-6-luna", "direct", input=100, cache_write=40) == 60 * 100_000 + 40 * 125_000
    assert cost("gpt-6-luna", "batch", input=100, cache_write=40) == 60 * 50_000 + 40 * 62_500
    assert cost("gpt-4o-mini", "direct", input=100, cache_write=40) == 100 * 150_000


@pytest.mark.parametrize(("tokens", "factors"), [(271_999, (1, 1)), (272_000, (1, 1)), (272_001, (2, 1.5))])
def test_a_long_context_makes_the_whole_request_dearer(tokens: int, factors: tuple[float, float]) -> None:
    """Above the limit, not at it; input twice, output one and a half times."""
    wanted = tokens * 100_000 * factors[0] + 10 * 500_000 * factors[1]
    assert cost("gpt-6-luna", "direct", input=tokens, output=10) == wanted


def test_an_unknown_model_costs_nothing() -> None:
    """There is no price."""
    assert cost("my-model", "direct", input=1000, output=1000) == 0


@pytest.mark.parametrize(("tokens", "pico"), [(1, 0), (4, 0), (5, 1), (14, 1), (15, 2)])
def test_a_product_that_is_not_whole_is_rounded_half_up(tokens: int, pico: int) -> None:
    """Once per price component."""
    assert Billing(ODD).cost_pico(Usage(tokens), model="odd", road="direct") == pico


def line_costs(rig: Rig, lines: list[dict[str, Any]]) -> int:
    """What the lines of an output file cost by their own usage."""
    total = 0
    for line in lines:
        used = line["response"]["body"]["usage"]
        total += cost("gpt-4o-mini", "batch", input=used["prompt_tokens"], output=used["completion_tokens"])
    return total


def test_the_ledger_of_a_batch_is_the_sum_of_its_lines(rig: Rig) -> None:
    """One row for each answered request, none for failed ones."""
    batch = rig.finish(rig.submit([*requests(5), request("bad", n=0)]))
    ledger = rig.ledger(rows=1)
    assert {row["custom_id"] for row in ledger["rows"]} == {f"r{number}" for number in range(5)}
    assert {(row["road"], row["batch_id"], row["model"]) for row in ledger["rows"]} == {
        ("batch", batch.id, "gpt-4o-mini")
    }
    wanted = line_costs(rig, rig.lines(batch.output_file_id))
    assert ledger["total"]["cost_pico"] == ledger["batches"][batch.id]["cost_pico"] == wanted
    assert sum(row["cost_pico"] for row in ledger["rows"]) == wanted


def test_requests_are_charged_when_they_are_done(rig: Rig) -> None:
    """While a batch is processed, the finished part is in the ledger already, each at its own time."""
    rig.submit(requests(10))
    rig.advance(1.45)
    assert rig.ledger()["total"]["requests"] == 4
    rig.advance(0.2)
    rows = rig.ledger(rows=1)["rows"]
    assert len(rows) == 6
    begun = rig.clock.now() + 1
    assert [round(row["at"] - begun, 6) for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    rig.advance(10)
    assert rig.ledger()["total"]["requests"] == 10


def test_direct_and_flex_calls_are_charged_each_on_their_road(rig: Rig) -> None:
    """At once."""
    direct = rig.client.chat.completions.create(**body())
    flex = rig.client.chat.completions.create(**body(service_tier="flex"))
    assert flex.service_tier == "flex"
    ledger = rig.ledger(rows=1)
    assert [row["road"] for row in ledger["rows"]] == ["direct", "flex"]
    assert direct.usage is not None
    wanted = cost("gpt-4o-mini", "direct", input=direct.usage.prompt_tokens, output=direct.usage.completion_tokens)
    assert ledger["roads"]["direct"]["cost_pico"] == wanted


def test_the_rows_of_one_batch_can_be_read_page_by_page(rig: Rig) -> None:
    """For clients with many."""
    first = rig.finish(rig.submit(requests(3)))
    second = rig.finish(rig.submit(requests(4)))
    assert len(rig.ledger(rows=1, batch=first.id)["rows"]) == 3
    rows = rig.ledger(rows=1, batch=second.id, limit=2)["rows"]
    more = rig.ledger(rows=1, batch=second.id, after=rows[-1]["id"])["rows"]
    assert [row["custom_id"] for row in rows + more] == [row["custom_id"] for row in rig.ledger(rows=1)["rows"][3:]]


def test_cached_tokens_are_charged_as_cached(make_rig: MakeRig) -> None:
    """And are in the ledger and in the usage of the batch."""
    rig = make_rig(answers={"cache_rate": 1})
    batch = rig.finish(rig.submit([request("r0", "word " * 1500, model="gpt-5-nano")]))
    assert batch.usage is not None
    assert batch.usage.input_tokens_details.cached_tokens == 1408
    [row] = rig.ledger(rows=1)["rows"]
    assert row["cached"] == 1408
    assert row["cost_pico"] == cost("gpt-5-nano", "batch", input=row["input"], cached=1408, output=row["output"])
