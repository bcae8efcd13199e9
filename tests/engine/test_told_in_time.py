"""What the server said and what the calendar says is told while something can still be done about it."""

from __future__ import annotations

import datetime
import json
import random
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.cli.main import main
from gpt_batch_api.domain.clock import SystemClock
from gpt_batch_api.engine.session import Seams
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import ToyTask, settings_for


class Years(SystemClock):
    """Our clock on some other day."""

    def __init__(self, day: datetime.date) -> None:
        moment = datetime.datetime(day.year, day.month, day.day, 12, tzinfo=datetime.UTC)
        self._ahead_s = moment.timestamp() - super().now()

    def now(self) -> float:
        return super().now() + self._ahead_s


def run_on(server: SandboxProcess, tasks: Path, day: str, **values: Any) -> None:
    seams = Seams(clock=Years(datetime.date.fromisoformat(day)), chance=random.Random(day))
    ToyTask(settings_for(server, tasks, **values), seams=seams).run()


TOLD = "gpt-4o-mini is shut down on 2027-01-14: what is left may not be done by then."


@pytest.mark.parametrize(("day", "told"), [("2027-01-06", 0), ("2027-01-07", 1), ("2027-02-01", 1)])
@pytest.mark.parametrize("force_direct", [False, True], ids=["batches", "direct calls"])
def test_a_model_that_is_about_to_end_is_told_of_once(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture, day: str, told: int, force_direct: bool
) -> None:
    run_on(server, tasks, day, force_direct=force_direct, max_batch_requests=3)
    assert log.text.count(TOLD) == told


def test_more_work_is_told_of_earlier(server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture) -> None:
    """Prepared and queued work that takes the server 15 days at worst, eight days before the end."""
    run_on(server, tasks, "2027-01-06", max_session_requests=0, max_batch_requests=8)
    assert TOLD not in log.text

    class More(ToyTask):
        count = 30

    seams = Seams(clock=Years(datetime.date(2027, 1, 6)))
    More(settings_for(server, tasks, max_batch_requests=2, max_remote_batches=1, task_prefix="more"), seams=seams).run()
    assert log.text.count(TOLD) == 0  # two batches' worth is known when the first one is made
    place = settings_for(server, tasks, task_prefix="most", max_unpushed_batches=50)
    More(place, seams=seams, max_batch_requests=2, max_session_requests=0).run()
    log.clear()
    More(place, seams=seams, max_batch_requests=3, max_remote_batches=1).run()
    assert log.text.count(TOLD) == 1


def test_a_limit_that_the_server_named_is_shown_in_its_terms(
    weather: Any, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompt tokens by model, with those of ours that are enqueued."""
    with weather("enqueued_token_limit: {gpt-4o-mini: 250}") as server:
        ToyTask(settings_for(server, tasks, max_batch_requests=4)).run()
    assert main(["status", "--task_dir", str(tasks)]) == 0
    said = capsys.readouterr().out
    assert "learnt: the server admits 250 enqueued prompt tokens of gpt-4o-mini (0 now; it said so on 20" in said
    assert main(["status", "--task_dir", str(tasks), "--task_prefix", "toy", "--json"]) == 0
    learnt = json.loads(capsys.readouterr().out)["learnt_limits"]["gpt-4o-mini"]
    assert (learnt["enqueued_tokens"], learnt["enqueued_now"]) == (250, 0)
