"""What is the same for all commands."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gpt_batch_api import __version__
from gpt_batch_api.cli.main import COMMANDS, main
from gpt_batch_api.domain.ending import STOPPED_AT_ONCE
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.connection import Store
from tests.cli.rig import ROOT, command
from tests.toy import ToyTask, settings_for


def test_without_a_command_all_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {line}" in shown for name, line in COMMANDS.items())


def test_the_version_is_told(tmp_path: Path) -> None:
    assert command("--version", folder=tmp_path).stdout == f"gpt-batch-api {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stat"], "invalid choice: 'stat'"),
        (["status", "--task_dri", "."], "unrecognized arguments: --task_dri .. Did you mean --task_dir?"),
        (
            ["inspect", "--limit", "few"],
            "argument --limit: invalid int value: 'few'. See gpt-batch-api inspect --help.",
        ),
        (["wipe"], "the following arguments are required: what. See gpt-batch-api wipe --help."),
        (["estimate", "--max_batch_requests", "-1"], "max_batch_requests is -1"),
    ],
)
def test_a_mistyped_argument_is_one_line_and_exit_1(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("name", ["status", "estimate", "inspect", "doctor", "export", "wipe"])
def test_a_task_that_is_not_there_is_one_line_and_exit_1(name: str, tmp_path: Path) -> None:
    more = {"export": ["out.csv"], "wipe": ["requests"]}.get(name, [])
    done = command(name, *more, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: There are no tasks in tasks. Name their folder with --task_dir.\n"


@pytest.mark.parametrize("name", ["inspect", "export", "wipe"])
def test_a_store_without_a_task_is_one_line_and_exit_1(name: str, tmp_path: Path, tasks: Path) -> None:
    """As it is for a moment when a run begins."""
    Store.open(ToyTask(task_dir=tasks).workplace.store).close()
    more = {"export": ["out.csv"], "wipe": ["requests"]}.get(name, [])
    done = command(name, *more, folder=tmp_path)
    assert done.returncode == 1
    assert "has not begun" in done.stderr


def test_the_only_task_that_has_begun_needs_no_name(
    server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(tasks / "a_state.db").close()
    here = ("--task_dir", str(tasks))
    ToyTask(settings_for(server, tasks)).run()
    assert main(["inspect", *here, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "toy"
    (tasks / "damaged_state.db").write_bytes(b"no store" * 1000)
    assert main(["inspect", *here]) == 1
    assert "Say which with --task_prefix: damaged, toy." in capsys.readouterr().err


@pytest.mark.parametrize("pragmas", [(), ("application_id = 1733313089", "journal_mode = WAL")], ids=["empty", "ours"])
@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["watch", "--once"],
        ["estimate"],
        ["doctor"],
        ["inspect"],
        ["export", "out.csv"],
        ["wipe", "requests"],
        ["wipe", "task", "--json", "--yes"],
    ],
    ids=" ".join,
)
def test_a_store_that_is_just_being_made_is_no_trouble_for_who_looks(
    words: list[str], pragmas: tuple[str, ...], tmp_path: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no tables for a moment."""
    with closing(sqlite3.connect(tasks / "toy_state.db")) as db:
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
        exit_code = main([*words, "--task_dir", str(tasks)])
    told = capsys.readouterr()
    assert exit_code == (1 if words[0] in ("inspect", "export", "wipe") else 0)
    assert len(told.err.splitlines()) == exit_code
    assert exit_code == 0 or "has not begun" in told.err
    assert not (tmp_path / "out.csv").exists()


def test_a_run_that_is_broken_off_says_that_nothing_is_lost(tmp_path: Path) -> None:
    """Here it is broken off while it reads its prompt, which a pipe holds up."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    os.mkfifo(tmp_path / "prompt.txt")
    words = ("run", "in.csv", "--output", "out.csv", "--model", "gpt-4o-mini", "--prompt_file", "prompt.txt")
    with started(*words, folder=tmp_path) as process, (tmp_path / "prompt.txt").open("w"):  # waits until it is read
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=60)
    assert (process.returncode, *shown) == (130, "", f"{STOPPED_AT_ONCE}\n")


def test_a_look_that_is_broken_off_says_nothing(tmp_path: Path, tasks: Path) -> None:
    Store.open(ToyTask(task_dir=tasks).workplace.store).close()
    with started("watch", "--json", folder=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 130


def started(*words: str, folder: Path) -> subprocess.Popen[str]:
    """`gpt-batch-api` in *folder*, as it goes on."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpt_batch_api", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_sandbox_tells_a_person_how_to_use_it(tmp_path: Path) -> None:
    """In a pipe it prints one JSON line (`tests/processes`); at a terminal a line to type as well. Ctrl+C ends it."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt_batch_api", "sandbox"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=child,
    )
    with os.fdopen(parent, encoding="utf-8") as terminal:
        facts, use = json.loads(terminal.readline()), terminal.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        os.close(child)
    assert use == f"Use it with:  export OPENAI_BASE_URL={facts['url']} OPENAI_API_KEY=sandbox\n"
