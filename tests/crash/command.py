"""The crash proof, for anyone to repeat: `python -m tests.crash --all`.

Kills real processes at every edge of every job, with --double their recovery at every edge too, with --storms big jobs
at random times in a bad network, and looks at the whole world after each. With --all also what is tried with disks, made-up
stories, two processes at once, a wrong clock, the doctor. Prints a table, and for each failure the command that repeats
it. Exit code 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.crash import beside
from tests.crash.beside import BESIDE, Tried
from tests.crash.harness import FORKS, end_with_parent
from tests.crash.kills import Bench, Kills, Outcome, distinct
from tests.crash.storms import Storm, StormOutcome, brave
from tests.crash.trials import TRIALS

MEMORY = Path("/dev/shm")
"""Where files are made, if there is such a place: a job takes a third less time there than on a disk."""
RESTART_EDGES = 12
"""A recovery has some edges more than the job had left."""

STORMS = 200

_bench: Bench
_base: Path


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").split("\n\n")[1])
    add = parser.add_argument
    add("--all", action="store_true", help=f"everything: all jobs with --double, {STORMS} storms, all of --beside")
    add("--list", action="store_true", help="name the jobs and what is beside them, and stop")
    add("--job", action="append", choices=TRIALS, metavar="NAME", help="only this job (may be repeated)")
    add("--double", action="store_true", help="also kill the recovery from each kill at each of its edges")
    add("--at", nargs="+", type=_edge, metavar="EDGE", help="only this edge of --job, and this one of its recovery")
    add("--sample", type=int, metavar="N", help="of each job only N kills, and N double kills, chosen by --seed")
    add("--storms", type=int, default=0, metavar="N", help="a big job in a storm, for N seeds from --seed")
    add("--requests", type=int, default=5000, metavar="N", help="how big the job in a storm is (5000)")
    add("--beside", action="append", choices=BESIDE, metavar="NAME", help="an experiment without edges (see --list)")
    add("--seed", type=int, default=1, metavar="S", help="decides the sample, and which storms (1)")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes at once (the number of cores)")
    add("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser


def _edge(text: str) -> int | str:
    """A number, or a name with one: `commit#3`."""
    return int(text) if text.isdecimal() else text


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    parser = make_parser()
    wanted = parser.parse_args(argv)
    if wanted.at and (len(wanted.at) > 2 or len(wanted.job or ()) != 1):
        parser.error("--at takes one edge or two, of one --job")
    if wanted.list:
        for name, trial in TRIALS.items():
            print(f"{name:24} {(trial.job.__doc__ or '').strip()}")
        for name, experiment in BESIDE.items():
            print(f"--beside {name:15} {experiment.about}")
        return 0
    base = Path(tempfile.mkdtemp(prefix="crash-", dir=MEMORY if MEMORY.is_dir() else None))
    signal.signal(signal.SIGTERM, _stop)
    began_s = time.monotonic()
    with ProcessPoolExecutor(wanted.jobs, mp_context=FORKS, initializer=_begin, initargs=(base,)) as pool:
        try:
            kills = wanted.all or wanted.job or wanted.double or wanted.sample or not (wanted.storms or wanted.beside)
            report = Report(try_jobs(pool, wanted) if kills else [], try_storms(pool, wanted))
            report.beside = try_beside(wanted, base)
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            _remove(base)
            raise
    report.seconds = time.monotonic() - began_s
    print(report.end())
    if wanted.json:
        wanted.json.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    if report.failures:
        return 1
    _remove(base)
    return 0


def _remove(base: Path) -> None:
    """Remove the folder, in which servers that are just ending may still tidy up."""
    for _ in range(50):
        shutil.rmtree(base, ignore_errors=True)
        if not base.exists():
            return
        time.sleep(0.1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


# ---------------------------------------------------------------- what is done, and by whom

Unit = Callable[[], Outcome]
"""What one process does at a time."""


def _begin(base: Path) -> None:
    global _bench, _base
    end_with_parent()
    _base = base / f"process-{os.getpid()}"
    _bench = Bench(_base)


def _undisturbed(name: str) -> Outcome:
    return _bench.undisturbed(name)


def _kill(kills: Kills) -> Outcome:
    return _bench.kill(kills)


def _kill_recovery_everywhere(name: str, first: int) -> Outcome:
    return _bench.kill_recovery_everywhere(name, first)


def _brave(storm: Storm) -> StormOutcome:
    return brave(storm, _base)


def try_jobs(pool: ProcessPoolExecutor, wanted: argparse.Namespace) -> list[Outcome]:
    """Try all jobs that are wanted, and print a line for each when it is done."""
    names = list(TRIALS) if wanted.all or not wanted.job else list(dict.fromkeys(wanted.job))
    sums = {name: Outcome(name) for name in names}
    print(HEAD, flush=True)
    if wanted.at:
        first, *rest = wanted.at
        _count(pool.submit(_kill, Kills(names[0], first, *rest)).result(), sums)
        return list(sums.values())
    for outcome in pool.map(_undisturbed, names):
        _count(outcome, sums)
    units = {name: list(_units(name, sums[name].edges, wanted)) for name in names if not sums[name].failures}
    futures = [pool.submit(unit) for todo in units.values() for unit in todo]
    left = {name: len(todo) for name, todo in units.items()}
    for future in as_completed(futures):
        outcome = future.result()
        _count(outcome, sums)
        left[outcome.name] -= 1
        if not left[outcome.name]:
            print(line(sums[outcome.name]), flush=True)
    return list(sums.values())


def _count(outcome: Outcome, sums: dict[str, Outcome]) -> None:
    sums[outcome.name].add(outcome)
    for failure in outcome.failures:
        print(f"FAILED {failure}", flush=True)


def _units(name: str, edges: Sequence[str], wanted: argparse.Namespace) -> Iterator[Unit]:
    """What is to be done for one job that has these edges."""
    double = wanted.double or wanted.all
    worlds = distinct(edges)
    if wanted.sample is None:
        for first in range(1, len(edges) + 1):
            if double and first in worlds:
                yield partial(_kill_recovery_everywhere, name, first)
            else:
                yield partial(_kill, Kills(name, first))
        return
    chance = random.Random(f"{wanted.seed} {name}")
    for first in sorted(chance.sample(range(1, len(edges) + 1), min(wanted.sample, len(edges)))):
        yield partial(_kill, Kills(name, first))
        if double:
            yield partial(_kill, Kills(name, first, chance.randint(1, len(edges) - first + RESTART_EDGES)))


def try_storms(pool: ProcessPoolExecutor, wanted: argparse.Namespace) -> StormOutcome:
    """Let the storms loose that are wanted, and print how it went."""
    total = StormOutcome()
    storms = wanted.storms or (STORMS if wanted.all else 0)
    if not storms:
        return total
    seeds = range(wanted.seed, wanted.seed + storms)
    for future in as_completed([pool.submit(_brave, Storm(seed, wanted.requests)) for seed in seeds]):
        outcome = future.result()
        total.add(outcome)
        for failure in outcome.failures:
            print(f"FAILED {failure}", flush=True)
    print(
        f"{total.storms} storms over jobs of {wanted.requests:,} requests: {total.kills} kills; "
        + ", ".join(f"{times} {harm}" for harm, times in sorted(total.harms.items()))
        + f"; {total.seconds / total.storms:.1f} s each; {len(total.failures)} failed",
        flush=True,
    )
    return total


def try_beside(wanted: argparse.Namespace, folder: Path) -> list[Tried]:
    """Run what is wanted besides."""
    names = list(BESIDE) if wanted.all else list(dict.fromkeys(wanted.beside or ()))
    found = []
    for name in names:
        for tried in beside.run(name, folder, jobs=wanted.jobs):
            found.append(tried)
            for failure in tried.failures:
                print(f"FAILED {failure}", flush=True)
    return found


# ---------------------------------------------------------------- what is told

HEAD = (
    f"{'job':24} {'edges':>6} {'killed once':>12} {'killed twice':>13} {'not reached':>12} {'seconds':>8} {'failed':>7}"
)


def line(outcome: Outcome) -> str:
    """The figures of a job."""
    return (
        f"{outcome.name:24} {len(outcome.edges):6} {outcome.singles:12} {outcome.doubles:13} {outcome.not_reached:12} "
        f"{outcome.seconds:8.0f} {len(outcome.failures):7}"
    )


@dataclass
class Report:
    """What came of everything."""

    jobs: list[Outcome]
    storms: StormOutcome
    beside: list[Tried] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """What failed, each with the command that repeats it."""
        return [failure for row in self.rows() for failure in row.failures]

    def rows(self) -> Iterator[Tried]:
        """The figures of everything that was tried, one kind a row."""
        together = Outcome("together")
        for outcome in self.jobs:
            together.add(outcome)
        if self.jobs:
            kills = together.singles + together.doubles
            yield Tried("jobs killed once or twice", kills, together.seconds, tuple(together.failures))
        if self.storms.storms:
            yield Tried("storms", self.storms.storms, self.storms.seconds, tuple(self.storms.failures))
        yield from self.beside

    def end(self) -> str:
        """The last lines: one table of all that was tried."""
        table = [f"{'tried':40} {'trials':>8} {'seconds':>8} {'failed':>7}"]
        table += [f"{row.name:40} {row.trials:8,} {row.seconds:8,.0f} {len(row.failures):7,}" for row in self.rows()]
        verdict = f"{len(self.failures)} FAILED" if self.failures else "all promises held"
        return "\n".join(["", *table, f"{verdict}, after {self.seconds:.0f} s"])

    def document(self) -> dict[str, object]:
        """The figures for programs."""
        return {
            "seconds": round(self.seconds, 1),
            "jobs": [{**vars(outcome), "edges": len(outcome.edges)} for outcome in self.jobs],
            "storms": vars(self.storms),
            "beside": [vars(tried) for tried in self.beside],
        }
