"""What is tried with the disk: one trial each, for the tests and for `python -m tests.disk`."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash import jobs
from tests.disk.harness import KILLED, Bill, Job, Ran, check_world, run, survivors
from tests.disk.survival import FATES
from tests.disk.watch import SYNCS, Change, Fault


@dataclass(frozen=True)
class Experiment:
    """A job whose disk is made to fail. It has at most `in_flight` direct calls under way at once."""

    job: Job
    in_flight: int | None = None
    """None: it makes no direct calls."""
    words: int = 8

    @property
    def keys(self) -> set[str]:
        """Of the samples that it has."""
        return {f"word-{index:05}" for index in range(self.words)}

    def lost_at_most(self, ends: int) -> int | None:
        """How many calls may be unknown after so many sudden ends."""
        return None if self.in_flight is None else self.in_flight * ends


EXPERIMENTS = {
    "list": Experiment(jobs.two_batches),
    "document": Experiment(jobs.document, words=4),
    "direct": Experiment(jobs.direct, in_flight=3),
}


def calm_run(experiment: Experiment, place: Path, server: SandboxProcess) -> Ran:
    """An undisturbed run."""
    before = Bill.of(server)
    ran = run(experiment.job, _fresh(place), server.url)
    assert ran.code == 0, ran.said
    check_world(place / "tasks", server, keys=experiment.keys, before=before, in_flight=experiment.lost_at_most(0))
    return ran


def cut_points(changes: list[Change]) -> list[int]:
    """Numbers of the changes (from 1) before which a cut leaves something new.

    In a row of writes to one file these are the first, one in the middle, and the end of the row.
    """
    begins = [1] + [
        number
        for number, (before, change) in enumerate(pairwise(changes), start=2)
        if change.kind != "write" or (before.kind, before.path) != (change.kind, change.path)
    ]
    middles = [(first + last) // 2 for first, last in pairwise([*begins, len(changes) + 1]) if last - first > 2]
    return sorted({*begins, *middles})


def cut_power(
    experiment: Experiment,
    place: Path,
    server: SandboxProcess,
    *,
    at: int,
    fate: str,
    seed: int,
    again_at: int | None = None,
    forgets: str = "",
) -> int:
    """Cut the power before change *at*, then (if wanted) the recovery's before change *again_at*; then let it finish.

    Returns how many cuts there were: a run whose calls end in another order may be over before the cut. What the program
    would lose if it forgot some syncs is tried with *forgets*.
    """
    cuts, before = 0, Bill.of(server)
    root = _fresh(place)
    for number, point in enumerate([at] if again_at is None else [at, again_at]):
        ran = run(experiment.job, root, server.url, cut_at=point, forgets=forgets)
        assert ran.code in (KILLED, 0), f"cut before change {point}: exit code {ran.code}\n{ran.said}"
        cuts += ran.code == KILLED
        rest = place.with_name(f"{place.name}.rest{number}")
        survivors(ran.disk, rest, fate=fate, seed=seed + number)
        root = rest
    ran = run(experiment.job, root, server.url)
    assert ran.code == 0, f"no recovery: {ran.said}"
    check_world(root / "tasks", server, keys=experiment.keys, before=before, in_flight=experiment.lost_at_most(cuts))
    return cuts


def faults(changes: list[Change]) -> Iterator[Fault]:
    """A disk that is full from some point on; a write or sync that fails once; a disk that takes no write any more."""
    for number in cut_points(changes):
        kind = changes[number - 1].kind
        if kind in ("create", "write"):
            yield Fault(number, errno.ENOSPC, stays=True)
        if kind in ("create", "write", *SYNCS):
            yield Fault(number, errno.EIO)
            yield Fault(number, errno.EIO, stays=True)


def refuse(
    experiment: Experiment,
    place: Path,
    server: SandboxProcess,
    *,
    fault: Fault,
    then_cut: tuple[str, int] | None = None,
) -> bool:
    """Let the disk refuse as *fault* says, then let the same command run on a disk that is well again.

    In between the power may be cut (*then_cut*: what is left of what was not synced, and a seed). Returns whether the
    run noticed the fault: what fails while nothing depends on it any more stops nobody.
    """
    root, before = _fresh(place), Bill.of(server)
    ran = run(experiment.job, root, server.url, fault=fault)
    assert ran.code in (0, 1), f"exit code {ran.code}: {ran.said}"
    if ran.code == 1:
        assert len(ran.errors) == 1, f"not one clear line:\n{ran.said}"
        assert "Traceback" not in ran.said, ran.said
        assert str(root / "tasks") in ran.errors[0], f"the line does not say where:\n{ran.errors[0]}"
        assert "the same command" in ran.errors[0], f"the line does not say what to do:\n{ran.errors[0]}"
    if then_cut is not None:
        fate, seed = then_cut
        root = place.with_name(f"{place.name}.rest")
        survivors(ran.disk, root, fate=fate, seed=seed)
    assert run(experiment.job, root, server.url).code == 0
    check_world(root / "tasks", server, keys=experiment.keys, before=before, in_flight=experiment.lost_at_most(1))
    return ran.code == 1


def failing_syncs(changes: list[Change]) -> Iterator[Fault]:
    """Each sync of a file fails once."""
    for number, change in enumerate(changes, start=1):
        if change.kind == "sync":
            yield Fault(number, errno.EIO)


def fate_of(number: int) -> str:
    """A fate for trial *number*: all of them in turn."""
    return FATES[number % len(FATES)]


def _fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place
