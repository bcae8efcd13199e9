"""Kill a job at an edge, and its recovery at another, then look whether the world is as if nothing had happened.

The second kill needs the world as the first one left it, the server's side included. Doing the first kill again takes
0.1 s; a copy of everything, and a server on the copy, takes longer than that.
"""

from __future__ import annotations

import shlex
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash.harness import KILLED, Failed, edges_of, log_of, run
from tests.crash.trials import TRIALS, Trial
from tests.crash.world import direct_charges, look
from tests.toy import tell

Act = Callable[[Trial, Path, SandboxProcess], int]
"""Does something with a job in a folder; how often it was killed."""
TRIALS_PER_SERVER = 150
"""What a server remembers of earlier trials makes it slower."""


@dataclass(frozen=True)
class Kills:
    """A job, and where it is killed."""

    name: str
    first: int
    """An edge of the job."""
    second: int | str | None = None
    """An edge of its recovery: a number, or its name and which of that name it is: `commit#3`."""

    def repeat(self) -> str:
        """The command that does this again."""
        second = "" if self.second is None else f" {shlex.quote(str(self.second))}"
        return f"python -m tests.crash --job {self.name} --at {self.first}{second}"


@dataclass
class Outcome:
    """What came of some kills of one job."""

    name: str
    edges: list[str] = field(default_factory=list)
    """Of the job undisturbed, if that was tried."""
    singles: int = 0
    doubles: int = 0
    not_reached: int = 0
    """The run was over before the edge; the world was looked at all the same."""
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count *other* in."""
        self.edges = self.edges or other.edges
        self.singles += other.singles
        self.doubles += other.doubles
        self.not_reached += other.not_reached
        self.seconds += other.seconds
        self.failures += other.failures


class Bench:
    """Where jobs are tried: a folder, and a server that serves one trial at a time."""

    def __init__(self, base: Path) -> None:
        self._base = base
        base.mkdir(parents=True, exist_ok=True)
        self._server: SandboxProcess | None = None
        self._numbers = count()

    def undisturbed(self, name: str) -> Outcome:
        """Run a job without a kill, and note its edges."""
        outcome = Outcome(name)

        def measure(trial: Trial, folder: Path, server: SandboxProcess) -> int:
            outcome.edges = edges_of(trial.job, folder, server.url, record=folder.with_suffix(".edges"))
            return 0

        self._try(outcome, measure, f"python -m tests.crash --job {name}")
        return outcome

    def kill(self, kills: Kills) -> Outcome:
        """Kill a job once or twice."""
        outcome = Outcome(kills.name)
        self._kill(outcome, kills)
        return outcome

    def kill_recovery_everywhere(self, name: str, first: int) -> Outcome:
        """Kill a job at one edge; and again, and then its recovery, at each edge of that which leaves another world.

        The second edge goes by its name: where calls are in flight together the same number is another edge each time.
        """
        outcome = Outcome(name)
        edges = self._kill(outcome, Kills(name, first))
        worlds = distinct(edges)
        for number, second in enumerate(named(edges), start=1):
            if number in worlds:
                self._kill(outcome, Kills(name, first, second))
        return outcome

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()
        self._server = None

    def _kill(self, outcome: Outcome, kills: Kills) -> list[str]:
        """The edges of the run that came to the end."""
        edges: list[str] = []
        wanted = [edge for edge in (kills.first, kills.second) if edge is not None]
        reached = 0

        def kill(trial: Trial, folder: Path, server: SandboxProcess) -> int:
            nonlocal reached
            record = folder.with_suffix(".edges")
            reached = _kill_and_recover(trial, folder, server.url, wanted, record=record)
            edges.extend(record.read_text(encoding="utf-8").splitlines() if reached == len(wanted) else ())
            return reached

        self._try(outcome, kill, kills.repeat())
        if reached == 2:
            outcome.doubles += 1
        elif reached == len(wanted):
            outcome.singles += 1
        else:
            outcome.not_reached += 1
        return edges

    def _try(self, outcome: Outcome, act: Act, repeat: str) -> None:
        """Do something with a fresh job, and look at the world. The files of what failed are kept."""
        began_s = time.monotonic()
        number = next(self._numbers)
        folder = self._base / f"{outcome.name}-{number}"
        trial = TRIALS[outcome.name]
        try:
            server = self._fresh_server(trial, number)
            before = direct_charges(server)
            trial.prepare(folder, server.url)
            kills = act(trial, folder, server)
            charged = direct_charges(server)
            trial.check(look(folder, server), charged=charged.since(before), kills=kills)
        except Exception as error:
            what = str(error) if isinstance(error, Failed) else "".join(traceback.format_exception(error))
            outcome.failures.append(f"{repeat}\n  {what}\n  files: {folder}, log: {log_of(folder)}")
        else:
            shutil.rmtree(folder)
            for path in (log_of(folder), folder.with_suffix(".edges")):
                path.unlink(missing_ok=True)
        outcome.seconds += time.monotonic() - began_s

    def _fresh_server(self, trial: Trial, number: int) -> SandboxProcess:
        """The server, with the trial's plan, whose rules count from nought."""
        if self._server is None or number % TRIALS_PER_SERVER == 0:
            self.close()
            self._server = SandboxProcess.start(self._base / f"server-{number}.db")
        tell(self._server, "/sandbox/plan", trial.plan)
        return self._server


def distinct(edges: Sequence[str]) -> set[int]:
    """The edges at which a kill leaves another world than at the edge before.

    Between a reply and the next edge, and while something is only asked, nothing changes outside the process; but a
    download is written to a file as it comes.
    """
    before = ("", *edges)
    return {
        number
        for number, last in enumerate(before[:-1], start=1)
        if last == "after GET content" or not last.startswith(("after ", "before GET "))
    }


def named(edges: Sequence[str]) -> list[str]:
    """Each edge by its name and which of that name it is."""
    seen: Counter[str] = Counter()
    found = []
    for edge in edges:
        seen[edge] += 1
        found.append(f"{edge}#{seen[edge]}")
    return found


def _kill_and_recover(trial: Trial, folder: Path, url: str, edges: Sequence[int | str], *, record: Path) -> int:
    """Run the job and kill it at the first edge, its recovery at the second, then run to the end; the kills."""
    for kills, edge in enumerate(edges):
        code = run(trial.recovery if kills else trial.job, folder, url, kill_at=edge)
        if code == 0:
            return kills
        if code != KILLED:
            raise Failed(f"the run that was to be killed at edge {edge} ended with {code}")
    code = run(trial.recovery, folder, url, record=record)
    if code != 0:
        raise Failed(f"no recovery: the run after the kill ended with {code}")
    return len(edges)
