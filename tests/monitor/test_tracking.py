"""What a run logs to wandb, read back from its files on disk; and that nothing of wandb's troubles reaches the run.

Every run is a process of its own, as users have it. Nothing but loopback is talked to.
"""

from __future__ import annotations

import contextlib
import glob
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.monitor.processes import processes_with, wait_for_their_end
from tests.monitor.recount import ONE_BY_ONE
from tests.monitor.tracked import BATCH, Tracked
from tests.monitor.wandb_files import WrittenRun, read_run
from tests.monitor.wandb_server import WandbServer, wandb_server
from tests.toy import QUICK, query, rows_of

ROOT = Path(__file__).parents[2]
SECRETS = {"OPENAI_API_KEY": "sk-test-secret", "OPENAI_ORG_ID": "org-secret", "OPENAI_PROJECT_ID": "proj-secret"}
SLOWER_S = 4.0
"""How much longer a run may take for the sake of a tracker, besides twice its time: machines are shared and noisy."""


def track(
    server: SandboxProcess, folder: Path, *flags: str, ends: int = 0, wait: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the task in *folder*/tasks, with wandb's files in *folder* and nothing of the user's own settings.

    Then *wait* for the end of the process of wandb.
    """
    (folder / "tasks").mkdir(exist_ok=True)
    quick = {**QUICK, "task_dir": "tasks", "client_base_url": server.url, "max_batch_requests": BATCH}
    del quick["openai_api_key"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "WANDB_DIR": str(folder),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        **SECRETS,
        **variables,
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.monitor.tracked",
            *(f"--{name}={value}" for name, value in quick.items()),
            *flags,
        ],
        cwd=folder,
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,
    )
    if wait:
        wait_for_their_end("HOME", str(folder))
    assert done.returncode == ends, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def told_to_sync(output: str) -> list[WrittenRun]:
    """What is written where the last line about it says, in the order in which a shell finds it."""
    pattern = output.rpartition("wandb sync ")[2].splitlines()[0]
    return [read_run(Path(one)) for one in sorted(glob.glob(pattern))]


def written(folder: Path) -> list[WrittenRun]:
    """What each process wrote, in the order of time."""
    folders = (folder / "wandb").glob("*run-*")
    return [read_run(one) for one in sorted(folders, key=lambda path: (path / "files").stat().st_ctime_ns)]


def last_look(run: WrittenRun) -> dict[str, Any]:
    """The last row of figures; the table of batches has a row of its own."""
    return [row for row in run.rows if "task/complete" in row][-1]


def recounted(folder: Path) -> dict[str, Any]:
    """Every figure that can be counted from the rows of the store, as it is to be logged."""
    db = sqlite3.connect(folder / "tasks" / "toy_state.db")
    try:
        found = {name: db.execute(sql).fetchone()[0] for name, sql in ONE_BY_ONE.items()}
    finally:
        db.close()
    return {
        name.removesuffix("_pico"): value / 1e12 if name.endswith("_pico") else value
        for name, value in found.items()
        if value is not None
    }


class TestOffline:
    """Without a key all is written to disk."""

    def test_every_figure_of_the_last_look_is_what_the_rows_of_the_store_say(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        done = track(server, tmp_path, "--wandb", TRACKED="logs")
        (run,) = written(tmp_path)
        last = last_look(run)
        assert {name: last[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
        assert last["task/complete"] == 1
        assert (last["own/share"], last["own/seen"]) == (1.0, Tracked.count)
        assert run.finished
        assert f"wandb sync {tmp_path}/wandb/offline-run-" in done.stdout
        assert run.steps == sorted(set(run.steps))

    def test_each_batch_has_its_step_and_its_row_in_the_table(self, server: SandboxProcess, tmp_path: Path) -> None:
        track(server, tmp_path, "--wandb")
        (run,) = written(tmp_path)
        stored = query(
            tmp_path / "tasks",
            "SELECT id, requests, size_bytes, n_succeeded, used_input_tokens, used_output_tokens, "
            "1.0 * used_output_tokens / used_output_allowance, longest_output_tokens, expected_cost_pico / 1e12, "
            "true_cost_pico / 1e12 FROM batch ORDER BY id",
        )
        names = (
            "number requests size_bytes succeeded input_tokens output_tokens completion_ratio longest_output_tokens "
            "predicted_cost cost"
        ).split()
        assert len(stored) == Tracked.count // BATCH
        steps = [row for row in run.rows if "batch/number" in row]
        assert [[row[f"batch/{name}"] for name in names] for row in steps] == [pytest.approx(list(r)) for r in stored]
        table = run.tables[-1]
        places = [table["columns"].index(name) for name in names]
        assert [[row[place] for place in places] for row in table["data"]] == [pytest.approx(list(r)) for r in stored]

    def test_the_run_is_configured_by_settings_without_secrets(self, server: SandboxProcess, tmp_path: Path) -> None:
        track(server, tmp_path, "--wandb", "--wandb_project=words", "--wandb_name=night", "--max_retries=5")
        (run,) = written(tmp_path)
        uuid = query(tmp_path / "tasks", "SELECT uuid FROM task")[0][0]
        assert (run.id, run.project, run.group, run.name) == (uuid, "words", "Tracked", "night")
        assert run.config["task"] == {"class": "Tracked", "uuid": uuid, "prefix": "toy"}
        assert run.config["metadata"] == dict(Tracked.defaults)
        assert run.config["settings"]["max_retries"] == 5
        assert run.axes["money/*"] == "task/age_s"
        assert run.axes["batch/*"] == "batch/number"
        for path in [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]:
            assert not any(secret.encode() in path.read_bytes() for secret in SECRETS.values()), path

    def test_after_a_kill_the_same_command_goes_on_with_the_run_and_logs_nothing_twice(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        soon: dict[str, Any] = {"WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}  # wandb's own pace is 15 s
        track(server, tmp_path, "--wandb", ends=-9, TRACKED="kills", **soon)
        track(server, tmp_path, "--wandb")
        first, second = written(tmp_path)
        assert first.id == second.id
        assert first.rows
        steps = first.steps + second.steps
        assert steps == sorted(set(steps))
        batches = [row["batch/number"] for row in first.rows + second.rows if "batch/number" in row]
        assert batches == sorted(set(batches))
        assert [row[0] for row in second.tables[-1]["data"]] == list(range(1, 1 + Tracked.count // BATCH))
        last = last_look(second)
        assert {name: last[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
        assert len(rows_of(tmp_path / "tasks")) == Tracked.count

    def test_what_was_on_its_way_at_a_kill_is_logged_by_the_process_of_wandb(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        """It had not even imported wandb then."""
        with gate(tmp_path) as shut:
            track(server, tmp_path, "--wandb", ends=-9, wait=False, TRACKED="kills_at_once", **shut)
            assert not (tmp_path / "wandb").exists()
        wait_for_their_end("HOME", str(tmp_path))
        (run,) = written(tmp_path)
        assert run.rows
        assert run.finished

    def test_a_ctrl_c_is_for_the_run_alone(self, server: SandboxProcess, tmp_path: Path) -> None:
        done = track(server, tmp_path, "--wandb", ends=130, TRACKED="interrupts")
        (run,) = written(tmp_path)
        assert {name: last_look(run)[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
        assert run.finished
        assert "KeyboardInterrupt" not in done.stderr

    def test_what_was_rolled_back_is_never_logged(self, server: SandboxProcess, tmp_path: Path) -> None:
        done = track(server, tmp_path, "--wandb", ends=1, TRACKED="breaks")
        assert "a mistake" in done.stdout
        (run,) = written(tmp_path)
        assert not any("own/wrong" in row for row in run.rows)
        assert {name: last_look(run)[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
        assert last_look(run)["requests/succeeded"] == 2 * BATCH

    def test_a_run_id_that_was_given_once_is_remembered(self, server: SandboxProcess, tmp_path: Path) -> None:
        track(server, tmp_path, "--wandb", "--wandb_run_id=mine", "--max_session_requests=20", ends=3)
        track(server, tmp_path, "--wandb")
        first, second = written(tmp_path)
        assert (first.id, second.id) == ("mine", "mine")
        assert first.steps[-1] < second.steps[0]

    def test_a_task_from_scratch_is_another_run(self, server: SandboxProcess, tmp_path: Path) -> None:
        track(server, tmp_path, "--wandb")
        track(server, tmp_path, "--wandb", "--wipe_task")
        first, second = written(tmp_path)
        assert second.id == f"{first.id}-2"


def test_a_run_of_the_script_is_used_and_left_to_it(server: SandboxProcess, tmp_path: Path) -> None:
    """Names have a prefix there, and what the script logs before and after is all there."""
    track(server, tmp_path, "--wandb", WANDB_MODE="offline", TRACKED="own_run")
    (run,) = written(tmp_path)
    assert run.project == "theirs"
    assert [name for row in run.rows for name in row if name in ("before", "after")] == ["before", "after"]
    ours = [row for row in run.rows if "toy/requests/total" in row][-1]
    assert {name: ours[f"toy/{name}"] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
    assert run.config["toy"]["task"]["class"] == "Tracked"


def test_a_requester_without_a_task_logs_too(server: SandboxProcess, tmp_path: Path) -> None:
    track(server, tmp_path, "--wandb", TRACKED="requester")
    (run,) = written(tmp_path)
    assert run.group == "GPTRequester"
    assert last_look(run)["requests/succeeded"] == 3
    assert {name: last_look(run)[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))


@contextlib.contextmanager
def gate(folder: Path) -> Iterator[dict[str, Any]]:
    """Nobody can import wandb until this is left. What it gives belongs into the environment."""
    fakes, opened = folder / "fakes", folder / "opened"
    fakes.mkdir()
    (fakes / "wandb.py").write_text(GATE)
    try:
        yield {"GATE": str(opened), "PYTHONPATH": f"{fakes}{os.pathsep}{ROOT}", "IN_TIME": "1"}
    finally:
        opened.touch()


GATE = """
import importlib, os, sys, time

while not os.path.exists(os.environ["GATE"]):
    time.sleep(0.05)
sys.path.remove(os.path.dirname(__file__))
del sys.modules["wandb"]
importlib.import_module("wandb")
"""


def online(server: WandbServer) -> dict[str, Any]:
    """The environment of somebody who is logged in."""
    return {
        "WANDB_API_KEY": "k" * 40,
        "WANDB_BASE_URL": server.address,
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",  # wandb's own pace is 15 s
    }


class TestOnline:
    """With a key and a server that answers the figures go there. (The server is a stand-in; no network.)"""

    def test_who_is_logged_in_need_not_ask_for_it(self, server: SandboxProcess, tmp_path: Path) -> None:
        with wandb_server() as wandb:
            done = track(server, tmp_path, TRACKED="logs", **online(wandb))
        last = [row for row in wandb.rows if "task/complete" in row][-1]
        assert {name: last[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
        assert last["own/seen"] == Tracked.count
        assert f"wandb logs to {wandb.address}/me/words/runs/" in done.stdout
        assert not any(secret.encode() in body for body in wandb.heard for secret in SECRETS.values())

    def test_after_a_kill_the_run_goes_on_and_the_server_has_nothing_twice(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        with wandb_server() as wandb:
            track(server, tmp_path, ends=-9, TRACKED="kills", **online(wandb))
            track(server, tmp_path, **online(wandb))
        steps = [row["_step"] for row in wandb.rows]
        assert {step // 1_000_000 for step in steps} == {1, 2}
        assert steps == sorted(set(steps))
        batches = [row["batch/number"] for row in wandb.rows if "batch/number" in row]
        assert batches == sorted(set(batches))
        last = [row for row in wandb.rows if "task/complete" in row][-1]
        assert {name: last[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))

    def test_a_server_that_does_not_take_the_run_leaves_it_offline(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        with wandb_server(denies=True) as wandb:
            done = track(server, tmp_path, "--wandb", **online(wandb))
        assert "wandb logs offline because its server did not take the run" in done.stdout
        assert max(last_look(run)["requests/succeeded"] for run in written(tmp_path) if run.rows) == Tracked.count

    def test_a_session_that_begins_while_the_one_before_is_still_being_sent_waits_for_its_turn(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        """The server has all looks of both, each once and in order."""
        with wandb_server() as wandb:
            with gate(tmp_path) as shut:
                variables = {**online(wandb), **shut}
                track(server, tmp_path, "--max_session_requests=20", ends=3, wait=False, **variables)
                track(server, tmp_path, wait=False, **variables)
                assert wandb.rows == []
            wait_for_their_end("HOME", str(tmp_path))
        steps = [row["_step"] for row in wandb.rows]
        assert {step // 1_000_000 for step in steps} == {1, 2}
        assert steps == sorted(set(steps))
        batches = [row["batch/number"] for row in wandb.rows if "batch/number" in row]
        assert batches == list(range(1, 1 + Tracked.count // BATCH))
        last = [row for row in wandb.rows if "task/complete" in row][-1]
        assert {name: last[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))

    def test_a_server_that_answers_after_the_run_has_left_without_it_is_not_sent_to(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        """What the run has said is true: the figures are on disk."""
        with wandb_server() as wandb:
            wandb.silent.set()
            with gate(tmp_path) as shut:
                done = track(server, tmp_path, wait=False, **{**online(wandb), **shut})
                wandb.silent.clear()
                deadline = time.monotonic() + 60
                while not wandb.answers:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            wait_for_their_end("HOME", str(tmp_path))
        assert wandb.rows == []
        (run,) = told_to_sync(done.stdout)
        assert last_look(run)["requests/succeeded"] == Tracked.count

    @pytest.mark.parametrize("moment", ["upsertBucket", "file_stream"])
    def test_a_server_that_falls_silent_is_left_to_the_process_of_wandb(
        self, server: SandboxProcess, tmp_path: Path, moment: str
    ) -> None:
        """All is kept on disk, where the run has said that it is."""
        with wandb_server(silent_after=moment) as wandb:
            done = track(server, tmp_path, "--wandb", IN_TIME="1", **online(wandb))
        assert "has not taken the last figures" not in done.stdout
        assert f"{wandb.address} does not answer. To send what it has not got yet: wandb sync" in done.stdout
        runs = told_to_sync(done.stdout)
        assert max(last_look(run)["requests/succeeded"] for run in runs if run.rows) == Tracked.count


def test_who_only_waits_for_the_task_logs_nothing(server: SandboxProcess, tmp_path: Path) -> None:
    """Another process owns the task, and logs it."""
    track(server, tmp_path, "--no_wandb")
    with FileLock(tmp_path / "tasks" / "toy.lock"):
        done = track(server, tmp_path, "--wandb", "--lock_timeout=0.5", "--lock_status_interval=0.1", ends=1)
    assert "Waiting for this task" in done.stdout
    assert not (tmp_path / "wandb").exists()


def test_the_run_itself_never_imports_it(server: SandboxProcess, tmp_path: Path) -> None:
    done = track(server, tmp_path, "--wandb", TRACKED="tells_modules")
    assert done.stdout.endswith("imported: []\n")
    assert len(written(tmp_path)) == 1


class TestOff:
    """Where nobody wants wandb it is not even imported."""

    @pytest.mark.parametrize(
        ("flags", "variables"),
        [
            (["--no_wandb"], {"WANDB_API_KEY": "k" * 40}),
            ([], {}),
            ([], {"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "disabled"}),
            (["--wandb", "--dryrun"], {"WANDB_API_KEY": "k" * 40}),
            (["--wandb", "--estimate"], {}),
        ],
        ids=["told so", "not logged in", "disabled", "dry run", "estimate"],
    )
    def test_it_is_not_imported(
        self, server: SandboxProcess, tmp_path: Path, flags: list[str], variables: dict[str, Any]
    ) -> None:
        done = track(server, tmp_path, *flags, TRACKED="tells_modules", **variables)
        assert done.stdout.endswith("imported: []\n")
        assert not (tmp_path / "wandb").exists()

    def test_a_netrc_without_a_key_for_the_server_is_not_logged_in(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        (tmp_path / ".netrc").write_text("machine other.example login me password secret\n")
        (tmp_path / ".netrc").chmod(0o600)
        done = track(server, tmp_path)
        assert not (tmp_path / "wandb").exists()
        assert "wandb" not in done.stdout


@contextlib.contextmanager
def port(*, accepts: bool) -> Iterator[str]:
    """The address of a server that refuses all connections, or one that accepts them and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if accepts:
            listener.listen(100)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def seconds_of(server: SandboxProcess, folder: Path, *flags: str, **variables: Any) -> tuple[float, str]:
    folder.mkdir()
    begin = time.monotonic()
    done = track(server, folder, *flags, IN_TIME="1", **variables)
    seconds = time.monotonic() - begin
    assert len(rows_of(folder / "tasks")) == Tracked.count
    return seconds, done.stdout


BROKEN_LATER = """
from types import SimpleNamespace

run = None
Settings = dict

def broken(*values, **named):
    raise RuntimeError("out of order")

def setup(settings=None):
    return SimpleNamespace(settings=SimpleNamespace(base_url="http://127.0.0.1:9"))

def login(**named):
    return False

def init(**named):
    return SimpleNamespace(
        log=broken, finish=broken, define_metric=lambda *a, **n: None, offline=True, settings=SimpleNamespace(sync_dir="x")
    )
"""


class TestTrouble:
    """Whatever wandb does, the run ends well and in time."""

    @pytest.mark.parametrize("accepts", [False, True], ids=["refuses", "never answers"])
    def test_with_an_unreachable_host_the_run_ends_while_wandb_is_not_even_imported(
        self, server: SandboxProcess, tmp_path: Path, accepts: bool
    ) -> None:
        """Its process goes on, and writes the last figures where the run has said."""
        with port(accepts=accepts) as address, gate(tmp_path) as shut:
            key: dict[str, Any] = {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": address}
            done = track(server, tmp_path, "--wandb", wait=False, **key, **shut)
            assert processes_with("HOME", str(tmp_path))
            assert not (tmp_path / "wandb").exists()
        (told,) = [line for line in done.stdout.splitlines() if "wandb" in line]
        assert f"wandb logs offline because {address} does not answer" in told
        wait_for_their_end("HOME", str(tmp_path))
        (run,) = told_to_sync(done.stdout)
        assert {name: last_look(run)[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))
        assert last_look(run)["task/complete"] == 1
        assert run.finished

    def test_two_sessions_that_are_still_being_written_have_a_folder_each(
        self, server: SandboxProcess, tmp_path: Path
    ) -> None:
        with port(accepts=False) as address, gate(tmp_path) as shut:
            variables = {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": address, **shut}
            track(server, tmp_path, "--wandb", "--max_session_requests=20", ends=3, wait=False, **variables)
            done = track(server, tmp_path, "--wandb", wait=False, **variables)
        wait_for_their_end("HOME", str(tmp_path))
        first, second = told_to_sync(done.stdout)
        assert first.id == second.id
        assert first.finished
        assert second.finished
        steps = first.steps + second.steps
        assert {step // 1_000_000 for step in steps} == {1, 2}
        assert steps == sorted(set(steps))
        assert {name: last_look(second)[name] for name in recounted(tmp_path)} == pytest.approx(recounted(tmp_path))

    @pytest.mark.parametrize("accepts", [False, True], ids=["refuses", "never answers"])
    def test_an_unreachable_host_costs_no_time(self, server: SandboxProcess, tmp_path: Path, accepts: bool) -> None:
        """What could not be sent is kept for later."""
        plain_s, _ = seconds_of(server, tmp_path / "plain", "--no_wandb")
        with port(accepts=accepts) as address:
            tracked_s, output = seconds_of(
                server, tmp_path / "tracked", "--wandb", WANDB_API_KEY="k" * 40, WANDB_BASE_URL=address
            )
        assert tracked_s < 2 * plain_s + SLOWER_S
        assert f"wandb logs offline because {address} does not answer" in output
        (run,) = written(tmp_path / "tracked")
        assert last_look(run)["requests/succeeded"] == Tracked.count

    @pytest.mark.parametrize(
        ("source", "complaint"),
        [
            ("def __getattr__(name): raise RuntimeError('out of order')", "cannot be used"),
            ("raise OSError(28, 'No space left on device')", "cannot be used"),
            (BROKEN_LATER, "did not take some figures"),
            ("import time\ntime.sleep(1000)", "has not taken the last figures within"),
            ("import os\nos._exit(1)", "its process has ended"),
        ],
        ids=["every call", "import", "later calls", "never comes back", "dies"],
    )
    def test_a_library_that_fails_or_hangs_is_one_line(
        self, server: SandboxProcess, tmp_path: Path, source: str, complaint: str
    ) -> None:
        """A module of that name stands for the library; it raises on every call, or does not come back.

        The process that imports it has ended soon after the run.
        """
        fakes = tmp_path / "fakes"
        fakes.mkdir()
        (fakes / "wandb.py").write_text(source)
        done = track(server, tmp_path, "--wandb", PYTHONPATH=f"{fakes}{os.pathsep}{ROOT}", IN_TIME="1", LAST_S="8")
        assert len(rows_of(tmp_path / "tasks")) == Tracked.count
        told = [line for line in done.stdout.splitlines() if "WARNING: wandb" in line]
        assert len(told) == 1
        assert complaint in told[0]

    def test_a_missing_library_is_one_line_that_names_the_extra(self, server: SandboxProcess, tmp_path: Path) -> None:
        done = track(server, tmp_path, "--wandb", TRACKED="without")
        assert len(rows_of(tmp_path / "tasks")) == Tracked.count
        (told,) = [line for line in done.stdout.splitlines() if "wandb" in line]
        assert 'pip install "gpt-batch-api[wandb]"' in told

    def test_a_folder_that_cannot_be_made_is_one_line(self, server: SandboxProcess, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = track(server, tmp_path, "--wandb", f"--wandb_dir={tmp_path}/file/inside")
        assert len(rows_of(tmp_path / "tasks")) == Tracked.count
        assert len([line for line in done.stdout.splitlines() if "WARNING: wandb" in line]) == 1
