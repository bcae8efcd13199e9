"""What is tried beside kills at edges and storms: experiments that have commands of their own, run one after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORIES = 500


@dataclass(frozen=True)
class Experiment:
    """Some tests, all of which are trials; without any, the command of `tests.disk`."""

    about: str
    tests: tuple[str, ...] = ()
    each: int = 1
    """How many trials one of these tests makes."""


BESIDE = {
    "disk": Experiment("power cuts, and refusals of the disk, at every change of a file"),
    "full_disk": Experiment("really full disks", ("tests/disk/test_full_disk.py", "tests/engine/test_disk.py")),
    "stories": Experiment("stories of tasks, made up at random", ("tests/property",), STORIES),
    "two_at_once": Experiment("two processes on a task, readers, copies", ("tests/processes/test_two_at_once.py",)),
    "clock": Experiment("the clock set back", ("tests/engine/test_clock_set_back.py",)),
    "doctor": Experiment("damage that the doctor must name", ("tests/engine/test_doctor.py",)),
}


@dataclass(frozen=True)
class Tried:
    """What came of an experiment, or of a part of it."""

    name: str
    trials: int
    seconds: float
    failures: tuple[str, ...]


def run(name: str, folder: Path, *, jobs: int) -> list[Tried]:
    """Run an experiment in processes of its own, and read what came of it. Ended early, it ends them too."""
    experiment, figures = BESIDE[name], folder / f"{name}.figures"
    began_s = time.monotonic()
    code, said = _run(_command(experiment, figures, jobs=jobs))
    found: list[Tried] = []
    if figures.exists():
        found = [_of_tests(name, experiment, figures)] if experiment.tests else list(_of_disk(figures))
    if not any(tried.trials for tried in found) or (code != 0 and not any(tried.failures for tried in found)):
        why = f"{name} did not come to its end (exit code {code}):\n{said}"
        found.append(Tried(name, 0, time.monotonic() - began_s, (why,)))
    return found


def _command(experiment: Experiment, figures: Path, *, jobs: int) -> list[str]:
    if not experiment.tests:
        return ["tests.disk", "--all", "--json", str(figures)]
    quiet = ("-q", "--show-capture=no", "--tb=short", "-o", "timeout=0", "-p", "no:cacheprovider")
    return ["pytest", *experiment.tests, *quiet, "-n", str(jobs), f"--junitxml={figures}"]


def _run(command: list[str]) -> tuple[int, str]:
    """The exit code, and what was said."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "STORIES": str(STORIES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    return process.returncode, said


def _of_tests(name: str, experiment: Experiment, figures: Path) -> Tried:
    """The figures of pytest; a test that is skipped tries nothing."""
    root = ElementTree.parse(figures).getroot()
    cases = [case for case in root.iter("testcase") if case.find("skipped") is None]
    failures = tuple(
        f"python -m pytest {case.get('classname', '').replace('.', '/')}.py -k '{case.get('name')}'\n  {bad.get('message')}"
        for case in cases
        for bad in (*case.findall("failure"), *case.findall("error"))
    )
    seconds = sum(float(suite.get("time", 0)) for suite in root.iter("testsuite"))
    return Tried(name, len(cases) * experiment.each, seconds, failures)


def _of_disk(figures: Path) -> Iterator[Tried]:
    for part in json.loads(figures.read_text(encoding="utf-8")):
        yield Tried(part["name"], part["trials"], part["seconds"], tuple(part["failures"]))
