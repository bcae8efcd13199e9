"""What the simulated disk keeps: the experiments stand on it, so it must be neither kinder nor crueller than it says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.disk.survival import FATES, Disk
from tests.disk.watch import Change


class Bench:
    """A folder that holds `old.txt` (durable), and what a cut leaves after some changes."""

    def __init__(self, place: Path) -> None:
        self.root = place / "disk"
        self.root.mkdir()
        (self.root / "old.txt").write_bytes(b"old")
        self.target = place / "left"

    def change(self, kind: str, name: str = "", data: object = None) -> Change:
        path = str(self.root / name) if name else str(self.root)
        return Change(kind, path, str(self.root / str(data)) if kind == "rename" else data)

    def left(self, changes: list[Change], fate: str, seed: int = 0) -> dict[str, bytes]:
        disk = Disk(self.root)
        disk.play(changes)
        disk.cut(self.target, fate=fate, chance=random.Random(seed))
        return {path.name: path.read_bytes() for path in self.target.iterdir()}

    def all_left(self, changes: list[Change]) -> list[dict[str, bytes]]:
        """Every outcome that some dice give."""
        found = []
        for fate in FATES:
            for seed in range(40):
                if (outcome := self.left(changes, fate, seed)) not in found:
                    found.append(outcome)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_was_there_at_first_is_there_after_a_cut(bench: Bench) -> None:
    assert bench.all_left([]) == [{"old.txt": b"old"}]


def test_what_was_synced_survives_every_cut(bench: Bench) -> None:
    """Content and, by its folder, name."""
    changes = [
        bench.change("create", "new.txt"),
        bench.change("write", "new.txt", (0, b"new")),
        bench.change("sync", "new.txt"),
        bench.change("sync_folder"),
    ]
    assert bench.all_left(changes) == [{"old.txt": b"old", "new.txt": b"new"}]


def test_a_write_that_was_not_synced_may_be_gone_or_torn_or_there(bench: Bench) -> None:
    outcomes = [left["old.txt"] for left in bench.all_left([bench.change("write", "old.txt", (0, b"n" * 1024))])]
    assert b"old" in outcomes
    assert b"n" * 1024 in outcomes
    assert b"n" * 512 in outcomes
    assert set(outcomes) == {b"old", b"n" * 512, b"n" * 1024}


def test_of_two_writes_the_second_may_be_there_without_the_first(bench: Bench) -> None:
    """What lies between is zeros then."""
    changes = [bench.change("write", "old.txt", (3, b"11")), bench.change("write", "old.txt", (5, b"22"))]
    outcomes = {left["old.txt"] for left in bench.all_left(changes)}
    assert {b"old", b"old11", b"old1122", b"old\0\x0022"} <= outcomes


def test_a_synced_file_in_a_folder_that_was_not_synced_may_have_no_name(bench: Bench) -> None:
    changes = [bench.change("create", "new.txt"), bench.change("sync", "new.txt")]
    assert {"old.txt": b"old"} in bench.all_left(changes)


def test_a_name_may_be_durable_before_its_content_is(bench: Bench) -> None:
    """A rename without a sync before it: an empty file in the place of a good one."""
    changes = [
        bench.change("create", "new.txt"),
        bench.change("write", "new.txt", (0, b"new")),
        bench.change("rename", "new.txt", "old.txt"),
    ]
    outcomes = bench.all_left(changes)
    assert {"old.txt": b""} in outcomes
    assert {"old.txt": b"old"} in outcomes
    assert {"old.txt": b"new"} in outcomes
    assert all("old.txt" in outcome for outcome in outcomes), "a rename is whole"


def test_a_removed_file_may_come_back(bench: Bench) -> None:
    assert bench.all_left([bench.change("unlink", "old.txt")]) == [{"old.txt": b"old"}, {}]


def test_a_folder_without_a_name_takes_its_files_away(bench: Bench) -> None:
    changes = [
        bench.change("mkdir", "tasks"),
        bench.change("create", "tasks/store"),
        bench.change("sync", "tasks/store"),
        Change("sync_folder", str(bench.root / "tasks")),
    ]
    disk = Disk(bench.root)
    disk.play(changes)
    disk.cut(bench.target, fate="nothing", chance=random.Random(0))
    assert {path.name for path in bench.target.iterdir()} == {"old.txt"}
    disk.play([bench.change("sync_folder")])
    disk.cut(bench.target, fate="nothing", chance=random.Random(0))
    assert (bench.target / "tasks" / "store").exists()
