"""The commands as users type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess

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
