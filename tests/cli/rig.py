"""The commands as users type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import ToyTask, sandbox, settings_for

ROOT = Path(__file__).parents[2]


def python(*words: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in *folder*, with nobody at the terminal."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def command(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `gpt-batch-api` in *folder*."""
    return python("-m", "gpt_batch_api", *words, folder=folder)


def script(path: Path, server: SandboxProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a task's script against *server*, in its folder."""
    quick = ("--min_batch_requests", "1", "--remote_update_interval", "0.01")
    address = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"}
    return python(path, *quick, *words, folder=path.parent, **address)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command printed as JSON; it must have ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def finish_with_a_refusal(task: type[ToyTask], folder: Path, **values: Any) -> None:
    """Run *task* in `folder/tasks` to its end; the request of its fourth sample is refused."""
    (folder / "tasks").mkdir()
    plan = (
        "lines: [{fault: refusal, match: word-00003}]\n"
        "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0, requests_per_s: 1000000}\n"
    )
    with sandbox(folder / "server", plan) as server:
        task(settings_for(server, folder / "tasks"), process_failed_batches=-1, **values).run()
