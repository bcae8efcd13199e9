"""litellm's price file, read as it is published: dollars per token, thousands of models, not all of them priced.

A line is read when its model is asked for, so that a broken line of a model nobody uses does no harm. What the line
leaves out (a batch price, mostly) follows the rules of the model's family, as in our own layout.

These numbers passed through binary fractions on their way and some show it (8.999999999999999e-07). They are rounded
to a thousandth of a picodollar, which removes such noise, and what is left of a fraction counts as a whole picodollar.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.pricing.exact import HIGHEST_PRICE, PICO_PER_UNIT, Place, date, decimal_number, round_up
from gpt_batch_api.pricing.family import LongContext
from gpt_batch_api.pricing.rows import Row, row_by_rules

INPUT, OUTPUT, CACHED = "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"
CACHE_WRITE = "cache_creation_input_token_cost"
_EXAMPLE_LINE = "sample_spec"
_BATCHES = "_batches"
_STEP = re.compile(rf"{INPUT}_above_([0-9]{{1,6}})k_tokens")


def is_litellm(document: Mapping[object, object]) -> bool:
    """Whether a document has litellm's layout: models at the top, prices per token."""
    return any(isinstance(line, dict) and INPUT in line for line in document.values())


def without_example(document: Mapping[object, object]) -> dict[object, object]:
    """The models of the file; its first line only explains the others."""
    return {model: line for model, line in document.items() if model != _EXAMPLE_LINE}


def read_litellm_row(model: str, value: object, place: Place) -> tuple[Row, ...]:
    """Read *model*'s line."""
    line = value if isinstance(value, dict) else {}
    prices = {key: pico for key in (INPUT, OUTPUT) if (pico := _pico(line, key, place)) is not None}
    for key in (INPUT, OUTPUT):
        if key not in prices:
            raise place.at(f"key '{key}'").wrong("is missing. Mend the line, or use a price file of your own.")
    cached = _pico(line, CACHED, place)
    row = row_by_rules(
        model,
        input_pico=prices[INPUT],
        cached_pico=prices[INPUT] if cached is None else cached,
        output_pico=prices[OUTPUT],
        batch_pico=_batch_prices(line, place),
    )
    return (
        replace(
            row,
            long_context=_step(line, row, place) or row.long_context,
            cache_write_factor=_factor(_pico(line, CACHE_WRITE, place), row.input_pico) or row.cache_write_factor,
            shutdown=_shutdown(line, place),
        ),
    )


def _batch_prices(line: Mapping[str, object], place: Place) -> dict[str, int]:
    keys = {"input": INPUT, "cached": CACHED, "output": OUTPUT}
    prices = {name: _pico(line, key + _BATCHES, place) for name, key in keys.items()}
    return {name: pico for name, pico in prices.items() if pico is not None}


def _step(line: Mapping[str, object], row: Row, place: Place) -> LongContext | None:
    """The step for long prompts. Where there are several, the lowest limit and the highest factors: never too cheap."""
    limits = sorted(int(match[1]) for key in line if (match := _STEP.fullmatch(str(key))))
    if not limits:
        return None
    suffixes = [f"_above_{limit}k_tokens" for limit in limits]
    factors_in = [_factor(_pico(line, INPUT + suffix, place), row.input_pico) for suffix in suffixes]
    factors_out = [_factor(_pico(line, OUTPUT + suffix, place), row.output_pico) for suffix in suffixes]
    return LongContext(
        above=limits[0] * 1000,
        input_factor=max((each for each in factors_in if each), default=Fraction(1)),
        output_factor=max((each for each in factors_out if each), default=Fraction(1)),
    )


def _factor(pico: int | None, base_pico: int) -> Fraction | None:
    """How many times *base_pico* a price is, and never less than once."""
    return max(Fraction(pico, base_pico), Fraction(1)) if pico is not None and base_pico else None


def _pico(line: Mapping[str, object], key: str, place: Place) -> int | None:
    """A price per token in whole picodollars; None where the line has none."""
    if line.get(key) is None:
        return None
    here = place.at(f"key '{key}'")
    dollars = decimal_number(line[key], here)
    if not 0 <= dollars <= HIGHEST_PRICE // 10**6:
        raise here.wrong(f"{line[key]} is not a price per token. Mend the line, or use a price file of your own.")
    return round_up(Fraction(round(Fraction(dollars) * PICO_PER_UNIT * 1000), 1000))


def _shutdown(line: Mapping[str, object], place: Place) -> datetime.date | None:
    with suppress(SettingError):
        return date(line.get("deprecation_date"), place)
    return None
