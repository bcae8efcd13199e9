"""The disk refuses: one clear line, exit code 1, nothing lost, and with a disk that is well the same command goes on."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.disk.experiments import EXPERIMENTS, calm_run, failing_syncs, faults, refuse
from tests.disk.harness import run
from tests.disk.watch import Fault

SAMPLE = 20
"""So many refusals of each job here; `python -m tests.disk --all` tries every one."""


@pytest.mark.crash
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_refused_write_or_sync_is_one_line_and_the_same_command_goes_on(
    alone: SandboxProcess, tmp_path: Path, name: str
) -> None:
    """A full disk from some change on, one error at one write or sync, a disk that takes nothing any more."""
    experiment = EXPERIMENTS[name]
    everything = list(faults(calm_run(experiment, tmp_path / "calm", alone).changes))
    chosen = everything[:: len(everything) // SAMPLE]
    noticed = [refuse(experiment, tmp_path / "refused", alone, fault=fault) for fault in chosen]
    assert sum(noticed) > len(chosen) // 3  # the faults do reach the program; what nothing depends on stops nobody


@pytest.mark.crash
def test_after_a_sync_that_failed_even_a_power_cut_loses_nothing_promised(
    alone: SandboxProcess, tmp_path: Path
) -> None:
    """The system throws away what it could not write, and says so once. Nobody relies on a later sync to mend that."""
    experiment = EXPERIMENTS["list"]
    failing = list(failing_syncs(calm_run(experiment, tmp_path / "calm", alone).changes))
    noticed = []
    for number, fault in enumerate(failing[::3]):
        then_cut = (("nothing", "some")[number % 2], number)
        noticed.append(refuse(experiment, tmp_path / "failed", alone, fault=fault, then_cut=then_cut))
    assert sum(noticed) > len(noticed) // 3


@pytest.mark.crash
def test_a_full_disk_is_told_with_its_place_and_the_room_there(alone: SandboxProcess, tmp_path: Path) -> None:
    place = tmp_path / "full"
    place.mkdir()
    ran = run(EXPERIMENTS["list"].job, place, alone.url, fault=Fault(60, errno.ENOSPC, stays=True))
    (line,) = ran.errors
    assert f"The disk of {place / 'tasks'} refused to write toy_state.db (database or disk is full; " in line
    assert "MB are free). Nothing committed is lost: make room there, then run the same command again." in line
