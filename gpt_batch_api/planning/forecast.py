"""Foretell what the rest of a job will use and cost, from the part of it that is done; and how sure that is.

What is known of a request before it is asked is its kind and its input. What it will come to (all its tries, with what
they read, say and cost) is drawn by lot, as for the finished requests of its kind. So for each kind a line is fitted
through what the finished ones came to, over their estimated input; the rest is the line's height times the requests
that are left. Two things are uncertain: the line (the finished ones are only some), and the draw (the rest will not lie
on it). Both shrink the interval as more is done, the first hardly if most is left:

    variance of the sum of M = σ² · (M + M²/n + (Σx − M·x̄)² / Sxx)

σ² is counted by sample: what two requests of one sample have in common is not averaged out. The interval is Student's,
to 99 %. It holds as long as the rest is like the beginning: a generator that puts the short ones first deceives it.

Of a kind of which too little is done, nothing is known but that an answer has between no tokens and its maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from gpt_batch_api.domain.outcome import Road, Usage
from gpt_batch_api.domain.request import Kind
from gpt_batch_api.pricing.catalogue import Catalogue
from gpt_batch_api.pricing.cost import cost_pico, expected_cost_pico, worst_cost_pico
from gpt_batch_api.tokens.calibrate import Forecast

CONFIDENCE = 0.99
MIN_FINISHED = 10
"""So many finished samples of a kind, at least, to foretell the rest of it."""
MIN_FOR_SLOPE = 30
"""So many, to see how what it comes to depends on the input."""


@dataclass(frozen=True)
class Interval:
    """A number that is not known yet: the truth lies between `low` and `high` with a confidence of 99 %."""

    low: int = 0
    expected: int = 0
    high: int = 0

    def __add__(self, other: Interval) -> Interval:
        """Both ends added: never too narrow, whatever the two have in common."""
        return Interval(self.low + other.low, self.expected + other.expected, self.high + other.high)


@dataclass(frozen=True)
class Asked:
    """A request that was answered: what was known of it before, and what each of its tries used.

    One that is to be asked again is not `final`. What it used counts all the same: otherwise only those would be seen
    that were good at once.
    """

    sample_id: int
    kind: Kind
    input_tokens: int
    tries: tuple[Usage, ...]
    final: bool = True


@dataclass(frozen=True)
class Left:
    """Some requests of one kind: those that are still to be answered, for instance."""

    kind: Kind
    requests: int
    input_tokens: int


@dataclass(frozen=True)
class FollowUps:
    """What the task's code has asked on its own."""

    asked: Sequence[Left] = ()
    """All of them so far, answered or not."""
    by_sample: Mapping[int, int] = field(default_factory=dict)
    """How many of each sample whose requests from the generator are all finished (of some of these samples)."""
    samples_left: int = 0
    """Samples with requests from the generator that are not finished: their follow-ups are to come."""


@dataclass(frozen=True)
class Known:
    """All that a forecast is made of."""

    asked: Sequence[Asked]
    left: Sequence[Left]
    follow_ups: FollowUps = FollowUps()


@dataclass(frozen=True)
class Rest:
    """What is to come. Amounts in picodollars, as if all of it went by that road."""

    requests: int
    follow_ups: Interval
    tries: Interval
    input_tokens: Interval
    output_tokens: Interval
    cost_pico: Mapping[Road, Interval]
    finished: int
    """Asked requests that this was learnt from."""
    unlearnt: int
    """Requests of kinds of which too little is done: their share of the interval goes from nothing to the maximum."""
    follow_ups_unknown: bool
    """The task's code asks follow-ups, but too few samples are complete to tell how many are to come."""


@dataclass(frozen=True)
class _Measure:
    """One of the things to foretell."""

    of: Callable[[Kind, Sequence[Usage]], float]
    per_input_token: Callable[[Kind], float]
    """What is known before of how it grows with the estimated input."""
    unlearnt: Callable[[Left], Interval]
    least: int = 0
    """Of each request."""


def foretell(known: Known, *, catalogue: Catalogue, forecast: Forecast) -> Rest:
    """Sum up what is left. Raises SettingError if a model has no price."""
    past = _Past.of(known.asked)
    to_come, unknown = _follow_ups_to_come(known.follow_ups)

    def sum_up(measure: _Measure) -> Interval:
        return _total(measure, known.left, past) + _of_follow_ups(measure, known.follow_ups.asked, to_come, past)

    return Rest(
        requests=sum(left.requests for left in known.left),
        follow_ups=to_come,
        tries=sum_up(_Measure(lambda kind, tries: len(tries), lambda kind: 0.0, _of_requests, least=1)),
        input_tokens=sum_up(_Measure(lambda kind, tries: _input(tries), lambda kind: 1.0, _of_input)),
        output_tokens=sum_up(
            _Measure(lambda kind, tries: _output(tries), lambda kind: 0.0, lambda left: _of_output(left, forecast))
        ),
        cost_pico={road: sum_up(_cost(road, catalogue, forecast)) for road in (Road.BATCH, Road.DIRECT)},
        finished=sum(one.final for one in known.asked),
        unlearnt=sum(left.requests for left in known.left if left.kind not in past.by_kind),
        follow_ups_unknown=unknown,
    )


@dataclass(frozen=True)
class _Past:
    """What was asked so far of each kind of which enough is finished."""

    by_kind: Mapping[Kind, Sequence[Asked]]
    mixed: bool
    """Requests of one sample are of several kinds, so that what kinds come to may rise and fall together."""

    @classmethod
    def of(cls, asked: Iterable[Asked]) -> _Past:
        by_kind: dict[Kind, list[Asked]] = {}
        kind_of: dict[int, Kind] = {}
        mixed = False
        for one in asked:
            by_kind.setdefault(one.kind, []).append(one)
            mixed = mixed or kind_of.setdefault(one.sample_id, one.kind) != one.kind
        enough = {
            kind: found
            for kind, found in by_kind.items()
            if len({one.sample_id for one in found if one.final}) >= MIN_FINISHED
        }
        return cls(enough, mixed)


def _input(tries: Sequence[Usage]) -> int:
    return sum(usage.input_tokens for usage in tries)


def _output(tries: Sequence[Usage]) -> int:
    return sum(usage.output_tokens for usage in tries)


def _of_requests(left: Left) -> Interval:
    return Interval(left.requests, left.requests, left.requests)


def _of_input(left: Left) -> Interval:
    return Interval(left.input_tokens, left.input_tokens, left.input_tokens)


def _of_output(left: Left, forecast: Forecast) -> Interval:
    return Interval(0, left.requests * forecast.expected(left.kind), left.requests * left.kind.output_allowance)


def _cost(road: Road, catalogue: Catalogue, forecast: Forecast) -> _Measure:
    def unlearnt(left: Left) -> Interval:
        prices = catalogue.prices(left.kind.model)
        each = -(-left.input_tokens // max(1, left.requests))

        def cost(output_tokens: int) -> int:
            return left.requests * expected_cost_pico(
                input_tokens=each, output_tokens=output_tokens, prices=prices, road=road
            )

        worst = worst_cost_pico(input_tokens=each, output_tokens=left.kind.output_allowance, prices=prices, road=road)
        return Interval(cost(0), cost(forecast.expected(left.kind)), left.requests * worst)

    return _Measure(
        lambda kind, tries: sum(cost_pico(usage, catalogue.prices(kind.model), road=road) for usage in tries),
        lambda kind: catalogue.prices(kind.model).rates(road).input_pico,
        unlearnt,
    )


def _total(measure: _Measure, left: Iterable[Left], past: _Past) -> Interval:
    total = Interval()
    expected, margins, least = 0.0, [], 0
    for part in left:
        if part.kind not in past.by_kind:
            total += measure.unlearnt(part)
            continue
        found = foretell_sum(
            [
                Point(one.sample_id, one.input_tokens, measure.of(part.kind, one.tries), whole=one.final)
                for one in past.by_kind[part.kind]
            ],
            count=part.requests,
            x_sum=part.input_tokens,
            known_slope=measure.per_input_token(part.kind),
        )
        expected += found.expected
        margins.append(found.margin)
        least += measure.least * part.requests
    return total + _interval(Sum(expected, sum(margins) if past.mixed else math.hypot(*margins)), least=least)


def _interval(found: Sum, *, least: int = 0) -> Interval:
    """As whole numbers, none below *least*."""
    return Interval(
        max(least, math.floor(found.expected - found.margin)),
        max(least, round(found.expected)),
        max(least, math.ceil(found.expected + found.margin)),
    )


# ---------------------------------------------------------------- follow-ups


def _follow_ups_to_come(follow_ups: FollowUps) -> tuple[Interval, bool]:
    """How many more the task's code is going to ask; and whether that cannot be told."""
    if not follow_ups.asked or not follow_ups.samples_left:
        return Interval(), False
    if len(follow_ups.by_sample) < MIN_FINISHED:
        return Interval(), True
    points = [Point(sample_id, 0, asked) for sample_id, asked in follow_ups.by_sample.items()]
    return _interval(foretell_sum(points, count=follow_ups.samples_left, x_sum=0)), False


def _of_follow_ups(measure: _Measure, asked: Sequence[Left], to_come: Interval, past: _Past) -> Interval:
    """What those come to that are not asked yet, if they are like those that are."""
    so_far = sum(part.requests for part in asked)
    if not to_come.high or not so_far:
        return Interval()
    all_asked = _total(measure, asked, past)
    return Interval(
        math.floor(all_asked.low * to_come.low / so_far),
        round(all_asked.expected * to_come.expected / so_far),
        math.ceil(all_asked.high * to_come.high / so_far),
    )


# ---------------------------------------------------------------- the line


@dataclass(frozen=True)
class Point:
    """What one thing came to (`y`), over what was known of it (`x`). One that is not `whole` came to so much so far."""

    cluster: int
    x: float
    y: float
    whole: bool = True


@dataclass(frozen=True)
class Sum:
    """A foretold sum, give or take `margin`."""

    expected: float
    margin: float


def foretell_sum(points: Sequence[Point], *, count: float, x_sum: float, known_slope: float = 0.0) -> Sum:
    """The sum of *count* more values that are like *points*, whose x together is *x_sum*.

    *known_slope* is how y grows with x as far as that is known before; the rest of it is learnt, if there are enough
    points that differ in x. What unfinished points came to is borne by the whole ones: so it is with tries, if each
    needs another one with the same chance.
    """
    whole = [point for point in points if point.whole]
    n = len(whole)
    unfinished = sum(point.y for point in points if not point.whole)
    x_mean = sum(point.x for point in whole) / n
    rest_mean = (sum(point.y - known_slope * point.x for point in whole) + unfinished) / n
    spread = sum((point.x - x_mean) ** 2 for point in whole)
    clusters = len({point.cluster for point in points})
    has_slope = clusters >= MIN_FOR_SLOPE and spread > 1e-9 * max(1.0, x_mean) ** 2 * n
    slope = (
        sum((point.x - x_mean) * (point.y - known_slope * point.x) for point in whole) / spread if has_slope else 0.0
    )
    by_cluster: dict[int, float] = {}
    for point in points:
        foretold = rest_mean + known_slope * point.x + slope * (point.x - x_mean) if point.whole else 0.0
        by_cluster[point.cluster] = by_cluster.get(point.cluster, 0.0) + point.y - foretold
    freedom = max(1, clusters - 1 - has_slope)
    # As if one more had come to twice the mean: what was not seen among n (one asked again) is not impossible.
    unseen = (sum(point.y for point in points) / n) ** 2
    variance = (sum(residual**2 for residual in by_cluster.values()) + unseen) / n * clusters / freedom
    away = x_sum - count * x_mean
    doubt = count + count**2 / n + (away**2 / spread if has_slope else 0.0)
    margin = student_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(variance * doubt)
    return Sum(known_slope * x_sum + count * rest_mean + slope * away, margin)


def student_quantile(share: float, freedom: int) -> float:
    """Student's t, by Hill's expansion around the normal quantile: to a percent from five degrees of freedom on."""
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
