"""Which prices hold for a model.

Three sources, the stronger first: the five cost settings, number by number; the user's own price file, model by model;
the packaged catalogue. A model is known by its exact name, or by its name without a date at the end (`-2024-07-18`).
Nothing else is guessed: a name that merely begins like a known one may cost ten times as much, so it is unknown and
the user is asked.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.pricing.exact import Place, half, price_pico, round_up
from gpt_batch_api.pricing.price_file import PriceList, open_price_file, packaged_list
from gpt_batch_api.pricing.rows import Row

_DATE_SUFFIX = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}$")
_BY_SETTINGS = "settings"


@dataclass(frozen=True)
class Rates:
    """What a token costs on one road, in whole picodollars: $0.0125 per million tokens is 12,500."""

    input_pico: int
    cached_pico: int
    cache_write_pico: int
    output_pico: int


@dataclass(frozen=True)
class ModelPrices:
    """All that is needed to price a response of one model.

    `model` is the name under which the prices were found. Above `long_context_above` input tokens (None: never), the
    whole request costs `long_input_factor` and `long_output_factor` times as much. `source` says where the numbers
    come from.
    """

    model: str
    batch: Rates
    direct: Rates
    flex: Rates
    long_context_above: int | None
    long_input_factor: Fraction
    long_output_factor: Fraction
    shutdown: datetime.date | None
    source: str

    def rates(self, road: Road) -> Rates:
        match road:
            case Road.BATCH:
                return self.batch
            case Road.DIRECT:
                return self.direct
            case Road.FLEX:
                return self.flex


@dataclass(frozen=True)
class PriceFlags:
    """The five cost settings, in currency per million tokens. None: not given."""

    input_direct: Decimal | None = None
    input_cached: Decimal | None = None
    input_batch: Decimal | None = None
    output_direct: Decimal | None = None
    output_batch: Decimal | None = None


@dataclass(frozen=True)
class _Found:
    model: str
    row: Row
    source: str


class Catalogue:
    """The price lists of a run, the user's before ours, and the settings that win over both."""

    def __init__(self, lists: Sequence[PriceList], given: Mapping[str, int], *, today: datetime.date) -> None:
        self._lists = lists
        self._given = given
        self._today = today
        self._answers: dict[str, ModelPrices] = {}

    @classmethod
    def load(
        cls, *, price_file: Path | None = None, flags: PriceFlags = PriceFlags(), today: datetime.date | None = None
    ) -> Catalogue:
        """Open the price lists and check the settings. *today* decides which lines with a `valid_from` hold yet."""
        own = [] if price_file is None else [open_price_file(price_file)]
        return cls(
            [*own, packaged_list()],
            _given_prices(flags),
            today=today or datetime.datetime.now(datetime.UTC).date(),
        )

    def prices(self, model: str) -> ModelPrices:
        """Give the prices of *model*; `SettingError` if it is unknown and not all five are set. Cheap to ask again."""
        if model not in self._answers:
            self._answers[model] = self._look_up(model)
        return self._answers[model]

    def _look_up(self, model: str) -> ModelPrices:
        found = self._find(model)
        missing = [name for name in _flag_names() if name not in self._given]
        if found is None and missing:
            raise _unknown(model, missing, self._lists)
        if found is None:
            found = _Found(model, _BLANK, _BY_SETTINGS)
        elif not missing:
            found = replace(found, source=_BY_SETTINGS)
        elif self._given:
            found = replace(found, source=f"{found.source}, {_BY_SETTINGS}")
        return _model_prices(replace(found, row=_overridden(found.row, self._given)))

    def _find(self, model: str) -> _Found | None:
        hits = [
            _Found(name, row, prices.source)
            for prices in self._lists
            for name in _names(model)
            if (row := prices.find(name, today=self._today))
        ]
        if not hits:
            return None
        # A user's own line rarely tells when the model ends, and it ends all the same.
        shutdown = next((hit.row.shutdown for hit in hits if hit.row.shutdown), None)
        return replace(hits[0], row=replace(hits[0].row, shutdown=shutdown))


_BLANK = Row(input_pico=0, cached_pico=0, output_pico=0, batch_input_pico=0, batch_cached_pico=0, batch_output_pico=0)


def _flag_names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(PriceFlags))


def _setting(flag: str) -> str:
    return f"cost_{flag}_mtoken"


def _given_prices(flags: PriceFlags) -> dict[str, int]:
    given = {name: getattr(flags, name) for name in _flag_names()}
    return {
        name: price_pico(value, Place(_setting(name), _setting(name)))
        for name, value in given.items()
        if value is not None
    }


def _names(model: str) -> tuple[str, ...]:
    """The names under which *model* may be listed, the most exact first."""
    undated = _DATE_SUFFIX.sub("", model)
    return (model,) if undated == model else (model, undated)


def _unknown(model: str, missing: Sequence[str], lists: Sequence[PriceList]) -> SettingError:
    settings = [_setting(name) for name in missing]
    searched = " and ".join(prices.source for prices in lists)
    gap = "the five prices" if len(missing) == len(_flag_names()) else "the missing prices too"
    return SettingError(
        f"Model '{model}' is not in the price lists ({searched}). Give {gap} "
        f"({', '.join(f'--{name}' for name in settings)}; 0 for a free server), "
        "or a --price_file that has this model.",
        *settings,
        "price_file",
    )


def _overridden(row: Row, given: Mapping[str, int]) -> Row:
    """Replace the numbers that the settings give, and none beside them."""
    return replace(
        row,
        input_pico=given.get("input_direct", row.input_pico),
        cached_pico=given.get("input_cached", row.cached_pico),
        output_pico=given.get("output_direct", row.output_pico),
        batch_input_pico=given.get("input_batch", row.batch_input_pico),
        batch_cached_pico=_batch_cached(row, given.get("input_batch")),
        batch_output_pico=given.get("output_batch", row.batch_output_pico),
    )


def _batch_cached(row: Row, given_input_pico: int | None) -> int:
    """Cached input in a batch, which has no setting of its own: it follows the setting for the batch's plain input.

    Where the list prices it like plain input, it goes on doing so; otherwise the list's price stays, unless plain input
    is cheaper now.
    """
    if given_input_pico is None:
        return row.batch_cached_pico
    if row.batch_cached_pico == row.batch_input_pico:
        return given_input_pico
    return min(row.batch_cached_pico, given_input_pico)


def _model_prices(found: _Found) -> ModelPrices:
    row, step = found.row, found.row.long_context
    return ModelPrices(
        model=found.model,
        batch=_rates(row, row.batch_input_pico, row.batch_cached_pico, row.batch_output_pico),
        direct=_rates(row, row.input_pico, row.cached_pico, row.output_pico),
        flex=_rates(row, half(row.input_pico), half(row.cached_pico), half(row.output_pico)),
        long_context_above=step.above if step else None,
        long_input_factor=step.input_factor if step else Fraction(1),
        long_output_factor=step.output_factor if step else Fraction(1),
        shutdown=row.shutdown,
        source=found.source,
    )


def _rates(row: Row, input_pico: int, cached_pico: int, output_pico: int) -> Rates:
    return Rates(
        input_pico=input_pico,
        cached_pico=cached_pico,
        cache_write_pico=round_up(input_pico * row.cache_write_factor),
        output_pico=output_pico,
    )
