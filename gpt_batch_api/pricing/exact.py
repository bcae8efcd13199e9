"""Numbers from people and files, made exact: prices as whole picodollars per token, factors, dates.

A price is written in currency per million tokens, so one millionth of it is one picodollar per token: 0.0125 is 12,500.
Everything finer than that is refused where a person wrote it, because silently rounded prices would never add up to
the bill again. Halves and factors can still leave a fraction of a picodollar; `round_up` takes it, so that no
reservation is ever smaller than what it reserves for.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from gpt_batch_api.domain.errors import SettingError

PICO_PER_UNIT = 10**12
DECIMALS = 6
HIGHEST_PRICE = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where a number stands: words for the error text, and the setting to name in it."""

    words: str
    setting: str

    def at(self, more: str) -> Place:
        """The same place, more exactly."""
        return Place(f"{self.words}, {more}", self.setting)

    def wrong(self, complaint: str) -> SettingError:
        return SettingError(f"{self.words}: {complaint}", self.setting)


def price_pico(value: object, place: Place) -> int:
    """Turn a price per million tokens into whole picodollars per token, or say why it is no price."""
    price = decimal_number(value, place)
    if price < 0:
        raise place.wrong(f"{value} is negative. A price is 0 or more.")
    if price > HIGHEST_PRICE:
        raise place.wrong(f"{value} is more than {HIGHEST_PRICE:,}. Prices are in currency per million tokens.")
    pico = _whole_pico(price)
    if pico is None:
        raise place.wrong(
            f"{value} has more than {DECIMALS} decimals. Prices are in currency per million tokens: "
            f"check the unit, or round it to {DECIMALS} decimals."
        )
    return pico


def _whole_pico(price: Decimal) -> int | None:
    if price and price.adjusted() < -DECIMALS:
        return None
    pico = Fraction(price) * 10**DECIMALS
    return pico.numerator if pico.denominator == 1 else None


def factor(value: object, place: Place) -> Fraction:
    """Read a factor on prices. Below 1 it would be a discount, which no rule here is."""
    number = decimal_number(value, place)
    if not 1 <= number <= HIGHEST_PRICE:
        raise place.wrong(f"{value} is not a possible factor. Give 1 or more.")
    return Fraction(number)


def token_count(value: object, place: Place) -> int:
    number = decimal_number(value, place)
    if not 0 <= number <= 10**12 or number != int(number):
        raise place.wrong(f"{value} is not a number of tokens. Give a whole number.")
    return int(number)


def date(value: object, place: Place) -> datetime.date:
    """Read a date, written as text or already understood by YAML."""
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError:
        raise place.wrong(f"{value!r} is not a date. Write it like 2027-01-14.") from None


def decimal_number(value: object, place: Place) -> Decimal:
    """Read a finite number as it was written: 0.1 is exactly a tenth, also where it comes as a float."""
    try:
        number = Decimal("nan") if isinstance(value, bool) else Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise place.wrong(f"{repr(value) if isinstance(value, str) else value} is not a number.")
    return number


def round_up(amount: Fraction) -> int:
    """The next whole number of picodollars."""
    return -(-amount.numerator // amount.denominator)


def half(pico: int) -> int:
    """Half a price; an odd picodollar is rounded up."""
    return (pico + 1) // 2
