"""Real processes: the commands as users type them, Ctrl+C, two at once, the embedded sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager_demo import UTTERANCES, printable_characters
from tests.toy import batches_of, files_of, query, rows_of, sandbox

DEMO = [sys.executable, "-m", "gpt_batch_api.task_manager_demo"]
MODELARGS = (
    "--model gpt-4o-mini-2024-07-18 --cost_input_direct_mtoken 0.150 --cost_input_cached_mtoken 0.075 "
    "--cost_input_batch_mtoken 0.075 --cost_output_direct_mtoken 0.600 --cost_output_batch_mtoken 0.300"
).split()
ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def demo(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in *folder* as a user would."""
    command = [*DEMO, *line.replace('"${MODELARGS[@]}"', " ".join(MODELARGS)).split()]
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=200, check=False
    )


class TestTheSeedsCommands:
    """The commands of the demo, verbatim."""

    def test_help_names_every_argument(self, tmp_path: Path) -> None:
        done = demo("--help", tmp_path)
        assert done.returncode == 0
        for name in ("--max_remote_ktokens", "--assumed_completion_ratio", "--wipe_requests", "--no_run", "--sandbox"):
            assert name in done.stdout

    def test_char_codes(self, tmp_path: Path) -> None:
        done = demo('--task char_codes "${MODELARGS[@]}" --assumed_completion_ratio 0.25 --sandbox', tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads((tmp_path / "tasks" / "char_codes_output.json").read_text(encoding="utf-8"))
        assert [row["character"] for row in document["characters"]] == [
            character for _, character in printable_characters()
        ]

    def test_utterance_emotion(self, tmp_path: Path) -> None:
        line = '--task utterance_emotion "${MODELARGS[@]}" --assumed_completion_ratio 0.35 --min_batch_requests 1 --sandbox'
        done = demo(line, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        rows = rows_of(tmp_path / "tasks", "utterance_emotion")
        assert sorted(row["utterance"] for row in rows) == sorted(UTTERANCES)
        assert len(rows) >= 45
        assert all(abs(sum(row["scores"].values()) - 1) < 0.01 for row in rows)

    @pytest.mark.parametrize("way", ["environment", "flag"])
    def test_against_a_sandbox_started_separately(self, server: SandboxProcess, tmp_path: Path, way: str) -> None:
        line = '--task utterance_emotion "${MODELARGS[@]}" --assumed_completion_ratio 0.35 --min_batch_requests 1'
        if way == "environment":
            done = demo(line, tmp_path, OPENAI_BASE_URL=server.url, OPENAI_API_KEY="sk-test")
        else:
            line = f"{line} --client_base_url {server.url} --remote_update_interval 0.2"
            done = demo(line, tmp_path, OPENAI_API_KEY="sk-test")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(rows_of(tmp_path / "tasks", "utterance_emotion")) == len(UTTERANCES)

    def test_without_sandbox_a_missing_key_is_one_line_and_exit_1(self, tmp_path: Path) -> None:
        done = demo("--task char_codes", tmp_path)
        assert done.returncode == 1
        assert "There is no API key" in done.stdout
        assert len(done.stdout.strip().splitlines()) == 1

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("--task nothing", "must be one of: char_codes, utterance_emotion"),
            ("--task char_codes --max_retries -1", "max_retries is -1"),
            ("--task char_codes --max_retires 3", "Did you mean --max_retries"),
            ("--task char_codes --max_remote_ktokens 90 --max_batch_ktokens 100", "max_batch_ktokens is 100"),
        ],
    )
    def test_a_mistyped_argument_is_one_line_and_exit_1(self, tmp_path: Path, line: str, message: str) -> None:
        done = demo(line, tmp_path)
        assert done.returncode == 1
        assert message in done.stdout + done.stderr
        assert len((done.stdout + done.stderr).strip().splitlines()) == 1


def wait_until(condition: object, *, process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@contextlib.contextmanager
def running(folder: Path, line: str, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*DEMO, *line.split()],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def is_on_server(folder: Path) -> bool:
    store = folder / "tasks" / "utterance_emotion_state.db"
    if not store.exists():
        return False
    with contextlib.suppress(Exception):
        return query(folder / "tasks", "SELECT count(*) FROM batch WHERE state = 'remote'", "utterance_emotion") == [
            (1,)
        ]
    return False


LINE = "--task utterance_emotion --min_batch_requests 1 --remote_update_interval 0.2"


class TestInterrupts:
    """Ctrl+C once: finish the present step, say what is safe, exit 130. The same command continues."""

    @pytest.fixture
    def slow(self, tmp_path: Path) -> Iterator[SandboxProcess]:
        with sandbox(tmp_path / "server", "timing: {validating_s: 6, minimum_s: 0, finalizing_s: 0}\n") as process:
            yield process

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_once_stops_within_seconds_and_continues_later(
        self, slow: SandboxProcess, tmp_path: Path, number: signal.Signals
    ) -> None:
        variables = {"OPENAI_BASE_URL": slow.url, "OPENAI_API_KEY": "sk-test"}
        with running(tmp_path, LINE, variables) as process:
            wait_until(lambda: is_on_server(tmp_path), process=process)
            process.send_signal(number)
            output, _ = process.communicate(timeout=15)
        assert process.returncode == 130, output.decode()
        assert b"Nothing is lost" in output
        assert b"the same command continues" in output
        assert demo(LINE, tmp_path, **variables).returncode == 0
        assert len(rows_of(tmp_path / "tasks", "utterance_emotion")) == len(UTTERANCES)
        assert files_of(slow, tmp_path / "tasks", "utterance_emotion") == []

    def test_twice_stops_at_once(self, slow: SandboxProcess, tmp_path: Path) -> None:
        variables = {"OPENAI_BASE_URL": slow.url, "OPENAI_API_KEY": "sk-test"}
        with running(tmp_path, LINE, variables) as process:
            wait_until(lambda: is_on_server(tmp_path), process=process)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
        assert process.returncode == 130
        assert demo(LINE, tmp_path, **variables).returncode == 0
        assert len(rows_of(tmp_path / "tasks", "utterance_emotion")) == len(UTTERANCES)

    def test_killed_with_its_embedded_sandbox_it_finds_its_batches_again(self, tmp_path: Path) -> None:
        """The embedded sandbox dies with its parent and comes back with all its state."""
        line = f"{LINE} --sandbox"
        with running(tmp_path, line, {}) as process:
            wait_until(lambda: is_on_server(tmp_path), process=process)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        done = demo(line, tmp_path)
        assert done.returncode == 0, done.stdout
        assert "Resuming" in done.stdout
        assert len(rows_of(tmp_path / "tasks", "utterance_emotion")) == len(UTTERANCES)
        sent = query(tmp_path / "tasks", "SELECT count(*) FROM push WHERE batch_id = 1", "utterance_emotion")
        assert sent == [(1,)], "the batch was sent twice"


class TestTwoAtOnce:
    """One process owns a task; another waits or is refused, with the owner's name."""

    def test_the_second_is_refused_with_the_holders_name(self, tmp_path: Path) -> None:
        with sandbox(tmp_path / "server", "timing: {validating_s: 100000}\n") as stuck:
            variables = {"OPENAI_BASE_URL": stuck.url, "OPENAI_API_KEY": "sk-test"}
            with running(tmp_path, LINE, variables) as first:
                wait_until(lambda: is_on_server(tmp_path), process=first)
                second = demo(f"{LINE} --lock_timeout 0.5", tmp_path, **variables)
                assert second.returncode == 1
                assert f"process {first.pid} on {os.uname().nodename}" in second.stdout
                assert "works on it" in second.stdout
                status = demo(f"{LINE} --dryrun", tmp_path, **variables)
                assert status.returncode == 0, "a dry run takes no lock"
            assert len(batches_of(stuck, tmp_path / "tasks", "utterance_emotion")) == 1

    def test_the_second_waits_and_then_goes_on(self, server: SandboxProcess, tmp_path: Path) -> None:
        """A lock is freed when its holder dies, so a stale lock file does no harm."""
        from filelock import FileLock

        (tmp_path / "tasks").mkdir()
        lock = FileLock(tmp_path / "tasks" / "utterance_emotion.lock")
        variables = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"}
        lock.acquire()
        (tmp_path / "tasks" / "utterance_emotion.lock").write_text('{"pid": 1, "host": "elsewhere", "since": 0}')
        try:
            with running(tmp_path, f"{LINE} --lock_status_interval 0.2", variables) as process:
                assert process.stdout is not None
                first_line = process.stdout.readline().decode()
                assert "Waiting for this task: process 1 on elsewhere" in first_line
                lock.release()
                process.communicate(timeout=60)
                assert process.returncode == 0
        finally:
            lock.release()
        assert len(rows_of(tmp_path / "tasks", "utterance_emotion")) == len(UTTERANCES)


class TestCommands:
    """`gpt-batch-api`"""

    def command(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gpt_batch_api", *arguments],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_status_shows_a_task_as_text_and_json(self, server: SandboxProcess, tmp_path: Path) -> None:
        demo(LINE, tmp_path, OPENAI_BASE_URL=server.url, OPENAI_API_KEY="sk-test")
        shown = self.command("status", folder=tmp_path)
        assert shown.returncode == 0
        assert "Task utterance_emotion (UtteranceEmotionTask): complete" in shown.stdout
        document = json.loads(
            self.command("status", "--task_prefix", "utterance_emotion", "--json", folder=tmp_path).stdout
        )
        assert document["samples"]["succeeded"] == len(UTTERANCES)
        assert document["output"]["rows"] == len(UTTERANCES)
        assert document["requests"]["asked"] == document["requests"]["succeeded"]

    def test_status_of_nothing_is_one_line(self, tmp_path: Path) -> None:
        shown = self.command("status", folder=tmp_path)
        assert shown.returncode == 1
        assert shown.stderr == "error: There are no tasks in tasks. Name their folder with --task_dir.\n"

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("status --jsn", "unrecognized arguments: --jsn. Did you mean --json?"),
            ("estimate --max_batch_request 3", "Did you mean --max_batch_requests?"),
            ("run in.csv", "the following arguments are required: --output. See gpt-batch-api run --help."),
        ],
    )
    def test_what_is_typed_wrong_is_one_line(self, tmp_path: Path, line: str, message: str) -> None:
        done = self.command(*line.split(), folder=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.endswith(f"{message}\n")
        assert len(done.stderr.splitlines()) == 1

    def test_sandbox_runs_the_server(self, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt_batch_api", "sandbox", "--db", str(tmp_path / "s.db"), "--until_stdin_closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        assert process.stdin is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        process.stdin.close()
        assert process.wait(20) == 0
        process.stdout.close()

    @pytest.mark.parametrize("module", ["gpt_batch_api", "gpt_batch_api.task_manager_demo"])
    def test_help_is_instant(self, module: str, tmp_path: Path) -> None:
        """Nothing heavy is imported for it (CPU time is measured in benchmarks/startup.py)."""
        script = (
            "import sys, runpy\n"
            "sys.argv = ['x', '--help']\n"
            "try:\n"
            f"    runpy.run_module({module!r}, run_name='__main__')\n"
            "except SystemExit:\n"
            "    pass\n"
            "heavy = {'openai', 'tiktoken', 'rich', 'starlette', 'uvicorn', 'yaml', 'httpx2', 'sqlite3'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
