"""Logging as the user's scripts set it up: `pytest -v gpt_batch_api/utils_test.py`"""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt_batch_api.utils import ColorFormatter, configure_logging, wants_color


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Leave the root logger as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def shown(level: int, *, color: bool) -> str:
    record = logging.LogRecord("test", level, __file__, 1, "hello %s", ("world",), None)
    return ColorFormatter("[time] %(message)s", color=color).format(record)


def test_information_is_plain() -> None:
    assert shown(logging.INFO, color=True) == "[time] hello world"


@pytest.mark.parametrize(("level", "code"), [(logging.WARNING, "\033[33m"), (logging.ERROR, "\033[31m")])
def test_warnings_and_errors_stand_out_in_color(level: int, code: str) -> None:
    assert shown(level, color=True) == f"{code}[time] {logging.getLevelName(level)}: hello world\033[0m"


def test_without_color_the_level_is_still_named() -> None:
    assert shown(logging.WARNING, color=False) == "[time] WARNING: hello world"


def test_a_format_without_brackets_names_the_level_first() -> None:
    record = logging.LogRecord("test", logging.ERROR, __file__, 1, "oops", (), None)
    assert ColorFormatter("%(message)s", color=False).format(record) == "ERROR: oops"


def test_color_goes_to_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_color_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    assert not wants_color(Terminal())


def test_configuring_twice_does_not_double_the_lines() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(stream=second)
    logging.getLogger("gpt_batch_api").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_handlers_of_others_stay() -> None:
    other = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(other)
    configure_logging(stream=io.StringIO())
    assert other in logging.getLogger().handlers


def test_the_level_can_be_chosen() -> None:
    stream = io.StringIO()
    configure_logging(logging.WARNING, stream=stream)
    logging.getLogger("gpt_batch_api").info("quiet")
    logging.getLogger("gpt_batch_api").warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


SCRIPT = """
import logging, sys
from gpt_batch_api.utils import configure_logging
configure_logging()
logging.info("first")
sys.stdin.read()
for number in range(3):
    logging.info("unread")
    print("unread too", flush=True)
"""


@pytest.mark.parametrize("opened", [os.pipe, pty.openpty], ids=["a pipe", "a terminal"])
def test_a_script_goes_on_in_silence_when_nobody_reads_its_log(opened: Callable[[], tuple[int, int]]) -> None:
    reader, writer = opened()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as log:
        assert b"first" in log.read(100)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


def test_other_trouble_of_the_log_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    handler = configure_logging(stream=io.StringIO())
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, "%d", ("no number",), None))
    assert "a real number is required" in capsys.readouterr().err
