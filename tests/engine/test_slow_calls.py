"""A call that takes long, or leaves late because the machine slept: the server's lists are given their time from its end.

What counts is when the call was over, not when it was intended: a batch that was created a moment ago may not be shown yet,
however long ago we wanted it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gpt_batch_api.engine.session import Seams
from gpt_batch_api.wire.transport import Transport
from tests.engine.test_clock_set_back import DAY_S, SHOWN_LATE, WrongClock, finishes
from tests.toy import ToyTask, batches_of, files_of, let_time_pass, query, sandbox, settings_for, tell

pytestmark = pytest.mark.timeout(60)


class SlowWay:
    """A way to the server on which the first calls of a kind wait before they arrive there."""

    def __init__(self, server: Any, path: str, wait_s: float, *, times: int = 1) -> None:
        self.clock = WrongClock(0.0)
        self.calls: Counter[str] = Counter()
        self._server = server
        self._path = path
        self._wait_s = wait_s
        self._times = times

    @property
    def seams(self) -> Seams:
        return Seams(
            clock=self.clock,
            make_transport=lambda server, clock: Transport(
                server, clock=clock, http_client=httpx2.AsyncClient(event_hooks={"request": [self._hold]})
            ),
        )

    async def _hold(self, request: httpx2.Request) -> None:
        call = f"{request.method} {request.url.path}"
        self.calls[call] += 1
        if call == f"POST {self._path}" and self.calls[call] <= self._times:
            self.clock.ahead_s += self._wait_s
            let_time_pass(self._server, self._wait_s)


@pytest.mark.parametrize(
    ("path", "lost", "lag", "calls"),
    [
        ("/v1/batches", "batches.create", "{files: 0, batches: 5}", 2),
        ("/v1/files", "files.create", "{files: 5, batches: 0}", 3),
    ],
    ids=["creation", "upload"],
)
def test_what_left_late_and_is_shown_late_is_looked_for_as_long_as_any_other(
    weather: Any, tasks: Path, path: str, lost: str, lag: str, calls: int
) -> None:
    """The reply is lost a day after the intent: the batch is paid once, and the file of a lost upload is deleted."""
    with weather(f"faults: [{{on: {lost}, fault: lose_after, nth: [1]}}]\nlist_lag_s: {lag}") as server:
        way = SlowWay(server, path, DAY_S)
        given = settings_for(server, tasks, max_batch_requests=4, list_lag_wait=60.0)
        assert ToyTask(given, seams=way.seams).run()
        assert way.calls[f"POST {path}"] == calls
        let_time_pass(server, 60)
        finishes(server, tasks, way.clock)


def test_a_file_whose_upload_took_long_may_be_unknown_at_first_like_any_other(weather: Any, tasks: Path) -> None:
    """It is waited for. Uploaded again, just as slowly, it would be unknown again, for ever."""
    with weather("retrieve_lag_s: {files: 3, batches: 0}\nlist_lag_s: {files: 9, batches: 0}") as server:
        way = SlowWay(server, "/v1/files", 1000.0, times=9)
        assert ToyTask(settings_for(server, tasks, max_batch_requests=4), seams=way.seams).run()
        assert way.calls["POST /v1/files"] == 2
        assert way.calls["POST /v1/batches"] > 2
        finishes(server, tasks, way.clock)


def test_a_wipe_cancels_what_was_created_late_and_is_shown_late(tmp_path: Path, tasks: Path) -> None:
    """A batch that the server does not know yet is not given up because its intent is old."""
    with sandbox(tmp_path / "server", SHOWN_LATE % 1.5) as server:
        way = SlowWay(server, "/v1/batches", 1000.0)
        given = settings_for(server, tasks, list_lag_wait=30.0)
        assert not ToyTask(given, seams=way.seams, once=True).run()
        ToyTask(given, seams=way.seams, wipe_requests=True, run=False).run()
        assert [batch["status"] for batch in batches_of(server, tasks)] == ["cancelled"]
        assert query(tasks, "SELECT count(*) FROM batch WHERE state IN ('pushing', 'remote', 'ended')") == [(0,)]
        assert files_of(server, tasks) == []


def test_a_wipe_gives_no_batch_up_for_one_word(tmp_path: Path, tasks: Path) -> None:
    """A batch that has been there for long is cancelled, although the server once does not know it."""
    with sandbox(tmp_path / "server", "timing: {requests_per_s: 0.0001, cancelling_s: 0}") as server:
        given = settings_for(server, tasks, list_lag_wait=5.0)
        assert not ToyTask(given, once=True).run()
        let_time_pass(server, 5000)
        unknown = {"on": "batches.*", "fault": "status", "status": 404, "message": "No batch found", "nth": [2, 3]}
        slow = {"requests_per_s": 0.0001, "cancelling_s": 0}
        tell(server, "/sandbox/plan", {"timing": slow, "faults": [unknown]})
        ToyTask(given, wipe_requests=True, run=False).run()
        assert [batch["status"] for batch in batches_of(server, tasks)] == ["cancelled"]
