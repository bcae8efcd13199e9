"""Figures that a task's own code logs: committed with the answers that they follow from, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import TaskCodeError
from gpt_batch_api.domain.events import Event, FiguresLogged
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample, TaskOutputFile
from tests.toy import ToyTask, query, settings_for


def stored(folder: Path) -> list[dict[str, float]]:
    """What stands in the store's timeline."""
    rows = query(folder, "SELECT data FROM event WHERE kind = 'FiguresLogged' ORDER BY id")
    return [json.loads(row[0])["figures"] for row in rows]


class Counting(ToyTask):
    """Logs how many answers it has seen, and something before and after all of them."""

    seen = 0

    def on_enter(self) -> None:
        self.log_figures(entered=1)

    def process_result(self, result: Result, sample: Sample) -> None:
        self.seen += 1
        self.log_figures(seen=self.seen, share=self.seen / self.count)

    def postprocess_output(self, output: TaskOutputFile) -> None:
        self.log_figures(written=1)


def test_the_latest_of_each_name_is_told_with_the_answers_and_at_the_end(server: SandboxProcess, tasks: Path) -> None:
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)

    task = Counting(settings_for(server, tasks, postprocess_output="always"), listeners=[listen])
    assert task.run()
    assert stored(tasks) == [{"entered": 1, "seen": 8, "share": 1.0}, {"written": 1}]
    assert [event.figures for event in told if isinstance(event, FiguresLogged)] == stored(tasks)


def test_what_a_failed_chunk_logged_is_forgotten(server: SandboxProcess, tasks: Path) -> None:
    """The same object may go on, corrected."""

    class Failing(Counting):
        broken = True

        def process_result(self, result: Result, sample: Sample) -> None:
            super().process_result(result, sample)
            if self.broken and self.seen == 5:
                self.log_figures(mistakes=1)
                raise RuntimeError("a mistake")

    task = Failing(settings_for(server, tasks))
    with pytest.raises(TaskCodeError, match="a mistake"):
        task.run()
    assert stored(tasks) == []
    task.broken, task.seen = False, 0
    assert task.run()
    assert stored(tasks)[0] == {"entered": 1, "seen": 8, "share": 1.0}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [("many", "must be a number, not 'many'"), (float("nan"), "must be finite, not nan")],
)
def test_what_is_no_number_is_an_error_that_names_the_figure(
    server: SandboxProcess, tasks: Path, value: Any, complaint: str
) -> None:
    class Wrong(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            self.log_figures(share=value)

    with pytest.raises(TaskCodeError, match=f"the figure share {complaint}"):
        Wrong(settings_for(server, tasks)).run()
