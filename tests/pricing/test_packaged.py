"""The packaged catalogue says what the published price list says."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from gpt_batch_api.data import load_prices
from gpt_batch_api.pricing.catalogue import Catalogue, Rates

# Dollars per million tokens, standard: input, cached, output. Published in November 2026.
PUBLISHED = {
    "gpt-6-astra": ("10", "1", "50"),
    "gpt-6.1-sol": ("2", "0.1", "10"),
    "gpt-6.1-terra": ("1", "0.05", "5"),
    "gpt-6-sol": ("2", "0.2", "10"),
    "gpt-6-luna": ("0.1", "0.01", "0.5"),
    "gpt-5.6-sol": ("4", "0.4", "20"),
    "gpt-5.6-terra": ("2", "0.2", "12"),
    "gpt-5.6-luna": ("0.2", "0.02", "1.2"),
    "gpt-5.5": ("5", "0.5", "30"),
    "gpt-5.4": ("2.5", "0.25", "15"),
    "gpt-5.4-mini": ("0.75", "0.075", "4.5"),
    "gpt-5.4-nano": ("0.2", "0.02", "1.25"),
    "gpt-5.2": ("1.75", "0.175", "14"),
    "gpt-5.1": ("1.25", "0.125", "10"),
    "gpt-5": ("1.25", "0.125", "10"),
    "gpt-5-mini": ("0.25", "0.025", "2"),
    "gpt-5-nano": ("0.05", "0.005", "0.4"),
    "gpt-4.1": ("2", "0.5", "8"),
    "gpt-4.1-mini": ("0.4", "0.1", "1.6"),
    "gpt-4o": ("2.5", "1.25", "10"),
    "gpt-4o-mini": ("0.15", "0.075", "0.6"),
    "o3": ("2", "0.5", "8"),
}
FULL_CACHED_IN_BATCH = {"gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "o3"}
CACHE_WRITES_CHARGED = {name for name in PUBLISHED if name.startswith(("gpt-6", "gpt-5.6"))}
LONG_CONTEXT = CACHE_WRITES_CHARGED | {"gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano"}
SHUTDOWN = {
    **dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"), datetime.date(2027, 1, 14)),
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"), datetime.date(2026, 12, 11)),
}

MODELS = load_prices()["models"]


def pico(dollars_per_million: Decimal) -> int:
    scaled = dollars_per_million * 10**6
    assert scaled == int(scaled)
    return int(scaled)


def test_the_catalogue_has_exactly_the_published_models() -> None:
    """No model is missing, and none is made up."""
    assert set(MODELS) == set(PUBLISHED)


def test_the_catalogue_says_what_it_is() -> None:
    """Others read the file too: its head is part of the promise."""
    catalogue = load_prices()
    assert list(catalogue) == ["dated", "source", "currency", "unit", "models"]
    assert (catalogue["dated"], catalogue["currency"], catalogue["unit"]) == ("2026-11", "USD", "per million tokens")


@pytest.mark.parametrize("model", PUBLISHED)
def test_direct_prices_are_the_published_ones(model: str) -> None:
    """Input, cached input and output as published."""
    assert tuple(MODELS[model][key] for key in ("input", "cached", "output")) == PUBLISHED[model]


@pytest.mark.parametrize("model", PUBLISHED)
def test_batch_prices_are_written_out_by_the_rules(model: str) -> None:
    """Half of the direct price; cached input in full for the old families, half of the cached price for the new."""
    given, cached, output = map(Decimal, PUBLISHED[model])
    batch = {key: Decimal(price) for key, price in MODELS[model]["batch"].items()}
    expected_cached = given / 2 if model in FULL_CACHED_IN_BATCH else cached / 2
    assert batch == {"input": given / 2, "cached": expected_cached, "output": output / 2}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_rules_are_written_out_for_the_models_they_hold_for(model: str) -> None:
    """Other readers of the file know no families, so every rule stands there, and only where it holds."""
    row = MODELS[model]
    step = {"above": 272000, "input_factor": "2", "output_factor": "1.5"}
    assert row.get("long_context") == (step if model in LONG_CONTEXT else None)
    assert row.get("cache_write_factor") == ("1.25" if model in CACHE_WRITES_CHARGED else None)
    assert row.get("shutdown") == (SHUTDOWN[model].isoformat() if model in SHUTDOWN else None)


@pytest.mark.parametrize("model", PUBLISHED)
def test_loaded_prices_are_the_published_ones_in_picodollars(model: str) -> None:
    """From the file to the rates of each road, nothing is lost."""
    given, cached, output = map(Decimal, PUBLISHED[model])
    write = Decimal("1.25") if model in CACHE_WRITES_CHARGED else 1
    prices = Catalogue.load().prices(model)
    assert prices.direct == Rates(pico(given), pico(cached), pico(given * write), pico(output))
    assert prices.flex == Rates(pico(given / 2), pico(cached / 2), pico(given / 2 * write), pico(output / 2))
    assert prices.batch == Rates(
        pico(given / 2),
        pico(given / 2 if model in FULL_CACHED_IN_BATCH else cached / 2),
        pico(given / 2 * write),
        pico(output / 2),
    )
    assert prices.long_context_above == (272_000 if model in LONG_CONTEXT else None)
    assert prices.shutdown == SHUTDOWN.get(model)
    assert prices.source == "catalogue 2026-11"
