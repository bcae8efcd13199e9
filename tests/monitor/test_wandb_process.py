"""The pipe to wandb's process: what goes in comes out, and nothing that the process does reaches the run.

A module of ours stands for wandb there; it writes down what it is asked to log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gpt_batch_api.monitor import tracker
from gpt_batch_api.monitor.tracker import Background, Table, TrackedRun
from gpt_batch_api.monitor.wandb_process import Wandb
from gpt_batch_api.monitor.wandb_run import WandbTracker
from tests.monitor.processes import processes_with, wait_for_their_end

RECORDER = """
import json, os, sys
from types import SimpleNamespace

run = None
Settings = dict
Table = lambda columns, data: {"columns": columns, "data": data}
book = open(os.environ["BOOK"], "a", buffering=1)

def note(**what):
    print(json.dumps(what), file=book)

def setup(settings=None):
    return SimpleNamespace(settings=SimpleNamespace(base_url="http://127.0.0.1:9"))

def login(**named):
    return False

def init(**named):
    note(init={name: str(named[name]) for name in ("id", "project", "dir", "mode")}, config=named["config"])
    return SimpleNamespace(
        log=lambda row, **named: note(row=row, **named), finish=lambda: note(finished=True),
        define_metric=lambda *values, **named: None, offline=True, settings=SimpleNamespace(sync_dir="x"),
    )
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stands in the environment of the process, as WANDB_NOTES."""
    found = uuid4().hex
    (tmp_path / "wandb.py").write_text(RECORDER)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_NOTES", found)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("BOOK", str(tmp_path / "book"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return found


def begin(folder: Path, *, quiet: bool = False) -> Background:
    run = TrackedRun(uuid4().hex, "toy", "words", None, "toy", "Toy", folder, {"settings": {"a": [1, None, "ü"]}})
    return Background(Wandb(asked_for=True, quiet=quiet), run)


def book(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "book").read_text().splitlines()]


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_goes_in_comes_out(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "END_WAIT_S", 60)
    background = begin(tmp_path / "there")
    background.log({"money/spent": 0.1, "task/complete": 1, "name": "ü\n"}, step=7)
    background.log({"batches": Table(("number", "cost"), ((1, None), (2, 0.5)))}, step=8)
    background.finish()
    started, first, second, finished = book(tmp_path)
    assert started["init"]["dir"] == str(tmp_path / "there")
    assert started["config"] == {"settings": {"a": [1, None, "ü"]}}
    assert first == {"row": {"money/spent": 0.1, "task/complete": 1, "name": "ü\n"}, "step": 7, "commit": True}
    assert second["row"] == {"batches": {"columns": ["number", "cost"], "data": [[1, None], [2, 0.5]]}}
    assert finished == {"finished": True}
    assert log.messages == ["wandb logs offline because there is no key (wandb login). To see it: wandb sync x"]
    wait_for_their_end("WANDB_NOTES", mark)
    assert not list(tmp_path.glob("*.lock"))


def test_a_quiet_run_does_not_say_where(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "END_WAIT_S", 60)
    begin(tmp_path, quiet=True).finish()
    assert log.messages == []
    wait_for_their_end("WANDB_NOTES", mark)


def test_a_process_that_does_not_read_stops_nobody_and_loses_the_oldest_looks(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """The pipe is full then, and the queue too."""
    monkeypatch.setattr(tracker, "END_WAIT_S", 0.2)
    background = begin(tmp_path)
    until(lambda: processes_with("WANDB_NOTES", mark))
    (process,) = processes_with("WANDB_NOTES", mark)
    os.kill(process, signal.SIGSTOP)
    looks = 20 * tracker.QUEUE
    for step in range(looks):
        background.log({"figure": "x" * 200}, step=step)
    background.finish()
    (complaint,) = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert "has not taken the last figures" in complaint
    os.kill(process, signal.SIGCONT)
    assert background.ended(within_s=60)
    wait_for_their_end("WANDB_NOTES", mark)
    steps = [entry["step"] for entry in book(tmp_path) if "row" in entry]
    assert steps == sorted(set(steps))
    assert len(steps) < looks
    assert steps[-1] == looks - 1


def test_a_process_that_is_killed_is_complained_of_once(
    tmp_path: Path, mark: str, log: pytest.LogCaptureFixture
) -> None:
    background = begin(tmp_path)
    until(lambda: processes_with("WANDB_NOTES", mark))
    for process in processes_with("WANDB_NOTES", mark):
        os.kill(process, signal.SIGKILL)
    wait_for_their_end("WANDB_NOTES", mark)
    for step in range(5):
        background.log({"figure": step}, step=step)
    background.finish()
    (complaint,) = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert "its process has ended" in complaint


def test_a_process_that_nobody_asked_for_ends_at_once_where_there_is_no_key(
    tmp_path: Path, mark: str, log: pytest.LogCaptureFixture
) -> None:
    run = TrackedRun(uuid4().hex, "toy", "words", None, "toy", "Toy", tmp_path, {})
    background = Background(Wandb(asked_for=False, quiet=False), run)
    until(lambda: processes_with("WANDB_NOTES", mark))
    wait_for_their_end("WANDB_NOTES", mark)
    background.log({"figure": 1}, step=1)
    background.finish()
    assert log.messages == []
    assert (tmp_path / "book").read_text() == ""


def test_who_has_patience_for_a_moment_leaves_a_silent_host_that_is_still_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrackedRun("the-id", "toy", "words", None, "toy", "Toy", tmp_path / "a folder", {})
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(10)
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        lost = WandbTracker(asked_for=True, patience_s=0.1).lost(run)
        asking = [thread for thread in threading.enumerate() if thread.name == "tracker-reach"]
        assert asking
    assert lost is not None
    assert lost.text.endswith(f"To see it: wandb sync '{tmp_path}/a folder/wandb'/offline-run-*-the-id*")
    for thread in asking:
        thread.join()
