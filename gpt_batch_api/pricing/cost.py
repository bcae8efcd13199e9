"""What a response costs, exactly, in whole picodollars.

Rates are whole picodollars per token, so costs are whole numbers and add up without error. Only the factors of the
long-context step can leave a fraction; it is rounded up, once for the response. So up to the step a response costs what
its parts cost, and a cost never falls when a count rises.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

from gpt_batch_api.domain.outcome import Road, Usage
from gpt_batch_api.pricing.catalogue import ModelPrices
from gpt_batch_api.pricing.exact import round_up

_TWO_DIGITS = Context(prec=2, rounding=ROUND_HALF_UP)


def cost_pico(usage: Usage, prices: ModelPrices, *, road: Road) -> int:
    """Price one response by the usage that the server reported.

    Details are part of the totals. A server that reports more cached and written tokens than input tokens is taken at
    its word for the details, and plain input is 0 then; counts below 0 are 0.
    """
    rates = prices.rates(road)
    cached, written = max(usage.cached_tokens, 0), max(usage.cache_write_tokens, 0)
    plain = max(usage.input_tokens - cached - written, 0)
    input_pico = plain * rates.input_pico + cached * rates.cached_pico + written * rates.cache_write_pico
    output_pico = max(usage.output_tokens, 0) * rates.output_pico
    return _with_step(input_pico, output_pico, input_tokens=plain + cached + written, prices=prices)


def expected_cost_pico(*, input_tokens: int, output_tokens: int, prices: ModelPrices, road: Road) -> int:
    """Price one request before it is sent: no cache assumed, neither read nor written."""
    return cost_pico(Usage(input_tokens=input_tokens, output_tokens=output_tokens), prices, road=road)


def worst_cost_pico(*, input_tokens: int, output_tokens: int, prices: ModelPrices, road: Road) -> int:
    """The most that one request can cost with at most so many tokens: all input at the dearest of its three rates.

    Where cache writes are charged, that is a quarter more than expected.
    """
    rates = prices.rates(road)
    dearest_pico = max(rates.input_pico, rates.cached_pico, rates.cache_write_pico)
    return _with_step(
        max(input_tokens, 0) * dearest_pico,
        max(output_tokens, 0) * rates.output_pico,
        input_tokens=input_tokens,
        prices=prices,
    )


def _with_step(input_pico: int, output_pico: int, *, input_tokens: int, prices: ModelPrices) -> int:
    """Add up, and apply the long-context step to the whole request."""
    if prices.long_context_above is None or input_tokens <= prices.long_context_above:
        return input_pico + output_pico
    return round_up(input_pico * prices.long_input_factor + output_pico * prices.long_output_factor)


def dollars(pico: int) -> str:
    """Write an amount for people: cents from one dollar on, two digits that count below. Never more than it takes.

    Nothing but 0 shows as $0.00.
    """
    amount = Decimal(abs(pico)).scaleb(-12, Context(prec=60))
    if amount < 1:
        amount = amount.normalize(_TWO_DIGITS)
    places = max(2, -int(amount.as_tuple().exponent)) if amount < 1 else 2
    text = f"{amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=60)):,f}"
    return f"-${text}" if pico < 0 else f"${text}"
