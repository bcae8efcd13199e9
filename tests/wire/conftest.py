"""Fixtures: the tiny server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.tiny import TinyServer, tiny_server


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with tiny_server() as server:
        yield server
