"""The processes of the self-check."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from pathlib import Path

from gpt_batch_api.testing.processes import EAST, Nursery
from tests.toy import query


def test_a_process_does_not_outlive_who_waits_for_it(tmp_path: Path) -> None:
    """Its server is gone with them, so it would wait for ever."""
    tasks = tmp_path / "tasks"
    flags = ["--task_dir", str(tasks), "--client_base_url", "http://127.0.0.1:9/v1", "--verbosity", "quiet"]
    job = {
        "do": "run",
        "task": "tests.testing.subjects:Simple",
        "flags": flags,
        "samples": 1,
        "kill_at": None,
        "clock": {"began_at": time.time(), "scale": 1},
        "result": str(tmp_path / "result"),
        "log": str(tmp_path / "log"),
    }
    nursery = Nursery(tmp_path / "nursery", world=EAST)
    nursery.wait_until_ready()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "nursery"))
        connection.sendall(json.dumps(job).encode() + b"\n")
        while not (pids := _sessions(tasks)):
            time.sleep(0.01)
    while _is_there(pids[0]):
        time.sleep(0.01)
    nursery.close()


def _sessions(tasks: Path) -> list[int]:
    if not (tasks / "simple_state.db").exists():
        return []
    try:
        return [pid for (pid,) in query(tasks, "SELECT pid FROM session", prefix="simple")]
    except sqlite3.OperationalError:  # the store is being made
        return []


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
