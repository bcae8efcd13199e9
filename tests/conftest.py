"""Fixtures for all tests: nothing of the user's environment leaks in, one quick sandbox per worker."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import sandbox

USER_VARIABLES = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL", "OPENAI_ENDPOINT")

# Machines are shared and noisy: how long an example takes says nothing about the code it tries.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see none of the user's own keys and servers, and log nothing anywhere unless they say so."""
    for name in USER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A sandbox in which no time passes; shared by the tests of one worker."""
    with sandbox(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A sandbox that serves one test only, so that whatever is left on it was left by that test."""
    with sandbox(tmp_path / "server") as process:
        yield process


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the library says, from INFO up."""
    caplog.set_level(logging.INFO, logger="gpt_batch_api")
    return caplog


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder for task files."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    return folder
