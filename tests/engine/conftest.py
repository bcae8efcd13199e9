"""Fixtures for runs in bad weather."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import QUICK_PLAN, sandbox


@pytest.fixture
def weather(tmp_path: Path) -> Any:
    """A quick sandbox with a plan of one's own."""

    @contextmanager
    def start(plan: str) -> Iterator[SandboxProcess]:
        with sandbox(tmp_path / "server", QUICK_PLAN + plan) as process:
            yield process

    return start
