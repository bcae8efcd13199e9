"""The rules that a model's name decides, for price lists that do not spell them out.

The packaged catalogue spells out everything; a user's own list, or litellm's, mostly has bare prices. A test proves
that the catalogue and these rules agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

LONG_CONTEXT_ABOVE = 272_000

# One or two digits below 30 only: gpt-35 is how Azure writes gpt-3.5. gpt-4o has no version that this would take.
_VERSION = re.compile(r"gpt-([5-9]|[12][0-9])(?:\.([0-9]{1,3}))?(?=-|$)")
_UNVERSIONED = (0, 0)


@dataclass(frozen=True)
class LongContext:
    """The step for long prompts: above so many input tokens, the whole request costs these factors more."""

    above: int
    input_factor: Fraction
    output_factor: Fraction


@dataclass(frozen=True)
class Family:
    """What holds for a model and its siblings unless a price list says otherwise."""

    halves_cached: bool
    """In a batch, cached input costs half its direct price (else as much as the batch's plain input)."""
    long_context: LongContext | None
    cache_write_factor: Fraction


def family_of(model: str) -> Family:
    """Read the generation off the name: gpt-5 halved the cached price, 5.4 brought the step, 5.6 paid cache writes."""
    version = _version(model)
    return Family(
        halves_cached=version >= (5, 0),
        long_context=LongContext(LONG_CONTEXT_ABOVE, Fraction(2), Fraction(3, 2)) if version >= (5, 4) else None,
        cache_write_factor=Fraction(5, 4) if version >= (5, 6) else Fraction(1),
    )


def _version(model: str) -> tuple[int, int]:
    match = _VERSION.match(model)
    return (int(match[1]), int(match[2] or 0)) if match else _UNVERSIONED
