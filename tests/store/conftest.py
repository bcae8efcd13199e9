"""Fixtures: a store in its own folder, with a task and a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_batch_api.store.connection import Store
from tests.store.rig import Desk, desk_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test lies: alone in its folder."""
    folder = tmp_path / "task"
    folder.mkdir()
    return folder / "toy_state.db"


@pytest.fixture
def desk(path: Path) -> Iterator[Desk]:
    with desk_at(path) as desk:
        yield desk


@pytest.fixture
def store(desk: Desk) -> Store:
    return desk.store
