"""What a run logs to Trackio, read back from its own database."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.monitor.test_tracking import ROOT, recounted, track
from tests.monitor.tracked import BATCH, Tracked
from tests.toy import query

pytest.importorskip("trackio", reason="trackio is not installed: pip install trackio")


def test_every_figure_of_the_last_look_is_what_the_rows_of_the_store_say(
    server: SandboxProcess, tmp_path: Path
) -> None:
    """A second run goes on with the first one's, and steps only go up."""
    variables: dict[str, Any] = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1", "TRACKED": "logs"}
    track(server, tmp_path, "--tracker=trackio", "--max_session_requests=20", ends=3, **variables)
    done = track(server, tmp_path, "--tracker=trackio", "--wandb_project=gpt_batch_api", **variables)
    assert "trackio logs to project gpt_batch_api" in done.stdout
    (path,) = (tmp_path / "trackio").glob("*.db")
    db = sqlite3.connect(path)
    try:
        rows = db.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    finally:
        db.close()
    assert {name for name, _, _ in rows} == {query(tmp_path / "tasks", "SELECT uuid FROM task")[0][0]}
    steps = [step for _, step, _ in rows]
    assert steps == sorted(set(steps))
    assert {step // 1_000_000 for step in steps} == {1, 2}
    looks = [json.loads(metrics) for _, _, metrics in rows]
    last = [look for look in looks if "task/complete" in look][-1]
    assert {name: last[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
    assert last["own/seen"] == Tracked.count
    batches = [look["batch/number"] for look in looks if "batch/number" in look]
    assert batches == list(range(1, 1 + Tracked.count // BATCH))


def test_no_thread_of_it_begins_to_import_what_the_client_looks_at() -> None:
    """openai's client trips over an httpx that another thread has half imported."""
    script = (
        "import sys; from gpt_batch_api.monitor.trackio_run import TrackioTracker; "
        "before = 'httpx' in sys.modules; TrackioTracker(); print(before, 'httpx' in sys.modules, 'trackio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


def test_it_is_off_with_no_wandb(server: SandboxProcess, tmp_path: Path) -> None:
    done = track(server, tmp_path, "--tracker=trackio", "--no_wandb", TRACKED="tells_modules")
    assert done.stdout.endswith("imported: []\n")
