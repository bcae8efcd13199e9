"""How long answers are: learnt from those that came, by kind of request, for the requests that are still to be asked.

Two figures are wanted of a kind. What one answer is *expected* to have is the mean of those before: good for forecasts,
since means add up. What a request *reserves* is a high quantile of them, so that what is booked in advance is rarely too
little, and nearly never for many requests together. Lengths are kept as counts in buckets, exact up to 64 tokens and
4.4 % wide above, so a million answers are as easily kept as ten.

Before there are enough answers, and wherever the user gives the ratio, both are that share of the maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from gpt_batch_api.domain.request import Kind

FIRST_RATIO = Fraction(1, 2)
"""What is assumed as the share of the maximum before anything is learnt."""
MIN_ANSWERS = 30
"""Fewer answers say nothing yet about their kind."""
RESERVED_SHARE = Fraction(19, 20)
"""So many of the answers are to fit into what each request reserves."""

_EXACT_UP_TO = 64
_BUCKETS_PER_DOUBLING = 16


def bucket_of(tokens: int) -> int:
    """The bucket that counts answers of so many tokens."""
    if tokens <= _EXACT_UP_TO:
        return max(tokens, 0)
    bucket = _EXACT_UP_TO + math.ceil(_BUCKETS_PER_DOUBLING * math.log2(tokens / _EXACT_UP_TO))
    return bucket if most_in(bucket) >= tokens else bucket + 1  # the logarithm is not exact


def most_in(bucket: int) -> int:
    """The most tokens of an answer in *bucket*."""
    if bucket <= _EXACT_UP_TO:
        return bucket
    return math.floor(_EXACT_UP_TO * 2 ** ((bucket - _EXACT_UP_TO) / _BUCKETS_PER_DOUBLING))


@dataclass(frozen=True)
class Lengths:
    """How long the answers of one kind were, in output tokens."""

    answers: int = 0
    output_tokens: int = 0
    longest: int = 0
    cut_off: int = 0
    """How many of them ended because they had reached the maximum."""
    counts: Mapping[int, int] = field(default_factory=dict)
    """Answers by `bucket_of`."""

    @classmethod
    def of(cls, lengths: Iterable[tuple[int, bool]]) -> Lengths:
        """The sum of single answers, each (output tokens, whether it was cut off)."""
        counts: dict[int, int] = {}
        answers = output_tokens = longest = cut_off = 0
        for tokens, cut in lengths:
            counts[bucket_of(tokens)] = counts.get(bucket_of(tokens), 0) + 1
            answers, output_tokens, cut_off = answers + 1, output_tokens + tokens, cut_off + cut
            longest = max(longest, tokens)
        return cls(answers, output_tokens, longest, cut_off, counts)

    def __add__(self, other: Lengths) -> Lengths:
        counts = dict(self.counts)
        for bucket, number in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + number
        return Lengths(
            self.answers + other.answers,
            self.output_tokens + other.output_tokens,
            max(self.longest, other.longest),
            self.cut_off + other.cut_off,
            counts,
        )

    @property
    def mean(self) -> Fraction:
        return Fraction(self.output_tokens, self.answers)

    def quantile(self, share: Fraction) -> int:
        """As many tokens as *share* of the answers had at most. Never too low, and 4.4 % too high at most."""
        rank = min(self.answers, math.ceil(share * (self.answers + 1)))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return min(most_in(bucket), self.longest)
        return self.longest


class Forecast:
    """What requests are expected to use, and have to reserve, of their output tokens."""

    def __init__(
        self, learnt: Mapping[Kind, Lengths], *, ratio: Fraction | None = None, reserves_all: bool = False
    ) -> None:
        """*ratio*: a share of the maximum that wins over all that was learnt. *reserves_all*: the whole maximum."""
        self._ratio = FIRST_RATIO if ratio is None else ratio
        self._reserves_all = reserves_all
        self._learnt = {} if ratio is not None else _enough(learnt)
        self.answers = sum(lengths.answers for lengths in learnt.values())
        """How many answers this was learnt from."""
        self._reserved = {
            kind: kind.output_allowance if reserves_all else _reserved(kind, lengths)
            for kind, lengths in self._learnt.items()
        }
        self._reserved_alone = {
            kind: kind.output_allowance if reserves_all else _reserved_alone(kind, lengths)
            for kind, lengths in self._learnt.items()
        }

    def expected(self, kind: Kind) -> int:
        """Output tokens that an answer of *kind* is expected to have."""
        lengths = self._learnt.get(kind)
        return math.ceil(self._ratio * kind.output_allowance if lengths is None else lengths.mean)

    def reserved(self, kind: Kind) -> int:
        """Output tokens that a request of *kind* reserves in a batch; at least what is expected of it."""
        return self._reserved.get(kind, self._unlearnt(kind.output_allowance))

    def reserved_alone(self, kind: Kind) -> int:
        """Output tokens that a direct call reserves: rather too many, because nothing makes up for too few.

        It is what is booked if its reply is lost, and it is given back within seconds if not.
        """
        return self._reserved_alone.get(kind, self._unlearnt(kind.output_allowance))

    def most_reserved(self, endpoint: str, model: str, output_allowance: int) -> int:
        """The most that a direct call of any kind can reserve with so many tokens allowed, or fewer."""
        learnt = (
            reserved
            for kind, reserved in self._reserved_alone.items()
            if (kind.endpoint, kind.model) == (endpoint, model) and kind.output_allowance <= output_allowance
        )
        return max(self._unlearnt(output_allowance), *learnt, 0)

    def reserved_by_many(self, endpoint: str, model: str, output_allowance: int) -> int:
        """About what requests of all kinds reserve that are allowed so many tokens together."""
        reserved = allowed = 0
        for kind, lengths in self._learnt.items():
            if (kind.endpoint, kind.model) == (endpoint, model):
                reserved += lengths.answers * self._reserved[kind]
                allowed += lengths.answers * kind.output_allowance
        return (
            math.ceil(Fraction(reserved, allowed) * output_allowance) if allowed else self._unlearnt(output_allowance)
        )

    def _unlearnt(self, output_allowance: int) -> int:
        """What is reserved where nothing is known."""
        return output_allowance if self._reserves_all else math.ceil(self._ratio * output_allowance)


def _enough(learnt: Mapping[Kind, Lengths]) -> dict[Kind, Lengths]:
    return {kind: lengths for kind, lengths in learnt.items() if lengths.answers >= MIN_ANSWERS}


def _reserved(kind: Kind, lengths: Lengths) -> int:
    reserved = max(lengths.quantile(RESERVED_SHARE), math.ceil(lengths.mean))
    return reserved if kind.max_output_tokens is None else min(reserved, kind.output_allowance)


def _reserved_alone(kind: Kind, lengths: Lengths) -> int:
    """A quarter above the longest answer so far."""
    reserved = math.ceil(Fraction(5, 4) * lengths.longest)
    return reserved if kind.max_output_tokens is None else min(reserved, kind.output_allowance)


# ---------------------------------------------------------------- advice


@dataclass(frozen=True)
class Suggestion:
    """What a user could set for requests of one kind, learnt from its answers."""

    kind: Kind
    lengths: Lengths
    max_output_tokens: int
    ratio: Fraction
    """The expected share of that maximum, rounded up to hundredths."""
    present_ratio: Fraction
    """The same of the present maximum (of 2,048 where there is none)."""


def suggest(kind: Kind, lengths: Lengths) -> Suggestion | None:
    """A maximum that cuts hardly any answer off, and the ratio that goes with it. None: too few answers to say.

    A quarter above the longest answer, and half above what 99 % need; if answers were cut off, nobody knows how long
    they would have been, and twice the present maximum is suggested.
    """
    if lengths.answers < MIN_ANSWERS or not lengths.output_tokens:
        return None
    choices = kind.output_allowance // kind.max_output_tokens if kind.max_output_tokens else 1
    if lengths.cut_off and kind.max_output_tokens:
        most = 2 * kind.max_output_tokens
    else:
        needed = max(Fraction(5, 4) * lengths.longest, Fraction(3, 2) * lengths.quantile(Fraction(99, 100)))
        most = _rounded_up(math.ceil(needed / choices))
    return Suggestion(
        kind, lengths, most, _hundredths(lengths.mean / (most * choices)),
        _hundredths(lengths.mean / kind.output_allowance),
    )  # fmt: skip


def _rounded_up(tokens: int) -> int:
    """Two digits that count: 1,234 → 1,300."""
    step = int("1" + "0" * (len(str(tokens)) - 2)) if tokens > 99 else 1
    return math.ceil(Fraction(tokens, step)) * step


def _hundredths(share: Fraction) -> Fraction:
    return min(Fraction(1), Fraction(math.ceil(share * 100), 100))
