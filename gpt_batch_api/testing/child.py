"""What a process of the self-check does: run the task, maybe to be killed, or replay its answers.

    {"do": "run", "task": "module:Class", "flags": ["--task_dir", …], "samples": 12, "kill_at": 7, …}

The kill is a real one (SIGKILL), at the n-th *moment*: a request yielded, an answer looked at but not recorded yet, an
event told. So a seed kills at the same places whatever the speed of the machine.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import traceback
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from gpt_batch_api.cli.options import add_settings, make_parser, settings_from_args
from gpt_batch_api.domain.clock import HurriedClock
from gpt_batch_api.domain.ending import Ending
from gpt_batch_api.domain.errors import GPTBatchError
from gpt_batch_api.domain.events import Event
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.endpoints.base import get_endpoint
from gpt_batch_api.store import responses, tasks
from gpt_batch_api.store.connection import connect_readonly
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager
from gpt_batch_api.testing.replay import Journal, replay

LOOKED_AT = 1000
"""Requests of the generator that are looked at for those of the first samples."""


class Moments:
    """Counts the moments of a run and ends the process at one of them, as a power cut would."""

    def __init__(self, kill_at: int | None) -> None:
        self._kill_at = kill_at
        self._count = 0

    def pass_one(self) -> None:
        """One more."""
        self._count += 1
        if self._count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def do_job(job: dict[str, Any], result: Path) -> None:
    """Do the job; what came of it is in the file *result*, unless the process was killed."""
    do = {"run": run_job, "replay": replay_job}[job["do"]]
    try:
        document = do(job)
    except GPTBatchError as error:
        document = {"error": str(error)}
    except Exception as error:  # of the task's own code: what it was goes into the log
        traceback.print_exc()
        document = {"error": f"{type(error).__name__}: {error}"}
    result.write_text(json.dumps(document), encoding="utf-8")


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run the task from where it stands, by a hurried clock."""
    from gpt_batch_api.engine.session import Seams

    moments = Moments(job["kill_at"])

    def listen(event: Event) -> None:
        moments.pass_one()

    task = _watched(_find(job["task"]), samples=job["samples"], moments=moments)
    seams = Seams(clock=HurriedClock(**job["clock"]))
    over = task(_settings(job), listeners=(listen,), seams=seams).run_to_end().over
    return {} if over.ending is Ending.DONE else {"error": " ".join(over.reasons) or str(over.ending)}


def replay_job(job: dict[str, Any]) -> dict[str, Any]:
    """Show the task its stored answers; the journal is handed on."""
    settings = _settings(job)
    task = _watched(_find(job["task"]), samples=job["samples"], moments=Moments(None))(settings)
    with closing(connect_readonly(task.workplace.store)) as db:
        answers = responses.seen(db, max_retries=settings.requester.max_retries)
        metadata = tasks.get_task(db).metadata
    journal = Journal.from_json(job["journal"]) if job["journal"] else Journal()
    chance = None if job["shuffle"] is None else random.Random(job["shuffle"])
    hooks = task._make_hooks(metadata)
    try:
        endpoint = get_endpoint(settings.general.endpoint)
        replay(hooks, answers, journal, endpoint=endpoint, chance=chance, share=job["share"])
    finally:
        task.on_exit()
    return {"journal": journal.as_json()}


def _find(name: str) -> type[TaskManager]:
    module, _, qualname = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    task: type[TaskManager] = found
    return task


def _settings(job: dict[str, Any]) -> Settings:
    parser = make_parser()
    add_settings(parser)
    return settings_from_args(parser.parse_args(job["flags"]))


def _watched(task: type[TaskManager], *, samples: int, moments: Moments) -> type[TaskManager]:
    """*task* with its first samples only, which lets *moments* know of all that it does."""

    class Watched(task):  # type: ignore[misc, valid-type]
        def generate_requests(self) -> Iterable[GPTRequest]:
            wanted: set[str] = set()
            for request in islice(super().generate_requests(), LOOKED_AT):
                if len(wanted) < samples:
                    wanted.add(request.sample_key)
                if request.sample_key in wanted:
                    moments.pass_one()
                    yield request

        def process_result(self, result: Result, sample: Sample) -> None:
            super().process_result(result, sample)
            moments.pass_one()

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Watched, name, getattr(task, name))
    return Watched
