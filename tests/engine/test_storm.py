"""The packaged storm plan: 5xx, 429, lost replies, cut downloads, bad lines, an expiry, a token limit, refused rows."""

from __future__ import annotations

from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import QUICK, ToyTask, ask, books, query, rows_of


class Many(ToyTask):
    """Enough for two batches and a remainder."""

    count = 60


def files_on(server: SandboxProcess) -> list[str]:
    """What lies on the server, asked until an answer gets through the storm."""
    while True:
        with suppress(HTTPError, URLError, ConnectionError, ValueError, HTTPException):
            return [file["filename"] for file in ask(server, "/v1/files")["data"]]


ROADS: dict[str, dict[str, Any]] = {
    "batches only": {"min_batch_requests": 0},
    "batches and direct calls": {"min_batch_requests": 10},
    "direct calls only": {"force_direct": True},
}


BOOKED_BY_BATCH = (
    "SELECT remote_id, sum(spent_pico) FROM ledger JOIN batch ON batch.id = batch_id "
    "WHERE remote_id IS NOT NULL GROUP BY remote_id"
)


@pytest.mark.parametrize("roads", ROADS)
def test_a_storm_ends_with_every_row_delivered_or_failed_with_a_reason(tmp_path: Path, tasks: Path, roads: str) -> None:
    """And with the server's ledger: to the picodollar, but for what it does not tell.

    That is direct calls whose replies were lost, and answers missing in batches whose usage it keeps to itself: they are
    booked as they were reserved.
    """
    with SandboxProcess.start(tmp_path / "sandbox.db", plan="storm") as server:
        values = {
            **QUICK,
            "client_base_url": server.url,
            "task_dir": tasks,
            **ROADS[roads],
            "max_batch_requests": 25,
            "list_lag_wait": 8.0,
            "remote_update_interval": 0.2,
            "max_retries": 9,
            "min_pass_ratio": 0.0,
            "max_pass_failures": 99,
            "process_failed_batches": -1,
            "assumed_completion_ratio": 1.0,  # so that what is booked for a lost reply is the most it can have cost
        }
        assert Many(**values).run()
        ends = dict(query(tasks, "SELECT state, count(*) FROM request GROUP BY 1"))
        assert ends.pop("succeeded") + ends.pop("failed", 0) == 60
        assert ends == {}
        assert len({row["key"] for row in rows_of(tasks)}) == len(rows_of(tasks)) >= 58
        failed = query(tasks, "SELECT DISTINCT reason FROM request WHERE state = 'failed'")
        assert {reason for (reason,) in failed} <= {"invalid_request"}
        assert files_on(server) == []
        spent, reserved, unlinked, linked = books(tasks)
        ledger = ask(server, "/sandbox/ledger")
        billed = ledger["total"]["cost_pico"]
        in_batches = {name: found["cost_pico"] for name, found in ledger["batches"].items()}
        booked = dict(query(tasks, BOOKED_BY_BATCH))
        silent = {
            name for name, usage in query(tasks, "SELECT remote_id, report ->> '$.usage' FROM batch") if not usage
        }
    assert (reserved, spent) == (0, linked + unlinked)
    assert linked <= billed, "answers that were never paid for are booked"
    assert billed <= spent, "something was paid that the books do not show"
    for name, cost_pico in booked.items():
        paid = in_batches.pop(name, 0)
        assert paid <= cost_pico, "missing lines are booked, too"
        assert paid == cost_pico or name in silent, "a batch that tells its usage is booked to the picodollar"
    assert in_batches == {}, "no batch was paid for that is not booked"
