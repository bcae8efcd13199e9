"""What somebody who looks on sees of a task: some lines for a terminal, one line for a log.

Lines are as wide as the window and no wider than 100 columns: most windows can be made narrower without breaking them.
Totals first, then the few batches that the server works on, money against limits, and what went wrong last.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.words import count, duration
from gpt_batch_api.monitor.facts import Facts
from gpt_batch_api.monitor.logs import words_of
from gpt_batch_api.monitor.summary import reasons, time_left
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store.batches import BatchRow

if TYPE_CHECKING:
    from rich.text import Text

WIDEST = 100
MOST_BATCHES = 4
"""So many batches have a line of their own: those that were pushed first."""
MOST_TROUBLE = 3
RATE_OVER_S = 120.0
LEAST_RATE_S = 5.0
"""A rate over less time says nothing."""


class Rates:
    """How fast a task goes now: told by looks at it over the last two minutes."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int | float, int]] = deque()

    def note(self, facts: Facts) -> None:
        """Remember a look."""
        self._looks.append((facts.now, facts["answers/total"], facts.snapshot.booked.spent_pico))
        while self._looks and self._looks[0][0] < facts.now - RATE_OVER_S:
            self._looks.popleft()

    @property
    def answers_per_min(self) -> float | None:
        """Answers booked in a minute; None before there is enough to see."""
        return self._per_s(1, 60)

    @property
    def pico_per_hour(self) -> float | None:
        """Picodollars spent in an hour, at this rate."""
        return self._per_s(2, 3600)

    def _per_s(self, column: int, times: float) -> float | None:
        if len(self._looks) < 2 or self._looks[-1][0] - self._looks[0][0] < LEAST_RATE_S:
            return None
        first, last = self._looks[0], self._looks[-1]
        return max(0.0, (last[column] - first[column]) / (last[0] - first[0]) * times)


def log_line(facts: Facts, rates: Rates) -> str:
    """How far the task is, in one line."""
    bad = "".join(f", {facts[f'requests/{name}']:,} {name}" for name in ("failed", "held") if facts[f"requests/{name}"])
    there = facts["batches/remote"]
    on_server = f"; {count(int(there), 'batch')} on the server ({_done_there(facts)} requests done)" if there else ""
    calls = f"; {count(int(facts['requests/sending']), 'direct call')} in flight" if facts["requests/sending"] else ""
    return (
        f"Progress: {_done(facts):,} of {facts['requests/total']:,} requests done ({_share(facts)}){bad}{on_server}{calls}; "
        f"{dollars(facts.snapshot.booked.spent_pico)} spent, {dollars(facts.snapshot.booked.reserved_pico)} reserved; "
        f"{_rate(rates)}{time_left(facts)}."
    )


def view_lines(
    facts: Facts, rates: Rates, *, prefix: str, width: int, height: int, run: str | None = None
) -> list[Text]:
    """The task in lines that fit a window; of a low one, the first. *run* says who works on it, if that is not plain."""
    width = min(width, WIDEST)
    lines = [
        line for part in (_title, _requests, _going, _batches, _money, _trouble) for line in part(facts, rates, width)
    ]
    lines[0].append(f" {prefix}", style="bold").append(f" {facts.snapshot.task.kind}" + (f", {run}" if run else ""))
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines[: max(1, height)]


def _line(name: str, text: str = "", style: str = "") -> Text:
    from rich.text import Text

    return Text.assemble((f" {name:<9} ", "cyan"), (_plain(text), style))


def _plain(text: str) -> str:
    """*text* on one line, without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def _title(facts: Facts, rates: Rates, width: int) -> Iterator[Text]:
    from rich.text import Text

    yield Text("──", style="dim")


def _done(facts: Facts) -> int:
    return int(facts["requests/succeeded"] + facts["requests/failed"])


def _share(facts: Facts) -> str:
    share = facts.get("requests/done_share")
    return "–" if share is None else f"{share:.1%}"


def _requests(facts: Facts, rates: Rates, width: int) -> Iterator[Text]:
    told = f"{_done(facts):,} of {facts['requests/total']:,} done ({_share(facts)})"
    line = _line("requests", f"{told} ")
    room = min(30, width - 14 - len(told))
    if room >= 10:
        line.append(_bar(facts.get("requests/done_share") or 0.0, room), style="green")
    yield line
    ways = {
        "queued": "queued",
        "batched": "in batches",
        "sending": "sending",
        "twin": "waiting for identical ones",
        "answered": "to be processed",
    }
    told = ", ".join(
        f"{facts[f'requests/{name}']:,} {words}" for name, words in ways.items() if facts[f"requests/{name}"]
    )
    if told:
        yield _line("", told)
    for name in ("failed", "held"):
        if facts[f"requests/{name}"]:
            yield _line(name, f"{facts[f'requests/{name}']:,}: {reasons(facts.each(f'{name}/'))}", "red")


def _bar(share: float, width: int) -> str:
    full = int(share * width)
    return "━" * full + "─" * (width - full)


def _rate(rates: Rates) -> str:
    if rates.answers_per_min is None or rates.pico_per_hour is None:
        return ""
    return f"{rates.answers_per_min:,.0f} answers a minute, {dollars(round(rates.pico_per_hour))} an hour; "


def _going(facts: Facts, rates: Rates, width: int) -> Iterator[Text]:
    elapsed_s = facts.get("session/elapsed_s")
    since = "" if elapsed_s is None else f"run {facts['session/number']:,} for {duration(elapsed_s)}; "
    left = "complete" if facts["task/complete"] else time_left(facts)
    yield _line("time", f"{since}{_rate(rates)}{left}")


def _done_there(facts: Facts) -> str:
    done = facts["batches/remote_completed"] + facts["batches/remote_failed"]
    return f"{done:,} of {facts['batches/remote_requests']:,}"


def _batches(facts: Facts, rates: Rates, width: int) -> Iterator[Text]:
    told = f"{facts['batches/local']:,} local, {facts['batches/remote']:,} on the server, {facts['batches/finished']:,} finished"
    yield _line("batches", told)
    there = facts.snapshot.batches_in(BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)
    for batch in there[:MOST_BATCHES]:
        yield _line("", _batch(batch, facts.now))
    if len(there) > MOST_BATCHES:
        yield _line("", f"and {len(there) - MOST_BATCHES:,} more ({_done_there(facts)} requests done in all)", "dim")


def _batch(batch: BatchRow, now: float) -> str:
    status = batch.remote_status if batch.state is BatchState.REMOTE and batch.remote_status else str(batch.state)
    total = batch.count_total or batch.load.requests
    failed = f", {batch.count_failed:,} failed" if batch.count_failed else ""
    since = "" if batch.pushed_at is None else f", since {duration(now - batch.pushed_at)}"
    return f"{batch.id}: {status}, {batch.count_completed or 0:,} of {total:,} done{failed}{since}"


def _money(facts: Facts, rates: Rates, width: int) -> Iterator[Text]:
    snapshot, limits = facts.snapshot, facts.numbers
    yield _line(
        "money",
        f"{dollars(snapshot.booked.spent_pico)} spent + {dollars(snapshot.booked.reserved_pico)} reserved of "
        f"{dollars(int(limits['limits/task_cost_pico']))}; this run {dollars(snapshot.session_booked.cost_pico)} of "
        f"{dollars(int(limits['limits/session_cost_pico']))}",
    )
    if snapshot.answered.settlements:
        ratio = facts.get("tokens/completion_ratio")
        yield _line(
            "tokens",
            f"{facts['tokens/input']:,} input, {facts['tokens/output']:,} completion, ratio "
            f"{'–' if ratio is None else f'{ratio:.3f}'}; predicted {dollars(snapshot.answered.expected_cost_pico)}, "
            f"true {dollars(snapshot.answered.cost_pico)}",
        )


def _trouble(facts: Facts, rates: Rates, width: int) -> Iterator[Text]:
    bad = facts.each("answers/bad/")
    if bad:
        yield _line("no good", reasons(bad), "yellow")
    for batch in facts.snapshot.failures[:MOST_TROUBLE]:
        yield _line("FAILED", f"batch {batch.id}: {batch.failure}", "red")
    for group in facts.snapshot.failed_groups[:MOST_TROUBLE]:
        yield _line("FAILED", f"direct group {group.id}: {group.failure}", "red")
    seen: dict[str, float] = {}
    for told in facts.snapshot.trouble:
        for words in words_of(told, settings=facts.settings):
            seen[words] = told.at
    for words, at in list(seen.items())[-MOST_TROUBLE:]:
        yield _line(f"{datetime.datetime.fromtimestamp(at):%H:%M:%S}", words, "yellow")
