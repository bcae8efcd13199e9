"""A disk that is really full: a small file system in memory, made bigger later."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk.harness import Bill, check_world, insist_on_health
from tests.toy import QUICK, ToyTask, sandbox

COUNT = 300


class Wordy(ToyTask):
    """Enough requests to fill some hundred kilobytes."""

    name = "toy"
    count = COUNT


def run(folder: Path, url: str, capture: pytest.LogCaptureFixture) -> tuple[int, list[str]]:
    """The job: its exit code, and what it says of errors."""
    capture.clear()
    code = Wordy(client_base_url=url, task_dir=folder, **{**QUICK, "max_batch_requests": 100}).main()
    return code, [record.getMessage() for record in capture.records if record.levelname == "ERROR"]


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount here; tests/engine/test_disk.py limits the size of files instead")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a record of an error may hold a file open


@pytest.mark.crash
@pytest.mark.parametrize("step_kb", [64, 150])
def test_a_full_disk_stops_the_job_and_room_lets_it_go_on(
    small_disk: Path, tmp_path: Path, log: pytest.LogCaptureFixture, step_kb: int
) -> None:
    """It is full again and again; each time the same command goes on a little further, to the full result."""
    keys = {f"word-{index:05}" for index in range(COUNT)}
    folder = small_disk / "tasks"
    with sandbox(tmp_path / "server") as server:
        before, size_kb, refusals = Bill.of(server), 64, 0
        while True:
            code, errors = run(folder, server.url, log)
            if code == 0:
                break
            assert code == 1
            (line,) = errors
            assert f"The disk of {folder} refused to write" in line
            assert "then run the same command again" in line
            refusals += 1
            size_kb += step_kb
            mount("-o", f"remount,size={size_kb}k", str(small_disk))
        assert refusals >= 3
        insist_on_health(folder)
        check_world(folder, server, keys=keys, before=before)
