"""What a response costs, in whole picodollars: an own reading of the price rules.

A price of $x per million tokens is x · 1,000,000 picodollars a token, so the published prices are whole numbers. Where
a product is not whole (a price per half a cent, times a factor) each of the four components of a response is rounded
once, half up. A model without a price costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from gpt_batch_api.data import load_prices
from gpt_batch_api.sandbox.models import base_name

Road = Literal["batch", "direct", "flex"]
_PICO_PER_MILLIONTH = 1_000_000


@dataclass(frozen=True)
class Usage:
    """The tokens of one response. `input` contains `cached` and `cache_write`; `output` contains `reasoning`."""

    input: int
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class _Rates:
    """What a token costs, in picodollars, by kind."""

    plain: Fraction
    cached: Fraction
    cache_write: Fraction
    output: Fraction


class Billing:
    """The price list. `models` are the entries of the packaged catalogue, or others for a test."""

    def __init__(self, models: Mapping[str, Any] | None = None) -> None:
        self._models = packaged_models() if models is None else dict(models)
        self._rates: dict[tuple[str, Road, bool], _Rates] = {}

    @property
    def names(self) -> frozenset[str]:
        """The models that have a price."""
        return frozenset(self._models)

    def writes_cost(self, model: str) -> bool:
        """Whether *model* charges for writing its cache."""
        return "cache_write_factor" in self._entry(model)

    def cost_pico(self, usage: Usage, *, model: str, road: Road) -> int:
        """What *usage* of *model* costs on *road*."""
        long_context = _is_long(self._entry(model), usage.input)
        key = (model, road, long_context)
        if key not in self._rates:
            self._rates[key] = _rates(self._entry(model), road, long_context=long_context)
        rates = self._rates[key]
        return (
            _product(usage.input - usage.cached - usage.cache_write, rates.plain)
            + _product(usage.cached, rates.cached)
            + _product(usage.cache_write, rates.cache_write)
            + _product(usage.output, rates.output)
        )

    def _entry(self, model: str) -> Mapping[str, Any]:
        entry = self._models.get(model) or self._models.get(base_name(model)) or {}
        return entry if isinstance(entry, Mapping) else {}


def packaged_models() -> dict[str, Any]:
    """The models of the packaged catalogue; none where it is absent."""
    try:
        models = load_prices()["models"]
    except (FileNotFoundError, KeyError):
        return {}
    return dict(models)


def _road_prices(entry: Mapping[str, Any], road: Road) -> dict[str, Fraction]:
    """Dollars per million tokens, by kind. Batch and flex are half the standard price where nothing else is given."""
    standard = {kind: Fraction(str(entry.get(kind, 0))) for kind in ("input", "cached", "output")}
    if road == "direct":
        return standard
    # The catalogue's batch prices know that some families get no discount on cached input there; flex halves all.
    given = entry.get("batch") or {} if road == "batch" else {}
    return {kind: Fraction(str(given[kind])) if kind in given else price / 2 for kind, price in standard.items()}


def _rates(entry: Mapping[str, Any], road: Road, *, long_context: bool) -> _Rates:
    prices = _road_prices(entry, road)
    rule = entry["long_context"] if long_context else {}
    given = _PICO_PER_MILLIONTH * Fraction(str(rule.get("input_factor", 1)))
    made = _PICO_PER_MILLIONTH * Fraction(str(rule.get("output_factor", 1)))
    write_factor = Fraction(str(entry.get("cache_write_factor", 1)))
    return _Rates(
        plain=prices["input"] * given,
        cached=prices["cached"] * given,
        cache_write=prices["input"] * write_factor * given,
        output=prices["output"] * made,
    )


def _is_long(entry: Mapping[str, Any], input_tokens: int) -> bool:
    rule = entry.get("long_context")
    return rule is not None and input_tokens > int(rule["above"])


def _product(tokens: int, rate: Fraction) -> int:
    """*tokens* at *rate*, in whole picodollars, rounded half up."""
    return (2 * tokens * rate.numerator + rate.denominator) // (2 * rate.denominator)
