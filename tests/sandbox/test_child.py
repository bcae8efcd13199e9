"""The sandbox as a process: from the command line, and as a child that ends with its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from gpt_batch_api.sandbox.__main__ import main
from gpt_batch_api.sandbox.child import SandboxFailed, SandboxProcess
from tests.sandbox.rig import body, client_of

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_child_serves_and_ends_with_close(db: Path) -> None:
    """It says where it is and who; closing twice does no harm; the same database is the same sandbox."""
    with SandboxProcess.start(db, plan="calm", seed=4) as sandbox:
        with client_of(sandbox.url) as client:
            client.chat.completions.create(**body(model="gpt-4o-mini"))
        reply = httpx2.get(sandbox.url.removesuffix("/v1") + "/sandbox/plan")
        assert reply.json()["seed"] == 4
        assert reply.headers["x-gpt-batch-api-sandbox"] == sandbox.uuid
    sandbox.close()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(sandbox.url)
    with SandboxProcess.start(db) as again:
        assert again.uuid == sandbox.uuid


def test_a_child_says_how_long_its_lists_are_behind(tmp_path: Path) -> None:
    """By the plan in force, be it from last time; a run then knows how long to look for what is lost."""
    plan = tmp_path / "late.yaml"
    plan.write_text("list_lag_s: {files: 3, batches: 4.5}")
    with SandboxProcess.start(tmp_path / "s.db", plan=plan) as sandbox:
        assert sandbox.list_lag_s == 4.5
    with SandboxProcess.start(tmp_path / "s.db") as again:
        assert again.list_lag_s == 4.5


def test_a_child_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a folder of the same name lies there."""
    stranger = tmp_path / "gpt_batch_api"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    with SandboxProcess.start(Path("relative.db")) as sandbox:
        assert sandbox.url
    assert (tmp_path / "relative.db").exists()


def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    """In its own words."""
    with pytest.raises(
        SandboxFailed, match="There is no sandbox plan 'fog': give a file, or one of calm, rough, storm"
    ):
        SandboxProcess.start(tmp_path / "s.db", plan="fog")
    plan = tmp_path / "bad.yaml"
    plan.write_text("sed: 1")
    with pytest.raises(SandboxFailed, match=r"ended with status 1: bad\.yaml: sed: unknown key"):
        SandboxProcess.start(tmp_path / "s.db", plan=plan)


def test_the_helper_is_light_to_import() -> None:
    """The server's libraries are loaded in the child only."""
    heavy = "starlette", "uvicorn", "tiktoken", "yaml", "openai", "filelock"
    code = f"import sys, gpt_batch_api.sandbox.child; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


PARENT = """
import sys, time
from pathlib import Path
from gpt_batch_api.sandbox.child import SandboxProcess
sandbox = SandboxProcess.start(Path(sys.argv[1]))
print(sandbox.pid, flush=True)
time.sleep(600)
"""


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the process is still there")


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc")
def test_a_child_ends_when_its_parent_is_killed(db: Path) -> None:
    """And the next one gets the database, even if it comes at once."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(db)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        with SandboxProcess.start(db) as next_one:
            assert next_one.pid != child
        wait_until_gone(child)


def test_a_child_ignores_an_interrupt(db: Path) -> None:
    """Its parent decides when it ends. One that stopped would soon take no new connection."""
    with SandboxProcess.start(db) as sandbox:
        os.kill(sandbox.pid, signal.SIGINT)
        for _ in range(50):
            assert httpx2.get(sandbox.url.removesuffix("/v1") + "/sandbox/plan").status_code == 200


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt_batch_api.sandbox", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(db: Path, number: signal.Signals) -> None:
    """It prints one line of JSON, and ends in peace on SIGINT and SIGTERM."""
    with command("--db", str(db), "--plan", "rough", "--seed", "3", "--time_scale", "60") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["pid"] == process.pid
        assert told["url"].startswith("http://127.0.0.1:")
        plan = httpx2.get(told["url"].removesuffix("/v1") + "/sandbox/plan").json()
        assert (plan["seed"], plan["timing"]["time_scale"]) == (3, 60)
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_port_in_use_is_one_clear_line(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And exit status 1."""
    with SandboxProcess.start(db) as sandbox:
        port = sandbox.url.removesuffix("/v1").rpartition(":")[2]
        other = db.with_name("other.db")
        assert main(["--db", str(other), "--port", port]) == 1
    assert capsys.readouterr().err == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"


def test_help_needs_none_of_the_servers_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """It names every option."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for option in ("--db", "--host", "--port", "--plan", "--seed", "--time_scale", "--until_stdin_closes"):
        assert option in text
