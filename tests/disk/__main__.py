"""Every power cut and every refusal of the disk: `python -m tests.disk --all`; without it every tenth of them.

Prints a line for each experiment, and each trial that failed with all that is needed to repeat it. With `--json FILE`
the figures are written there, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.disk.experiments import (
    EXPERIMENTS,
    Experiment,
    calm_run,
    cut_points,
    cut_power,
    failing_syncs,
    faults,
    refuse,
)
from tests.disk.survival import FATES
from tests.disk.watch import Change, Fault
from tests.toy import sandbox

Trial = tuple[str, Callable[[Path, SandboxProcess], object]]


def main() -> int:
    """Run the experiments; the exit code says whether all went well."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="every trial, not every tenth")
    parser.add_argument("--only", metavar="WORDS", default="", help="only trials whose name has these words")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    figures: list[dict[str, Any]] = []
    for name, experiment in EXPERIMENTS.items():
        for title, trials in (
            ("power cut", _cuts),
            ("cut twice", _double_cuts),
            ("refused", _refusals),
            ("sync failed, then cut", _failed_syncs),
        ):
            with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder) / "server") as server:
                changes = calm_run(experiment, Path(folder) / "calm", server).changes
                chosen = list(trials(name, experiment, changes))[:: 1 if arguments.all else 10]
                chosen = [trial for trial in chosen if arguments.only in trial[0]]
                begun = time.monotonic()
                failures = [why for trial in chosen if (why := _failure(trial, Path(folder), server))]
                seconds = time.monotonic() - begun
                print(
                    f"{title}, {name}: {len(chosen)} trials, {len(failures)} failed "
                    f"({len(changes)} changes of files, {seconds:.0f} s)",
                    flush=True,
                )
                figures.append(
                    {"name": f"{title}, {name}", "trials": len(chosen), "seconds": seconds, "failures": failures}
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 1 if any(part["failures"] for part in figures) else 0


def _failure(trial: Trial, folder: Path, server: SandboxProcess) -> str | None:
    """What went wrong with a trial, if anything did."""
    name, attempt = trial
    place = folder / "trial"
    try:
        attempt(place, server)
    except AssertionError as error:
        print(f"FAILED {name}: {error}", file=sys.stderr, flush=True)
        return f"{name}: {error}"
    finally:
        for left in folder.glob("trial*"):
            with contextlib.suppress(OSError):
                _remove(left)
    return None


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _cuts(name: str, experiment: Experiment, changes: list[Change]) -> Iterator[Trial]:
    for at in cut_points(changes):
        for seed, fate in enumerate(FATES):
            yield _cut(name, experiment, at=at, fate=fate, seed=seed, again_at=None)


def _double_cuts(name: str, experiment: Experiment, changes: list[Change]) -> Iterator[Trial]:
    points = cut_points(changes)
    for number, at in enumerate(points):
        again_at = points[(number * 7) % len(points)]
        yield _cut(name, experiment, at=at, fate=FATES[number % len(FATES)], seed=number, again_at=again_at)


def _cut(name: str, experiment: Experiment, *, at: int, fate: str, seed: int, again_at: int | None) -> Trial:
    def attempt(place: Path, server: SandboxProcess) -> object:
        return cut_power(experiment, place, server, at=at, fate=fate, seed=seed, again_at=again_at)

    return (
        f"{name}: power cut before change {at}, {fate} of what was not synced, seed {seed}, again {again_at}",
        attempt,
    )


def _refusals(name: str, experiment: Experiment, changes: list[Change]) -> Iterator[Trial]:
    for fault in faults(changes):

        def attempt(place: Path, server: SandboxProcess, fault: Fault = fault) -> object:
            return refuse(experiment, place, server, fault=fault)

        yield f"{name}: {fault}", attempt


def _failed_syncs(name: str, experiment: Experiment, changes: list[Change]) -> Iterator[Trial]:
    for fault in failing_syncs(changes):
        for then_cut in (("nothing", 0), ("some", 1), ("some", 2)):

            def attempt(
                place: Path, server: SandboxProcess, fault: Fault = fault, then_cut: tuple[str, int] = then_cut
            ) -> object:
                return refuse(experiment, place, server, fault=fault, then_cut=then_cut)

            yield f"{name}: {fault}, then power cut, {then_cut}", attempt


if __name__ == "__main__":
    raise SystemExit(main())
