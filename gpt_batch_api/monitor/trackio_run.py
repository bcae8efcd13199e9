"""Log to Trackio: a local dashboard (`trackio show`) whose calls are those of wandb.

It has no folder, entity or login to choose. What it had not written yet when the process was killed is lost; figures are
cumulative, so the next session makes up for it. A run of the script's own is left alone.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

from gpt_batch_api.monitor.tracker import Figures, Table, TrackedRun, installed


class TrackioTracker:
    """A run of trackio."""

    name = "trackio"

    def __init__(self) -> None:
        """To be made in the run's own thread, before that of the tracker imports anything.

        trackio brings httpx, and the run's own client looks whether that is loaded: it must never see half of it.
        """
        self._run: Any = None
        with suppress(ImportError):
            importlib.import_module("httpx")

    def start(self, run: TrackedRun) -> str:
        if not installed("trackio"):
            raise ModuleNotFoundError('it is not installed: pip install "gpt-batch-api[trackio]"')
        import trackio

        self._run = trackio.init(
            project=run.project,
            name=run.id,
            group=run.group,
            config=dict(run.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return f"trackio logs to project {run.project}, run {run.id}. To see it: trackio show --project {run.project}"

    def log(self, figures: Figures, *, step: int) -> None:
        import trackio

        self._run.log(
            {
                name: trackio.Table(columns=list(value.columns), data=[list(each) for each in value.rows])
                if isinstance(value, Table)
                else value
                for name, value in figures.items()
            },
            step=step,
        )

    def finish(self) -> None:
        self._run.finish()
