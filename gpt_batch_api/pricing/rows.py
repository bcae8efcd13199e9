"""One model's line in a price list of our own layout, read and checked.

    {"input": "2.5", "cached": "0.25", "output": "15",                     per million tokens
     "batch": {"input": "1.25", "cached": "0.125", "output": "7.5"},       default: by the rules of the family
     "long_context": {"above": 272000, "input_factor": "2", "output_factor": "1.5"},   likewise; null: no such step
     "cache_write_factor": "1.25",                                         likewise
     "shutdown": "2027-01-14", "valid_from": "2026-11-01"}

Several lines of one model form a list, told apart by `valid_from`. Every mistake is one `SettingError` that names list,
model and key. An unknown key is a mistake too: a misspelt discount must not be a silent one.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from gpt_batch_api.pricing.exact import Place, date, factor, half, price_pico, token_count
from gpt_batch_api.pricing.family import Family, LongContext, family_of

_PRICE_KEYS = ("input", "cached", "output")
ROW_KEYS = (*_PRICE_KEYS, "batch", "long_context", "cache_write_factor", "shutdown", "valid_from")
_STEP_KEYS = ("above", "input_factor", "output_factor")


@dataclass(frozen=True)
class Row:
    """A model's prices in whole picodollars per token, and the rules that go with them."""

    input_pico: int
    cached_pico: int
    output_pico: int
    batch_input_pico: int
    batch_cached_pico: int
    batch_output_pico: int
    long_context: LongContext | None = None
    cache_write_factor: Fraction = Fraction(1)
    shutdown: datetime.date | None = None
    valid_from: datetime.date | None = None

    def holds_on(self, today: datetime.date) -> bool:
        return self.valid_from is None or self.valid_from <= today


def read_rows(model: str, value: object, place: Place) -> tuple[Row, ...]:
    """Read what a list says of *model*: one line, or its history. Newest first; a line without a date is the oldest."""
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise place.wrong("is empty. Give its prices, or leave the model out.")
    rows = sorted((_read_row(model, entry, place) for entry in entries), key=_starts, reverse=True)
    if len({row.valid_from for row in rows}) < len(rows):
        raise place.wrong("two of its price lines begin on the same day. Give each its own 'valid_from'.")
    return tuple(rows)


def row_by_rules(
    model: str, *, input_pico: int, cached_pico: int, output_pico: int, batch_pico: Mapping[str, int] | None = None
) -> Row:
    """Complete a model's bare prices by the rules of its family; *batch_pico* has the batch prices that are known."""
    family = family_of(model)
    batch = batch_pico or {}
    batch_input = batch.get("input", half(input_pico))
    return Row(
        input_pico=input_pico,
        cached_pico=cached_pico,
        output_pico=output_pico,
        batch_input_pico=batch_input,
        batch_cached_pico=batch.get("cached", _batch_cached(family, cached_pico=cached_pico, batch_input=batch_input)),
        batch_output_pico=batch.get("output", half(output_pico)),
        long_context=family.long_context,
        cache_write_factor=family.cache_write_factor,
    )


def _batch_cached(family: Family, *, cached_pico: int, batch_input: int) -> int:
    return min(half(cached_pico), batch_input) if family.halves_cached else batch_input


def _starts(row: Row) -> datetime.date:
    return row.valid_from or datetime.date.min


def _read_row(model: str, value: object, place: Place) -> Row:
    entry = _mapping(value, ROW_KEYS, place)
    prices = _read_prices(entry, place)
    for key in ("input", "output"):
        if key not in prices:
            raise place.at(f"key '{key}'").wrong("is missing. Give its price per million tokens.")
    bare = row_by_rules(
        model,
        input_pico=prices["input"],
        cached_pico=prices.get("cached", prices["input"]),
        output_pico=prices["output"],
        batch_pico=_read_batch(entry, place),
    )
    return replace(
        bare,
        long_context=_read_step(entry["long_context"], place) if "long_context" in entry else bare.long_context,
        cache_write_factor=_read_write_factor(entry, place) or bare.cache_write_factor,
        shutdown=_read_date(entry, "shutdown", place),
        valid_from=_read_date(entry, "valid_from", place),
    )


def _read_prices(entry: Mapping[str, object], place: Place, *, prefix: str = "") -> dict[str, int]:
    return {key: price_pico(entry[key], place.at(f"key '{prefix}{key}'")) for key in _PRICE_KEYS if key in entry}


def _read_batch(entry: Mapping[str, object], place: Place) -> dict[str, int]:
    if "batch" not in entry:
        return {}
    prefix = "batch."
    return _read_prices(_mapping(entry["batch"], _PRICE_KEYS, place, prefix=prefix), place, prefix=prefix)


def _read_step(value: object, place: Place) -> LongContext | None:
    if value is None:
        return None
    prefix = "long_context."
    step = _mapping(value, _STEP_KEYS, place, prefix=prefix)
    places = {key: place.at(f"key '{prefix}{key}'") for key in _STEP_KEYS}
    for key, here in places.items():
        if key not in step:
            raise here.wrong("is missing. Give it, or 'long_context: null' for a model without this step.")
    return LongContext(
        above=token_count(step["above"], places["above"]),
        input_factor=factor(step["input_factor"], places["input_factor"]),
        output_factor=factor(step["output_factor"], places["output_factor"]),
    )


def _read_write_factor(entry: Mapping[str, object], place: Place) -> Fraction | None:
    key = "cache_write_factor"
    return factor(entry[key], place.at(f"key '{key}'")) if key in entry else None


def _read_date(entry: Mapping[str, object], key: str, place: Place) -> datetime.date | None:
    return None if entry.get(key) is None else date(entry[key], place.at(f"key '{key}'"))


def _mapping(value: object, keys: Sequence[str], place: Place, *, prefix: str = "") -> Mapping[str, object]:
    """Take *value* as a set of some of these keys; *prefix* says under which key it stands itself, as in `batch.`."""
    possible = ", ".join(keys)
    if not isinstance(value, dict):
        here = place.at(f"key '{prefix[:-1]}'") if prefix else place
        raise here.wrong(f"{value!r} is not a set of keys and values. Possible keys: {possible}.")
    for key in value:
        if key not in keys:
            raise place.at(f"key '{prefix}{key}'").wrong(f"is unknown. Possible keys: {possible}.")
    return value
