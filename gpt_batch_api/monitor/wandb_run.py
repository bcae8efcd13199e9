"""Log to Weights & Biases: what calls wandb, in a process of its own or in the script that has a run already.

Online where a key is configured and the server answers, else offline, with one line how to sync. All timeouts are short:
what wandb's own process cannot send in time stays on disk, where `wandb sync` finds it.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import shlex
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpt_batch_api.monitor.tracker import Declined, Figures, Table, TrackedRun
from gpt_batch_api.monitor.wandb_host import REACH_TIMEOUT_S, Reach, expected_host, setting, told_offline, wandb_folder

INIT_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 4.0
TURN_TIMEOUT_S = 30.0
AGAIN_S = 1.0
"""A host that has answered is asked again after so many seconds, while a run that is over waits."""
BEHIND = 5
"""So much nicer than the run is the thread that calls wandb, where threads have a niceness of their own."""
X_AXIS = "task/age_s"


@dataclass(frozen=True)
class Lost:
    """Why nobody should wait for wandb."""

    level: int
    text: str


class WandbTracker:
    """A run of our own."""

    name = "wandb"

    def __init__(self, *, asked_for: bool, patience_s: float) -> None:
        """The host is asked at once, while wandb is not even imported: that takes longer than the answer."""
        self._asked_for = asked_for
        self._patience_s = patience_s
        self._run: Any = None
        self._turn: FileLock | None = None
        self._left = threading.Event()
        """The run has been told that nobody should wait."""
        self._deciding = threading.Lock()
        self._online: bool | None = None
        address = expected_host()
        self._reach = Reach(address) if address else None

    def start(self, run: TrackedRun) -> str:
        with contextlib.suppress(OSError):
            os.nice(BEHIND)
        self._take_turn(run)
        self._let_the_run_go_first()
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))
        offline_because = self._offline_because(wandb)
        if offline_because is None and not told_offline():
            try:
                self._run = self._init(wandb, run, mode=None)
            except Exception as error:
                offline_because = f"its server did not take the run ({str(error).partition(chr(10))[0]})"
                wandb.teardown()  # or its process says that the run's id is in use
                wandb.setup(settings=wandb.Settings(silent=True))
        if self._run is None:
            self._run = self._init(wandb, run, mode="offline")
        define(self._run)
        if self._run.offline:
            return _offline(offline_because, shlex.quote(str(self._run.settings.sync_dir)))
        return f"wandb logs to {self._run.url}"

    def log(self, figures: Figures, *, step: int) -> None:
        self._run.log(row(figures), step=step, commit=True)

    def finish(self) -> None:
        self._run.finish()

    def lost(self, run: TrackedRun) -> Lost | None:
        """What to tell a run that is over and waits for this, if the host does not answer; to be called in another thread.

        A run that has not begun online by then is kept offline, so that what is told remains true.
        """
        with self._deciding:
            if self._reach is None or self._reach.answers(within_s=self._patience_s):
                if self._reach is not None and self._online and self._reach.age_s > AGAIN_S:
                    self._reach = Reach(self._reach.address)
                return None
            self._reach.give_up()
            self._left.set()
            why = f"{self._reach.address} does not answer"
            if self._online:
                text = f"wandb: {why}. To send what it has not got yet: wandb sync {_pattern('*run', run)}"
                return Lost(logging.WARNING, text)
            self._online = False
            return Lost(logging.INFO, _offline(why, _pattern("offline-run", run)))

    def _offline_because(self, wandb: Any) -> str | None:
        """Why the run cannot be logged online, if so. Raises Declined if nobody asked for it and there is no key."""
        if told_offline():
            return None
        with self._deciding:
            if self._online is None and not wandb.login(prompt=False, verify=False):
                self._reach = None
                if not self._asked_for:
                    raise Declined
                return "there is no key (wandb login)"
            address = wandb.setup().settings.base_url
            if self._reach is None or (self._online is None and self._reach.address != address):
                self._reach = Reach(address)
            reach = self._reach
        answered = reach.answers(within_s=REACH_TIMEOUT_S)
        with self._deciding:
            if self._online is None:
                self._online = answered
            return None if self._online else f"{reach.address} does not answer"

    def _let_the_run_go_first(self) -> None:
        """Import nothing for some seconds if the host does not answer: a short run may need the processor until its end."""
        reach = self._reach
        if reach is not None and not reach.answers(within_s=REACH_TIMEOUT_S):
            self._left.wait(max(0.0, REACH_TIMEOUT_S - reach.age_s))

    def _take_turn(self, run: TrackedRun) -> None:
        """Let the session before come to its end: its process may still be finishing the same run of wandb.

        Steps only go up, and two that send lines of one history at a time overwrite each other's.
        """
        name = hashlib.sha256(run.id.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir(), f"gpt_batch_api-{os.getuid()}-{name}.lock")
        self._turn = FileLock(path)
        with contextlib.suppress(Timeout, OSError):
            self._turn.acquire(timeout=TURN_TIMEOUT_S)
            atexit.register(path.unlink, missing_ok=True)  # after wandb's own end; the lock goes with the process

    def _init(self, wandb: Any, run: TrackedRun, *, mode: str | None) -> Any:
        if run.folder is not None:
            run.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=run.project,
            entity=run.entity,
            id=run.id,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            dir=run.folder,
            mode=mode,
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                reinit="create_new",
                init_timeout=INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
                disable_git=True,
                disable_code=True,
                save_code=False,
                disable_job_creation=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )


class ScriptsRun:
    """The run that the user's own script has begun: names have the task's prefix there, and it is not ours to finish."""

    name = "wandb"

    def __init__(self, theirs: Any) -> None:
        self._run = theirs
        self._prefix = ""

    def start(self, run: TrackedRun) -> str:
        self._prefix = f"{run.task_prefix}/"
        self._run.config.update({run.task_prefix: dict(run.config)}, allow_val_change=True)
        define(self._run, prefix=self._prefix)
        return f"wandb logs to the run of this script, under {self._prefix}"

    def log(self, figures: Figures, *, step: int) -> None:
        self._run.log(row(figures, prefix=self._prefix))  # the steps are the script's

    def finish(self) -> None:
        pass


def row(figures: Figures, *, prefix: str = "") -> dict[str, Any]:
    """Figures as wandb takes them."""
    import wandb

    return {
        prefix + name: wandb.Table(columns=list(value.columns), data=[list(each) for each in value.rows])
        if isinstance(value, Table)
        else value
        for name, value in figures.items()
    }


def define(run: Any, *, prefix: str = "") -> None:
    """Charts of batches run over their numbers, all others over time."""
    from gpt_batch_api.monitor.figures import FIGURES

    run.define_metric(f"{prefix}batch/*", step_metric=f"{prefix}batch/number")
    for family in sorted({figure.name.partition("/")[0] for figure in FIGURES} | {"own"}):
        run.define_metric(f"{prefix}{family}/*", step_metric=prefix + X_AXIS)


def _offline(why: str | None, path: str) -> str:
    return f"wandb logs offline{f' because {why}' if why else ''}. To see it: wandb sync {path}"


def _pattern(mode: str, run: TrackedRun) -> str:
    """Where a run is or will be: wandb puts the time into the folder's name, and a number at its end if need be."""
    parent = run.folder or Path(setting("root_dir") or "")
    return f"{shlex.quote(str(wandb_folder(parent.absolute())))}/{mode}-*-{shlex.quote(run.id)}*"
