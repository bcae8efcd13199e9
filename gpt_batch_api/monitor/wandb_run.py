"""Log to Weights & Biases.

Online where a key is configured and the server answers, else offline, with one line how to sync. A run that the user's
own script has begun is used, with the task's prefix before each name, and left to the script to finish. All timeouts are
short: what wandb's own process cannot send in time stays on disk, where `wandb sync` finds it.
"""

from __future__ import annotations

import os
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from gpt_batch_api.monitor.figures import FIGURES
from gpt_batch_api.monitor.tracker import Declined, Figures, Table, TrackedRun, installed

INIT_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 4.0
REACH_TIMEOUT_S = 5.0
HURRIED_REACH_S = 1.0
X_AXIS = "task/age_s"


def may_be_logged_in() -> bool:
    """Whether it is worth asking wandb: it is installed, and there is somewhere that a key could be."""
    if not installed("wandb"):
        return False
    netrc = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path("~/.netrc"), Path("~/_netrc")]
    return any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")) or any(
        path.expanduser().exists() for path in netrc
    )


class WandbTracker:
    """A run of wandb, our own or the script's."""

    name = "wandb"

    def __init__(self, *, asked_for: bool) -> None:
        self._asked_for = asked_for
        self._run: Any = None
        self._prefix = ""
        self._ours = True

    def start(self, run: TrackedRun, *, closing: threading.Event) -> str:
        if os.environ.get("WANDB_MODE") == "disabled":
            raise Declined
        if not installed("wandb"):
            raise ModuleNotFoundError('it is not installed: pip install "gpt-batch-api[wandb]"')
        import wandb

        if wandb.run is not None:
            return self._use(wandb.run, run)
        wandb.setup(settings=wandb.Settings(silent=True))
        offline_because = self._offline_because(wandb, closing)
        if offline_because is None and os.environ.get("WANDB_MODE") != "offline":
            try:
                self._run = self._init(wandb, run, mode=None)
            except Exception as error:
                offline_because = f"its server did not take the run ({str(error).partition(chr(10))[0]})"
                wandb.teardown()  # or its process says that the run's id is in use
                wandb.setup(settings=wandb.Settings(silent=True))
        if self._run is None:
            self._run = self._init(wandb, run, mode="offline")
        self._define(self._run)
        if self._run.offline:
            why = f" because {offline_because}" if offline_because else ""
            return f"wandb logs offline{why}. To see it: wandb sync {Path(self._run.settings.sync_dir)}"
        return f"wandb logs to {self._run.url}"

    def log(self, figures: Figures, *, step: int) -> None:
        import wandb

        row = {
            self._prefix + name: wandb.Table(columns=list(value.columns), data=[list(each) for each in value.rows])
            if isinstance(value, Table)
            else value
            for name, value in figures.items()
        }
        if self._ours:
            self._run.log(row, step=step, commit=True)
        else:
            self._run.log(row)  # the steps are the script's

    def finish(self) -> None:
        if self._ours:
            self._run.finish()

    def _use(self, theirs: Any, run: TrackedRun) -> str:
        self._run, self._ours, self._prefix = theirs, False, f"{run.task_prefix}/"
        theirs.config.update({run.task_prefix: dict(run.config)}, allow_val_change=True)
        self._define(theirs)
        return f"wandb logs to the run of this script, under {self._prefix}"

    def _offline_because(self, wandb: Any, closing: threading.Event) -> str | None:
        """Why the run cannot be logged online, if so. Raises Declined if nobody asked for it and there is no key."""
        if os.environ.get("WANDB_MODE") == "offline":
            return None
        if not wandb.login(prompt=False, verify=False):
            if not self._asked_for:
                raise Declined
            return "there is no key (wandb login)"
        address = wandb.setup().settings.base_url
        return None if answers(address, closing) else f"{address} does not answer"

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
                reinit="create_new",  # wandb.run stays the script's own
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

    def _define(self, run: Any) -> None:
        """Charts of batches run over their numbers, all others over time."""
        run.define_metric(f"{self._prefix}batch/*", step_metric=f"{self._prefix}batch/number")
        for family in sorted({figure.name.partition("/")[0] for figure in FIGURES} | {"own"}):
            run.define_metric(f"{self._prefix}{family}/*", step_metric=self._prefix + X_AXIS)


def answers(address: str, closing: threading.Event) -> bool:
    """Whether a server is there at all. A run that is *closing* waits only a moment to know."""
    found = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(address, timeout=REACH_TIMEOUT_S):
                found.set()
        except urllib.error.HTTPError:
            found.set()
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):  # it may trust other certificates than wandb does
                found.set()
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, name="tracker-reach", daemon=True)
    asking.start()
    asking.join(HURRIED_REACH_S)
    while asking.is_alive() and not closing.is_set():
        asking.join(0.05)
    return found.is_set()
