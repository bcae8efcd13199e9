"""The self-check of a task: what is tried, in which order, and what is said about a promise that does not hold.

First one undisturbed run, whose answers are replayed in another process, in pieces, and in another order: that finds
what is not deterministic, whatever the kills would have met. Then each weather: kills, restarts, a wipe, a kill again.
What the task made of its answers under all that must be what it makes of the same answers in one go.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.words import count
from gpt_batch_api.task_manager import TaskManager
from gpt_batch_api.testing.place import Place, Subject, WentWrong, place
from gpt_batch_api.testing.processes import Worlds, worlds
from gpt_batch_api.testing.story import Story, first_difference

WIPES = {"calm": "wipe_task", "rough": "wipe_requests", "storm": "wipe_failed"}
"""Which wipe is tried in which weather."""
KILL_WITHIN = (12, 60)
"""The first kill comes within so many moments, the next within so many: a task of a few samples has no more."""
PIECES = 3
"""How often a replay with restarts begins anew."""
SAMPLES = 12


class TaskCheckFailed(AssertionError):
    """A promise that a task has to keep does not hold."""


@dataclass(frozen=True)
class TaskReport:
    """What was tried, and that all of it went well."""

    task: str
    samples: int
    rows: int
    kills: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.task} is deterministic, restartable and wipe-clean: {count(self.samples, 'sample')}, "
            f"{count(self.rows, 'row')}, {count(self.kills, 'kill')}, {self.seconds:.0f} s"
        )


def check_task(task: type[TaskManager], *, seed: int = 0, samples: int = SAMPLES, **settings: Any) -> TaskReport:
    """Check that *task* is deterministic, restartable and wipe-clean. Raises TaskCheckFailed if it is not.

    Its first *samples* samples are asked of the sandbox; *seed* decides the answers, the weather and the kills.
    *settings* are keywords as for the task itself. The class must be one that another process can import.
    """
    began_s = time.monotonic()
    with checking(task, settings, seed=seed, samples=samples) as check:
        check.is_deterministic()
        with ThreadPoolExecutor(max_workers=len(WIPES)) as threads:
            kills = sum(threads.map(check.survives, WIPES))
    return TaskReport(task.__name__, check.samples, check.rows, kills, time.monotonic() - began_s)


class TaskChecks:
    """The same as four tests of pytest: `class TestMyTask(TaskChecks): task = MyTask`."""

    task: ClassVar[type[TaskManager]]
    settings: ClassVar[Mapping[str, Any]] = {}
    seed: ClassVar[int] = 0
    samples: ClassVar[int] = SAMPLES

    def test_it_is_deterministic(self) -> None:
        """The same requests in every process; the same rows for the same answers, in whichever order they come."""
        with self._check() as check:
            check.is_deterministic()

    def test_it_survives_kills_and_wiping_the_task_in_calm_weather(self) -> None:
        """Nothing goes wrong but the power."""
        with self._check() as check:
            check.survives("calm")

    def test_it_survives_kills_and_wiping_requests_in_rough_weather(self) -> None:
        """Trying again helps."""
        with self._check() as check:
            check.survives("rough")

    def test_it_survives_kills_and_wiping_failures_in_a_storm(self) -> None:
        """Some requests fail for good."""
        with self._check() as check:
            check.survives("storm")

    def _check(self) -> AbstractContextManager[Check]:
        return checking(self.task, self.settings, seed=self.seed, samples=self.samples)


class Check:
    """One task being checked; `samples` and `rows` tell how much came of the undisturbed run."""

    def __init__(
        self, task: type[TaskManager], settings: Mapping[str, Any], worlds: Worlds, *, seed: int, samples: int
    ) -> None:
        self._name = task.__name__
        self._worlds = worlds
        self._seed = seed
        self._subject = Subject(importable_name(task), _made(task, settings).workplace.prefix, settings, samples)
        self.samples = self.rows = 0

    def is_deterministic(self) -> None:
        """One undisturbed run, and its answers replayed."""
        with self._place("calm") as here:
            self._finish(here, "does not run in calm weather")
            story = here.story()
            self.samples, self.rows = len(story), sum(len(told.rows) for told in story.values())
            self._insist_on_success(story)
            again = self._replay(here)
            self._compare(story, again, "is not deterministic", ("one run", "another process"), states=True)
            pieces = self._replay(here, in_pieces=True)
            promise = "remembers something outside of sample.state, which a restart forgets"
            self._compare(again, pieces, promise, ("in one go", "with restarts"), states=True)
            shuffled = self._replay(here, shuffle=self._seed)
            promise = "depends on the order of the answers, which is not the same in every run"
            self._compare(again, shuffled, promise, ("one order", "another order"))

    def survives(self, weather: str) -> int:
        """Kills, restarts and the wipe of *weather*; how often it was killed."""
        chance = random.Random(f"{self._seed} {weather}")
        wipe = WIPES[weather]
        with self._place(weather) as here:
            for moments in KILL_WITHIN:
                self._run(here, f"cannot be restarted in {weather} weather", kill_at=chance.randrange(1, moments))
            if wipe != "wipe_requests":  # that one wants something to be under way
                self._finish_alike(here, f"does not survive kills in {weather} weather", "killed and restarted")
            self._run(here, f"cannot be wiped with --{wipe}", f"--{wipe}", "--no_run")
            self._insist_on_clean(here, wipe)
            promise = f"does not survive --{wipe}"
            self._run(here, promise, kill_at=chance.randrange(1, KILL_WITHIN[-1]))
            self._finish_alike(here, promise, "wiped, killed and restarted")
            return here.kills

    # ------------------------------------------------------------ below

    @contextmanager
    def _place(self, weather: str) -> Iterator[Place]:
        """A place whose files stay if something goes wrong there."""
        folder = Path(tempfile.mkdtemp(prefix="gpt_batch_api_check_"))
        try:
            with place(self._subject, self._worlds, folder / weather, weather=weather, seed=self._seed) as here:
                yield here
        except TaskCheckFailed as failed:
            call = f"check_task({self._name}, seed={self._seed}, samples={self._subject.samples})"
            raise TaskCheckFailed(f"{failed}\n  repeat with: {call}; files and logs: {folder}") from None
        shutil.rmtree(folder)

    def _run(self, here: Place, promise: str, *flags: str, kill_at: int | None = None) -> None:
        try:
            here.run(*flags, kill_at=kill_at)
        except WentWrong as error:
            raise TaskCheckFailed(f"{self._name} {promise}: {error}") from None

    def _finish(self, here: Place, promise: str) -> None:
        """Run to the end, which leaves nothing lying about."""
        self._run(here, promise)
        if left := here.leftovers():
            raise TaskCheckFailed(f"{self._name} {promise}: at its end there is still {', '.join(left)}.")

    def _finish_alike(self, here: Place, promise: str, how: str) -> None:
        """Run to the end; then everything must be as if the same answers had come undisturbed."""
        self._finish(here, promise)
        self._compare(here.story(), self._replay(here), promise, (how, "undisturbed"))

    def _insist_on_success(self, story: Story) -> None:
        ends = [end for told in story.values() for end in told.ends.values()]
        if not ends:
            raise TaskCheckFailed(f"{self._name} asks nothing: generate_requests yields no request.")
        if "succeeded" not in ends:
            raise TaskCheckFailed(
                f"{self._name} accepts none of the sandbox's answers in calm weather: all {count(len(ends), 'request')} "
                "failed, so there is nothing to compare. The answers are made up, but fit the schema; the first string "
                "echoes what the prompt has in double quotes."
            )

    def _insist_on_clean(self, here: Place, wipe: str) -> None:
        left = here.leftovers()
        if wipe == "wipe_task":
            left += [count(known, "sample") for known in [here.samples()] if known]
        if left:
            raise TaskCheckFailed(f"{self._name} is not clean after --{wipe}: there is still {', '.join(left)}.")

    def _replay(self, here: Place, *, in_pieces: bool = False, shuffle: int | None = None) -> Story:
        """What the task makes of the answers that it had here."""
        try:
            journal = None
            for part in range(1, PIECES + 1):
                share = part / PIECES if in_pieces else 1.0
                journal = here.replay(journal, share=share, shuffle=shuffle)
                if share == 1.0:
                    break
        except WentWrong as error:
            raise TaskCheckFailed(f"{self._name} cannot look at its answers again: {error}") from None
        assert journal is not None
        return journal.story

    def _compare(self, one: Story, other: Story, promise: str, names: tuple[str, str], *, states: bool = False) -> None:
        found = first_difference(one, other, states=states)
        if found is not None:
            width = max(map(len, names))
            raise TaskCheckFailed(
                f"{self._name} {promise}: for sample {found.sample_key!r} {found.what}.\n"
                f"  {names[0]:{width}}: {found.one}\n  {names[1]:{width}}: {found.other}"
            )


@contextmanager
def checking(task: type[TaskManager], settings: Mapping[str, Any], *, seed: int, samples: int) -> Iterator[Check]:
    """A check of *task*, with the processes that it needs."""
    with tempfile.TemporaryDirectory(prefix="gpt_batch_api_") as folder, worlds(Path(folder)) as both:
        yield Check(task, settings, both, seed=seed, samples=samples)


def _made(task: type[TaskManager], settings: Mapping[str, Any]) -> TaskManager:
    """The task, made as the other processes will make it."""
    try:
        return task(settings)
    except TypeError as error:
        raise UserError(
            f"{task.__name__} cannot be made from settings alone ({error}). "
            "For the check, derive a class from it that gives the other arguments itself."
        ) from error


def importable_name(task: type[TaskManager]) -> str:
    """`module:Class`, by which another process finds *task*. Raises UserError if it could not."""
    module, name = task.__module__, task.__qualname__
    if module == "__main__":
        why = "is defined in the script that is running (__main__)"
    elif "<locals>" in name:
        why = "is defined inside a function"
    elif importlib.util.find_spec(module) is None:
        why = f"is in the module {module!r}, which cannot be imported by that name"
    else:
        return f"{module}:{name}"
    raise UserError(
        f"{task.__name__} {why}, so another process cannot find it. "
        "Define it at the top of a module of its own, and import it from there."
    )
