"""The power fails: what was promised is still there, and the same command goes on to the full result."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.connection import APPLICATION_ID, Store
from tests.disk.experiments import EXPERIMENTS, calm_run, cut_points, cut_power, fate_of
from tests.disk.harness import KILLED, Bill, check_world, run
from tests.store import first_schema

SAMPLE = 12
"""So many cuts of each job here; `python -m tests.disk --all` tries every one."""


@pytest.mark.crash
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_after_a_power_cut_nothing_promised_is_gone_and_the_job_finishes(
    alone: SandboxProcess, tmp_path: Path, name: str
) -> None:
    """Cut before a change of a file; of what was not synced nothing, all, or any part has reached the disk."""
    experiment = EXPERIMENTS[name]
    points = cut_points(calm_run(experiment, tmp_path / "calm", alone).changes)
    assert len(points) > 80
    cuts = [
        cut_power(experiment, tmp_path / f"cut{at}", alone, at=at, fate=fate_of(number), seed=number)
        for number, at in enumerate(_some(points, SAMPLE))
    ]
    assert sum(cuts) > len(cuts) // 2  # a run whose calls end in another order may be over before its cut


@pytest.mark.crash
def test_after_a_second_power_cut_during_recovery_too(alone: SandboxProcess, tmp_path: Path) -> None:
    """The recovery is cut as well."""
    experiment = EXPERIMENTS["list"]
    points = cut_points(calm_run(experiment, tmp_path / "calm", alone).changes)
    cuts = []
    for number, at in enumerate(_some(points, 5)):
        again_at, place = 10 + 25 * number, tmp_path / f"cut{at}"
        cuts.append(cut_power(experiment, place, alone, at=at, fate=fate_of(number), seed=number, again_at=again_at))
    assert max(cuts) == 2  # a late cut may come after the end of a short recovery


@pytest.mark.crash
@pytest.mark.parametrize(
    ("name", "forgets", "loss"),
    [
        ("list", "sync *_state.db-wal", "the store is empty|is gone|are gone"),
        ("list", "sync_folder *", "the store is gone"),
        ("list", "sync toy_output.jsonl", r"toy_output.jsonl has \d+ bytes, \d+ were delivered"),
        ("document", "sync toy_output.json.tmp", r"toy_output.json has \d+ bytes, \d+ were delivered"),
    ],
)
def test_a_sync_that_is_forgotten_is_noticed(
    alone: SandboxProcess, tmp_path: Path, name: str, forgets: str, loss: str
) -> None:
    """The experiment can fail: without one of the syncs something promised is lost by some cut."""
    experiment = EXPERIMENTS[name]
    changes = calm_run(experiment, tmp_path / "calm", alone).changes
    first = next(number for number, change in enumerate(changes, start=1) if fnmatch(change.name, forgets))
    points = [point for point in cut_points(changes) if point > first]
    points = [*points[:8], *_some(points, 8)]
    found = []
    for number, (at, fate) in enumerate(product(points, ("nothing", "some"))):
        try:
            cut_power(experiment, tmp_path / "cut", alone, at=at, fate=fate, seed=number, forgets=forgets)
        except AssertionError as error:
            found.append(str(error))
            if re.search(loss, str(error)):
                return
    raise AssertionError(f"nobody noticed: {found}")


@pytest.mark.crash
def test_a_result_file_that_was_half_fetched_before_a_cut_is_fetched_anew(
    alone: SandboxProcess, tmp_path: Path
) -> None:
    """Of bytes that were not synced the later ones may be on the disk and the first ones not: nobody can see it."""
    experiment = EXPERIMENTS["list"]
    root = tmp_path / "cut"
    root.mkdir()
    changes = calm_run(experiment, tmp_path / "calm", alone).changes
    fetched = next(number for number, change in enumerate(changes, start=1) if fnmatch(change.name, "sync toy_spool*"))
    before = Bill.of(alone)
    assert run(experiment.job, root, alone.url, cut_at=fetched).code == KILLED
    (part,) = (root / "tasks").glob("toy_spool*.part")
    part.write_bytes(bytes(512) + part.read_bytes()[512:])
    assert run(experiment.job, root, alone.url).code == 0
    check_world(root / "tasks", alone, keys=experiment.keys, before=before)


def migrate(folder: Path, url: str) -> int:
    """Bring the store in *folder* up to date, and do nothing else."""
    Store.open(folder / "toy_state.db").close()
    return 0


@pytest.mark.crash
def test_the_copy_of_a_store_to_be_migrated_is_durable_before_anything_else_is_written(tmp_path: Path) -> None:
    """Whoever goes back to an earlier version needs it. A copy whose name is not on the disk can be gone after a cut."""
    (tmp_path / "root" / "tasks").mkdir(parents=True)
    first_schema.make_empty(tmp_path / "root" / "tasks" / "toy_state.db", application_id=APPLICATION_ID)
    ran = run(migrate, tmp_path / "root", "")
    assert ran.code == 0, ran.said
    names = [change.name for change in ran.changes]
    renamed = next(number for number, name in enumerate(names) if name.startswith("rename toy_state.schema1.db"))
    assert "sync toy_state.schema1.db.part" in names[:renamed]
    assert names[renamed + 1] == "sync_folder tasks"


def _some(points: list[int], count: int) -> list[int]:
    """*count* of the points, spread evenly."""
    return [points[(2 * number + 1) * len(points) // (2 * count)] for number in range(count)]
