"""A folder and a sandbox of its own, where a task is run, killed, wiped and replayed by processes of their own."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt_batch_api.cli.options import to_args
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store import snapshot, tasks, whole
from gpt_batch_api.store.connection import connect_readonly
from gpt_batch_api.testing.processes import Nursery, Worlds
from gpt_batch_api.testing.replay import Journal, stored_story
from gpt_batch_api.testing.story import Story

TIME_SCALE = 40.0
"""Simulated seconds in a real one, for the sandbox and the task alike."""
QUICK: dict[str, Any] = {
    "min_batch_requests": 3,
    "max_batch_requests": 5,
    "remote_update_interval": 2.0,
    "list_lag_wait": 30.0,
    "process_failed_batches": -1,
    "max_pass_failures": 1000,
    "wandb": False,
}
"""Several batches, a few direct calls, no long waits, and no stop because of bad weather."""


class WentWrong(Exception):
    """A process of the task did not end well; the text says why."""


@dataclass(frozen=True)
class Subject:
    """The task that is checked, as another process finds it."""

    name: str
    """`module:Class`."""
    prefix: str
    settings: Mapping[str, Any]
    samples: int


@dataclass
class Place:
    """See the module."""

    subject: Subject
    worlds: Worlds
    folder: Path
    sandbox: SandboxProcess
    began_at: float
    kills: int = 0
    _jobs: int = field(default=0, repr=False)

    @property
    def workplace(self) -> Workplace:
        """Where the task's files lie."""
        return Workplace(self.folder / "tasks", self.subject.prefix)

    def run(self, *flags: str, kill_at: int | None = None) -> None:
        """Run the task from where it stands, maybe to be killed. Raises WentWrong."""
        clock = {"began_at": self.began_at, "scale": TIME_SCALE}
        self._do({"do": "run", "kill_at": kill_at, "clock": clock}, self.worlds.east, *flags)

    def replay(self, journal: Journal | None, *, share: float, shuffle: int | None) -> Journal:
        """Show the task its stored answers up to *share* of them, in a process of another world. Raises WentWrong."""
        told = journal.as_json() if journal else None
        said = self._do({"do": "replay", "journal": told, "shuffle": shuffle, "share": share}, self.worlds.west)
        return Journal.from_json(said["journal"])

    def story(self) -> Story:
        """What the store says came of the task."""
        with closing(connect_readonly(self.workplace.store)) as db:
            return stored_story(db)

    def leftovers(self) -> list[str]:
        """What of the task is under way or on the server: nothing, after a wipe and at the end."""
        with closing(connect_readonly(self.workplace.store)) as db:
            now = snapshot.take(db)
            open_requests = now.under_way - now.count(RequestState.ANSWERED)  # an answer that is paid for is kept
            work_files = self.workplace.work_files(task_uuid=tasks.get_task(db).uuid)
            found = [f"{open_requests} requests under way"] if open_requests else []
            found += [f"the file {path.name}" for path, _ in work_files]
        with urllib.request.urlopen(self.sandbox.url.removesuffix("/v1") + "/sandbox/state") as reply:
            there = json.load(reply)
        found += [f"{count} files on the server" for count in there["files"].values() if count]
        under_way = ("validating", "in_progress", "finalizing", "cancelling")
        return found + [f"a batch {status} on the server" for status in under_way if there["batches"].get(status)]

    def samples(self) -> int:
        """How many samples the store knows."""
        with closing(connect_readonly(self.workplace.store)) as db:
            return sum(1 for _ in whole.samples(db))

    def _do(self, job: Mapping[str, Any], nursery: Nursery, *flags: str) -> dict[str, Any]:
        """Let a process do *job*; what it says, which is nothing if it was killed."""
        self._jobs += 1
        result, log = self.folder / f"result-{self._jobs}.json", self.folder / f"log-{self._jobs}.txt"
        code = nursery.do(
            {
                **job,
                "task": self.subject.name,
                "flags": [*self._flags(), *flags],
                "samples": self.subject.samples,
                "result": str(result),
                "log": str(log),
            }
        )
        if code == -signal.SIGKILL:
            self.kills += 1
            return {}
        if code != 0:
            said = log.read_text(encoding="utf-8", errors="replace").strip()
            raise WentWrong(f"its process ended with {code}: {said[-2000:]}")
        document: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if "error" in document:
            raise WentWrong(document["error"])
        return document

    def _flags(self) -> list[str]:
        here = {"client_base_url": self.sandbox.url, "task_dir": self.folder / "tasks"}
        return to_args(Settings.from_values({**QUICK, **self.subject.settings, **here}, environ={}))


@contextmanager
def place(subject: Subject, worlds: Worlds, folder: Path, *, weather: str, seed: int) -> Iterator[Place]:
    """A new place in *folder* where the weather is as the packaged plan of that name says."""
    folder.mkdir(parents=True)
    began_at = time.time()
    database = folder / "sandbox.db"
    with SandboxProcess.start(database, plan=weather, seed=seed, time_scale=TIME_SCALE) as sandbox:
        yield Place(subject, worlds, folder, sandbox, began_at)
