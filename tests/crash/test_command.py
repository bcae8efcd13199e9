"""`python -m tests.crash`: it tries what it is told to, and says what failed and how to repeat it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.crash import beside, jobs
from tests.crash.beside import BESIDE, Experiment
from tests.crash.kills import Bench, Kills, distinct
from tests.crash.trials import TRIALS, Trial

ROOT = Path(__file__).parents[2]


def crash(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "tests.crash", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.crash
def test_it_tries_a_sample_and_writes_its_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = crash(
        "--job", "custom", "--sample", "2", "--double", "--storms", "1", "--requests", "50", "--json", str(figures)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all promises held" in done.stdout
    document = json.loads(figures.read_text(encoding="utf-8"))
    (job,) = document["jobs"]
    assert (job["name"], job["singles"], job["failures"]) == ("custom", 2, [])
    assert job["edges"] > 40
    assert document["storms"]["storms"] == 1


@pytest.mark.crash
def test_one_trial_can_be_repeated() -> None:
    done = crash("--job", "custom", "--at", "9", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^jobs killed once or twice +1 ", done.stdout, re.MULTILINE), done.stdout


def processes_with(mark: str) -> list[str]:
    """What processes there are with *mark* in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.crash
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's list of processes")
def test_nothing_goes_on_when_it_is_terminated() -> None:
    """Its workers end with it, and the jobs and servers that these have started."""
    mark = f"CRASH_TEST={uuid4().hex}"
    name, _, value = mark.partition("=")
    command = [sys.executable, "-m", "tests.crash", "--job", "list", "--jobs", "1"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, name: value}, stdout=subprocess.DEVNULL) as process:
        while not any("/process-" in running for running in processes_with(mark)):  # the server of a worker
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    for _ in range(100):
        if not processes_with(mark):
            return
        time.sleep(0.1)
    raise AssertionError(processes_with(mark))


def test_experiments_beside_the_kills_are_counted_in(tmp_path: Path) -> None:
    """Each has a command of its own, whose figures are read."""
    figures = tmp_path / "figures.json"
    done = crash("--beside", "clock", "--jobs", "1", "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    (tried,) = json.loads(figures.read_text(encoding="utf-8"))["beside"]
    assert (tried["name"], tried["trials"], tried["failures"]) == ("clock", 11, [])
    assert re.search(r"^clock +11 ", done.stdout, re.MULTILINE), done.stdout


def test_an_experiment_that_fails_or_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what failed, and how to repeat it."""
    bad = tmp_path / "test_bad.py"
    bad.write_text("def test_wrong():\n    assert 1 == 2, 'not the same'\ndef test_right(): pass\n", encoding="utf-8")
    for name, path in (("bad", bad), ("none", tmp_path / "test_gone.py")):
        monkeypatch.setitem(BESIDE, name, Experiment("", (str(path),), each=5))
    (tried,) = beside.run("bad", tmp_path, jobs=1)
    assert tried.trials == 10
    (failure,) = tried.failures
    assert "test_bad.py -k 'test_wrong'" in failure
    assert "not the same" in failure
    nothing = beside.run("none", tmp_path, jobs=1)[-1]
    assert nothing.trials == 0
    assert "none did not come to its end" in nothing.failures[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--at", "1"], "--at takes one edge or two, of one --job"), (["--job", "nothing"], "invalid choice: 'nothing'")],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    done = crash(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.crash
def test_a_failure_says_what_is_wrong_and_how_to_repeat_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that expects more than the job does fails, and its files are kept."""
    monkeypatch.setitem(TRIALS, "wrong", Trial(jobs.custom, words=5, outputs=frozenset({"toy_output.tsv"})))
    bench = Bench(tmp_path)
    try:
        (failure,) = bench.kill(Kills("wrong", 9, 3)).failures
    finally:
        bench.close()
    assert "python -m tests.crash --job wrong --at 9 3" in failure
    assert "rows are missing or doubled" in failure
    assert "delivered position" not in failure
    assert (tmp_path / "wrong-0" / "toy_state.db").exists()


def test_edges_that_leave_the_same_world_are_told_from_others() -> None:
    """After a reply nothing has changed yet, nor while something is asked; a download is written as it comes."""
    edges = [
        "commit",
        "before POST files",
        "after POST files",
        "commit",
        "before GET content",
        "after GET content",
        "open x",
    ]
    assert distinct(edges) == {1, 2, 3, 5, 7}
