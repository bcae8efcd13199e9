"""A run as a person sees it: in real terminals of several sizes, resized and interrupted, and in a log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.monitor.terminal import ROOT, Terminal, terminal
from tests.toy import query, sandbox

SLOW_PLAN = "timing: {validating_s: 0, requests_per_s: 8, minimum_s: 0, finalizing_s: 0}\n"
"""A batch of 20 takes two and a half seconds."""
STUCK_PLAN = "timing: {validating_s: 0, requests_per_s: 0.5, minimum_s: 0, finalizing_s: 0}\n"
"""Nothing ends while a test looks."""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path / "slow", SLOW_PLAN) as server:
        yield server


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path / "stuck", STUCK_PLAN) as server:
        yield server


def job(server: SandboxProcess, folder: Path, *more: str) -> list[str]:
    return [
        "-m", "tests.monitor.job", "--task_dir", str(folder), "--client_base_url", server.url, "--openai_api_key", "sk-test",
        "--max_batch_requests", "20", "--max_remote_batches", "2", "--min_batch_requests", "1",
        "--remote_update_interval", "0.3", *more,
    ]  # fmt: skip


def view_of(screen: Terminal) -> list[str]:
    """The lines of the live view, from its title on; none if it does not stand."""
    starts = [row for row, line in enumerate(screen.lines) if line.startswith("── toy")]
    assert len(starts) <= 1, f"two views on one screen:\n{screen.text}"
    return [line for line in screen.lines[starts[0] :] if line] if starts else []


def stands(screen: Terminal, words: str = "") -> bool:
    return bool(view_of(screen)) and words in "\n".join(view_of(screen))


class TestALiveView:
    def test_it_shows_totals_batches_and_money_below_the_log(self, slow: SandboxProcess, tasks: Path) -> None:
        """And when the run is over it is gone; what stays is the log, the user's own lines, and the summary."""
        with terminal(*job(slow, tasks), columns=120, rows=40) as screen:
            screen.until(lambda: stands(screen, "1 local, 2 on the server"))
            view = "\n".join(view_of(screen))
            assert re.search(r"requests +0 of 60 done \(0\.0%\)", view)
            assert re.search(r"1: in_progress, \d+ of 20 done", view)
            assert re.search(r"spent \+ \$0\.\d+ reserved of \$1,000\.00; this run \$0\.\d+ of \$500\.00", view)
            screen.until(lambda: stands(screen, "2 finished"))
            assert re.search(r"requests +(20|40) of 60 done", "\n".join(view_of(screen)))
            assert "time left: about" in "\n".join(view_of(screen))
            assert screen.end() == 0
            assert view_of(screen) == []
            told = screen.everything
        for words in (
            "Batch 1: pushed as",
            "Batch 3: completed",
            "my own line about word-00050",
            "printed about word-00055",
        ):
            assert told.count(words) == 1, words
        assert "60 asked = 60 succeeded + 0 failed + 0 held + 0 under way" in told
        assert "Waiting for" not in told
        own = [line for line in told.splitlines() if "my own line" in line or line.startswith("printed")]
        assert all(re.fullmatch(r"(\[[0-9:]{8}\] my own line|printed) about word-000\d[05]", line) for line in own)
        assert len(own) == 12

    @pytest.mark.parametrize(("columns", "rows"), [(40, 12), (80, 24), (200, 60)])
    def test_it_fits_the_window(self, stuck: SandboxProcess, tasks: Path, columns: int, rows: int) -> None:
        """No line is wrapped, however narrow it is, and the first lines are there however low it is."""
        with terminal(*job(stuck, tasks), columns=columns, rows=rows) as screen:
            screen.until(lambda: stands(screen, "of 60 done") and (rows == 12 or stands(screen, "\n money")))
            view = view_of(screen)
            assert len(view) <= rows - 3
            assert all(len(line) < min(columns, 101) for line in view)
            assert [line.split()[0] for line in view[:2]] == ["──", "requests"]

    def test_a_window_may_change_its_size_in_mid_run(self, stuck: SandboxProcess, tasks: Path) -> None:
        """The view follows within a second; no log line is lost, no second view is left behind."""
        with terminal(*job(stuck, tasks), columns=130, rows=40) as screen:
            screen.until(lambda: stands(screen, "2 on the server"))
            for columns in (110, 60, 100, 45):
                screen.resize(columns, 40)
                screen.until(partial(_fits, screen, columns))
            assert screen.text.count("Batch 1: pushed as") == 1
            assert screen.text.count("Batch 3: prepared 20") == 1

    def test_ctrl_c_leaves_a_clean_screen_and_says_how_to_go_on(self, stuck: SandboxProcess, tasks: Path) -> None:
        """The view is gone, the last lines are the summary and what is safe; the terminal works as before."""
        with terminal(*job(stuck, tasks), columns=120, rows=40) as screen:
            screen.until(lambda: stands(screen, "2 on the server"))
            screen.process.send_signal(signal.SIGINT)
            assert screen.end() == 130
            assert view_of(screen) == []
            lines = [line for line in screen.lines if line]
        assert lines[-1].endswith("Stopped. Batches on the server go on meanwhile; the same command continues.")
        summary = "\n".join(lines[-9:])
        assert "60 asked = 0 succeeded + 0 failed + 0 held + 60 under way" in summary
        assert re.search(r"time left: unknown|time left: about", summary)
        assert not screen.screen.cursor.hidden

    def test_two_ctrl_c_leave_a_clean_screen_too(self, stuck: SandboxProcess, tasks: Path) -> None:
        with terminal(*job(stuck, tasks), columns=120, rows=40) as screen:
            screen.until(lambda: stands(screen, "2 on the server"))
            screen.process.send_signal(signal.SIGINT)
            screen.process.send_signal(signal.SIGINT)
            assert screen.end() == 130
            assert view_of(screen) == []

    def test_somebody_who_asks_is_not_drawn_over(self, stuck: SandboxProcess, tasks: Path) -> None:
        """A prompt in the user's code, a debugger's for instance: the view steps aside until the line is over."""
        with terminal("-m", "tests.monitor.job", "--ask", *job(stuck, tasks)[2:], columns=120, rows=40) as screen:
            screen.until(lambda: "Shall I go on?" in screen.text)
            screen.answer("yes")
            screen.until(lambda: "You said yes" in screen.text)
            screen.until(lambda: stands(screen, "2 on the server"))
            assert "Shall I go on? yes" in screen.text

    def test_a_run_stops_in_peace_when_its_terminal_is_closed(self, slow: SandboxProcess, tasks: Path) -> None:
        """The window is closed, the line is cut: the calls in flight come to their ends, and the same command continues."""
        code = "from tests.toy import ToyTask; raise SystemExit(ToyTask.run_command_line())"
        command = ["-c", code, *job(slow, tasks)[2:]]
        with terminal(*command, columns=120, rows=40, controls=True) as screen:
            screen.until(lambda: stands(screen, "on the server"))
            screen.hang_up()
            assert screen.process.wait(30) == 130
        assert query(tasks, "SELECT complete FROM task") == [(0,)]
        assert query(tasks, "SELECT count(*) FROM session WHERE ended_at IS NULL") == [(0,)]
        with terminal(*command, columns=120, rows=40) as screen:
            assert screen.end() == 0
        assert query(tasks, "SELECT complete FROM task") == [(1,)]

    def test_a_run_that_its_terminal_does_not_control_survives_it(self, slow: SandboxProcess, tasks: Path) -> None:
        """It only writes there, as after `setsid`: it goes on to its end."""
        command = ["-c", "from tests.toy import ToyTask; ToyTask.run_command_line()", *job(slow, tasks)[2:]]
        with terminal(*command, columns=120, rows=40) as screen:
            screen.until(lambda: stands(screen, "on the server"))
            screen.hang_up()
            screen.process.wait(60)
        assert query(tasks, "SELECT complete FROM task") == [(1,)]

    def test_a_terminal_that_does_not_know_a_character_gets_a_question_mark(
        self, stuck: SandboxProcess, tasks: Path
    ) -> None:
        """In the view; the run is none the wiser."""
        with terminal(*job(stuck, tasks), environment={"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}) as screen:
            screen.until(lambda: "?? toy Job" in screen.text)

    def test_no_color_means_none(self, stuck: SandboxProcess, tasks: Path) -> None:
        """The view stands there all the same."""
        with terminal(*job(stuck, tasks), environment={"NO_COLOR": "1"}) as screen:
            screen.until(lambda: stands(screen, "money"))
            assert not re.search(rb"\033\[[0-9;]*m", screen.written)

    def test_colors_are_used_otherwise(self, stuck: SandboxProcess, tasks: Path) -> None:
        with terminal(*job(stuck, tasks)) as screen:
            screen.until(lambda: stands(screen, "money"))
            assert re.search(rb"\033\[[0-9;]*m", screen.written)

    def test_nothing_is_written_when_nothing_changes(self, stuck: SandboxProcess, tasks: Path) -> None:
        """Four looks a second would be four drawings: seconds pass, and there is one in each at most."""
        with terminal(*job(stuck, tasks), columns=100, rows=30) as screen:
            screen.until(lambda: stands(screen, "2 on the server"))
            drawn = screen.written.count(b"\033[J")
            began_s = _seconds(screen)
            screen.until(lambda: _seconds(screen) >= began_s + 6)
            assert screen.written.count(b"\033[J") - drawn <= 8


def _fits(screen: Terminal, columns: int) -> bool:
    """Whether the whole view stands in so many columns; just after a change of size an older drawing may still come."""
    return stands(screen, "money") and all(len(line) < columns for line in view_of(screen))


def _seconds(screen: Terminal) -> int:
    found = re.search(r"run 1 for (\d+) s", screen.text)
    return int(found[1]) if found else 0


class TestALog:
    """Where there is no terminal to draw on: plain lines, nothing that a terminal would obey."""

    def test_a_dumb_terminal_gets_lines(self, slow: SandboxProcess, tasks: Path) -> None:
        with terminal(*job(slow, tasks), columns=120, rows=60, environment={"TERM": "dumb"}) as screen:
            assert screen.end() == 0
            assert b"\033" not in screen.written
            assert "Batch 1: pushed as" in screen.text
            assert "── toy" not in screen.everything

    @pytest.mark.parametrize(
        ("verbosity", "shown", "not_shown"),
        [
            ("quiet", (), ("Batch 1: pushed", "Progress", "60 asked")),
            ("normal", ("Batch 1: pushed", "60 asked"), ("Generated", "2 on the server, ")),
            ("verbose", ("Batch 1: pushed", "Generated 20 requests", "limits     task"), ()),
        ],
    )
    def test_a_pipe_gets_as_many_lines_as_wanted(
        self, slow: SandboxProcess, tasks: Path, verbosity: str, shown: tuple[str, ...], not_shown: tuple[str, ...]
    ) -> None:
        done = subprocess.run(
            [sys.executable, *job(slow, tasks, "--verbosity", verbosity)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "\033" not in done.stdout
        for words in shown:
            assert words in done.stdout
        for words in not_shown:
            assert words not in done.stdout
        assert "my own line about word-00010" in done.stdout
