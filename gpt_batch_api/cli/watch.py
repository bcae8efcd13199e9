"""`gpt-batch-api watch`: the view of a run that goes on in another process, or of one that has ended."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gpt_batch_api.cli.tasks import add_task_arguments, look_at_each
from gpt_batch_api.domain.workplace import Workplace

if TYPE_CHECKING:
    from rich.text import Text

    from gpt_batch_api.domain.settings import Settings
    from gpt_batch_api.monitor.facts import Facts
    from gpt_batch_api.monitor.view import Rates

LOOK_S = 1.0
LINE_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Only reads; a run is never disturbed. Ends by itself when all is done. Exit code: 0, 1 if a task cannot be "
        "read, or 130 after Ctrl+C, which ends the watching only."
    )
    add_task_arguments(parser)
    parser.add_argument(
        "--interval",
        metavar="S",
        type=_seconds,
        help=f"seconds between looks (default: {LOOK_S:g}; {LINE_S:g} for plain lines, where there is no terminal)",
    )
    parser.add_argument("--once", action="store_true", help="look once and end")
    parser.add_argument("--follow", action="store_true", help="go on watching when all is done")


def run(arguments: argparse.Namespace) -> int:
    show, interval_s = _way_to_show(arguments)
    interval_s = arguments.interval or interval_s
    looked_s = time.monotonic()
    looks = look_at_each(arguments, _begin)
    watched = [task for _, task in looks.found]
    while True:
        show(watched)
        if arguments.once or not watched or (not arguments.follow and all(task.is_over for task in watched)):
            return looks.exit_code
        time.sleep(max(0.0, looked_s + interval_s - time.monotonic()))
        looked_s = time.monotonic()
        for task in watched:
            task.look()


Show = Callable[[Sequence["_Watched"]], None]


def _way_to_show(arguments: argparse.Namespace) -> tuple[Show, float]:
    """How looks are shown, and the seconds between them."""
    from gpt_batch_api.monitor.below import can_redraw

    if arguments.json:
        return _as_json, LOOK_S
    if arguments.once:
        return _as_view, LOOK_S
    return (_redrawn(), LOOK_S) if can_redraw(sys.stdout) else (_as_lines, LINE_S)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} must be at least 0.1")
    return seconds


def _begin(workplace: Workplace) -> _Watched:
    """A first look at a task."""
    task = _Watched(workplace)
    task.look()
    return task


class _Watched:
    """One task, and what the last looks at it have shown."""

    def __init__(self, workplace: Workplace) -> None:
        from gpt_batch_api.monitor.view import Rates

        self.workplace = workplace
        self.facts: Facts | None = None
        self.holder: str | None = None
        self.rates: Rates = Rates()
        self._settings: tuple[int | None, Settings] | None = None

    def look(self) -> None:
        """Look at the store, and who works on it."""
        from gpt_batch_api.engine.lock import held_by
        from gpt_batch_api.monitor.facts import facts_of, settings_of
        from gpt_batch_api.store.snapshot import take_from

        taken = take_from(self.workplace.store)
        if taken is None:
            return
        # The lock is only looked at where somebody should hold it: a run that begins never finds it taken by a watcher.
        runs = taken.session is not None and taken.session.ended_at is None
        self.holder = held_by(self.workplace.lock) if runs else None
        session_id = None if taken.session is None else taken.session.id
        if self._settings is None or self._settings[0] != session_id:
            self._settings = session_id, settings_of(taken)
        self.facts = facts_of(taken, settings=self._settings[1], now=time.time())
        self.rates.note(self.facts)

    @property
    def is_over(self) -> bool:
        """Nobody works on it, and nothing is left to do."""
        return self.facts is not None and self.facts.snapshot.task.complete and self.holder is None

    @property
    def run(self) -> str:
        return f"{self.holder} works on it" if self.holder else "nobody works on it"

    def document(self) -> dict[str, Any]:
        """One look for scripts: exact figures, money in picodollars; null where nothing has begun."""
        return {
            "task": self.workplace.prefix,
            "at": None if self.facts is None else self.facts.now,
            "running": self.holder,
            "figures": None if self.facts is None else dict(self.facts.numbers),
        }

    def lines(self, *, width: int, height: int) -> list[Text]:
        """The view."""
        from rich.text import Text

        from gpt_batch_api.monitor.view import view_lines

        if self.facts is None:
            return [Text(f"── {self.workplace.prefix}: not begun")]
        return view_lines(
            self.facts, self.rates, prefix=self.workplace.prefix, width=width, height=height, run=self.run
        )


def _redrawn() -> Show:
    from gpt_batch_api.monitor.below import Below, wants_color

    below = Below(sys.stdout, color=wants_color(sys.stdout))

    def show(watched: Sequence[_Watched]) -> None:
        columns, rows = below.size
        lines = [line for task in watched for line in task.lines(width=columns - 1, height=rows - 2)]
        below.show(lines[: rows - 2])

    return show


def _as_view(watched: Sequence[_Watched]) -> None:
    import shutil

    for task in watched:
        for line in task.lines(width=shutil.get_terminal_size((100, 24)).columns, height=1000):
            print(line.plain)


def _as_lines(watched: Sequence[_Watched]) -> None:
    from gpt_batch_api.monitor.view import log_line

    for task in watched:
        told = "not begun" if task.facts is None else f"{task.run}. {log_line(task.facts, task.rates)}"
        print(f"[{time.strftime('%H:%M:%S')}] {task.workplace.prefix}: {told}", flush=True)


def _as_json(watched: Sequence[_Watched]) -> None:
    for task in watched:
        print(json.dumps(task.document()), flush=True)
