"""What goes on beside a run to show it: it says how far it is, and never stands in the way."""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from filelock import FileLock
from rich.text import Text

from gpt_batch_api.domain.errors import GPTBatchError, TaskCodeError
from gpt_batch_api.domain.events import Event, SessionEnded
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.monitor.below import AboveStream, Below
from gpt_batch_api.monitor.run_view import RunView
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample
from tests.store.rig import Desk, desk_at
from tests.store.test_snapshot import scene
from tests.toy import ToyTask, settings_for


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path / "toy_state.db") as desk:
        yield desk


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def view(path: Path, **values: object) -> RunView:
    return RunView(Settings.from_values(values), path, prefix="toy", line_s=0.02)


def viewers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "run view"]


def test_a_log_is_told_every_so_often_how_far_the_task_is(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    scene(desk)
    with view(desk.store.path):
        until(lambda: len(log.messages) >= 2)
    for text in log.messages:
        assert text.startswith(
            "Progress: 1 of 8 requests done (12.5%), 1 held; 1 batch on the server (0 of 1 requests done); "
        )
        assert "time left: unknown" in text


def test_a_quiet_log_is_not(desk: Desk) -> None:
    with view(desk.store.path, verbosity="quiet"):
        assert viewers() == []


def test_nobody_looks_when_the_session_has_ended(desk: Desk, log: pytest.LogCaptureFixture) -> None:
    """The store can be closed as the last one, into a single file."""
    with view(desk.store.path) as found:
        until(lambda: log.messages)
        found(SessionEnded())
        (thread,) = viewers()
        thread.join(10)
        assert viewers() == []


def test_a_run_ends_with_its_session(server: SandboxProcess, tasks: Path) -> None:
    """However it ends; and the store is a single file then."""
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)

    ToyTask(settings_for(server, tasks), listeners=[listen]).run()
    assert isinstance(told[-1], SessionEnded)
    assert sorted(path.name for path in tasks.glob("*_state*")) == ["toy_state.db"]
    assert viewers() == []


def stumbling(server: SandboxProcess, tasks: Path, **values: object) -> ToyTask:
    """A task whose code fails with the fourth answer."""

    class Stumbling(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            if sample.key == "word-00003":
                raise ValueError("oh")
            super().process_result(result, sample)

    return Stumbling(settings_for(server, tasks, **values))


def test_a_run_that_ends_with_an_error_says_what_it_has_done(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """In the ten lines of any other run; the error is the last that is read."""
    assert stumbling(server, tasks).main() == 1
    (first,) = [
        place for place, text in enumerate(log.messages) if text.startswith("Task toy (Stumbling): not complete")
    ]
    ten = log.messages[first:]
    assert any(text.startswith("  money ") for text in ten)
    assert "oh" in ten[-1]


@pytest.mark.parametrize("values", [{"verbosity": "quiet"}, {"dryrun": True}], ids=["quiet", "dry run"])
def test_there_are_no_ten_lines_where_a_good_run_has_none(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture, values: dict[str, object]
) -> None:
    with pytest.raises(TaskCodeError):
        stumbling(server, tasks).run()
    log.clear()
    with pytest.raises(TaskCodeError):
        stumbling(server, tasks, **values).run()
    assert not any(text.startswith("Task toy") for text in log.messages)


def test_a_run_that_could_not_begin_has_done_nothing(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """The task is somebody else's just now."""
    task = ToyTask(settings_for(server, tasks))
    assert task.run()
    log.clear()
    with FileLock(tasks / "toy.lock"), pytest.raises(GPTBatchError):
        task.run()
    assert not any(text.startswith("Task toy") for text in log.messages)


@pytest.mark.parametrize("broken", ["missing", "garbage"])
def test_a_store_that_cannot_be_read_is_no_trouble(tmp_path: Path, log: pytest.LogCaptureFixture, broken: str) -> None:
    """It is just being made, or damaged: the run itself will tell, or it is read when it is there."""
    path = tmp_path / "toy_state.db"
    if broken == "garbage":
        path.write_bytes(b"no store at all " * 100)
    with view(path):
        (thread,) = viewers()
        time.sleep(0.1)  # some looks, whenever they are
        assert thread.is_alive()
        assert log.messages == []
        path.unlink(missing_ok=True)
        with desk_at(path) as desk:
            desk.add("a")
            until(lambda: log.messages)


def test_a_stream_above_the_view_is_a_stream_like_any_other() -> None:
    """User code may want its buffer, its name, or whether it can be written to; later it goes where it went before."""
    original = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = AboveStream(Below(original, color=False), original)
    assert stream.writable()
    assert stream.buffer is original.buffer
    stream.write("one\n")
    stream.release()
    stream.write("two")
    stream.flush()
    assert original.buffer.getvalue() == b"one\ntwo"


def test_ten_thousand_log_lines_do_not_draw_the_view_again() -> None:
    """It is taken away for the first of them, and stands again with the next drawing."""
    terminal = io.StringIO()
    below = Below(terminal, color=False)
    below.show([Text("the view")])
    for number in range(10_000):
        below.above(f"line {number}\n")
    assert not below.stands
    below.show([Text("the view")])
    assert terminal.getvalue().count("the view") == 2
    assert terminal.getvalue().count("\033[J") == 1


def test_nothing_is_drawn_while_half_a_line_stands() -> None:
    """A prompt, another progress bar: the view comes back when the line is over."""
    terminal = io.StringIO()
    below = Below(terminal, color=False)
    below.above("Shall I go on? ")
    below.show([Text("the view")])
    assert terminal.getvalue() == "Shall I go on? "
    below.above("yes\n")
    below.show([Text("the view")])
    assert terminal.getvalue() == "Shall I go on? yes\nthe view\n"


class Window(io.StringIO):
    """A terminal that keeps what is written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_the_view_is_taken_away_at_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if nothing is logged any more; standard output is what it was."""
    window = Window()
    monkeypatch.setattr(sys, "stdout", window)
    monkeypatch.setenv("TERM", "xterm")
    with view(desk.store.path):
        until(lambda: "requests  0 of 0 done" in _screen(window))
    assert _screen(window).strip() == ""
    assert sys.stdout is window


def _screen(window: Window) -> str:
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(re.sub(r"(?<!\r)\n", "\r\n", window.getvalue()))
    return "\n".join(line.rstrip() for line in screen.display)
