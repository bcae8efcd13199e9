"""Fixtures: a served sandbox in fair weather, and a way to serve others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.clock import ManualClock
from tests.sandbox.rig import Rig, rig_on

MakeRig = Callable[..., Rig]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "sandbox.db"


@pytest.fixture
def make_rig(db: Path, clock: ManualClock) -> Iterator[MakeRig]:
    """Serve a sandbox with the plan given as keywords."""
    with ExitStack() as stack:

        def make(**plan: Any) -> Rig:
            return stack.enter_context(rig_on(db, clock=clock, plan=plan))

        yield make


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    return make_rig()
