"""`python -m tests.crash`: it tries what it is told to, and says what failed and how to repeat it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import jobs
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
    assert done.stdout.splitlines()[1].split()[:4] == ["together", "0", "0", "1"], "killed twice, once"


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
