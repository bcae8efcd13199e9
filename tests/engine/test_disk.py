"""A disk that refuses writes, a store that is damaged: one clear line, nothing lost, the same command goes on."""

from __future__ import annotations

import multiprocessing
import resource
import sqlite3
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import ToyTask, batches_of, books, query, rows_of, settings_for

FORK = multiprocessing.get_context("spawn")


class BigTask(ToyTask):
    """Enough requests that store, batch file and output grow past every small limit."""

    name = "toy"
    count = 600


def run_with_file_limit(url: str, folder: Path, limit_bytes: int, log: Path, force_direct: bool = False) -> None:
    """Run in this process, where no file may grow beyond *limit_bytes*."""
    from gpt_batch_api.utils import configure_logging
    from tests.toy import QUICK

    with log.open("w") as stream:
        configure_logging(stream=stream)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        code = BigTask(client_base_url=url, task_dir=folder, **{**QUICK, "force_direct": force_direct}).main()
    raise SystemExit(code)


@pytest.mark.parametrize("limit_kb", [40, 120, 200, 330, 450, 700])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    server: SandboxProcess, tasks: Path, tmp_path: Path, limit_kb: int
) -> None:
    """Wherever the disk refuses: in the store, the batch file, the spool or the output."""
    log = tmp_path / "log"
    process = FORK.Process(target=run_with_file_limit, args=(server.url, tasks, limit_kb * 1000, log))
    process.start()
    process.join(60)
    assert process.exitcode == 1
    (line,) = [line for line in log.read_text().splitlines() if "ERROR" in line]
    assert f"The disk of {tasks} refused to write toy_" in line
    assert "then run the same command again" in line
    assert BigTask(settings_for(server, tasks)).run()
    assert len({row["key"] for row in rows_of(tasks)}) == len(rows_of(tasks)) == BigTask.count
    numbers = [batch["metadata"]["gpt_batch_api_batch"] for batch in batches_of(server, tasks)]
    assert len(numbers) == len(set(numbers)), "a batch was paid twice"


@pytest.mark.parametrize("limit_kb", [200, 450, 700])
def test_a_full_disk_loses_no_direct_call_from_the_books(
    server: SandboxProcess, tasks: Path, tmp_path: Path, limit_kb: int
) -> None:
    """What was in flight and could not be booked counts as spent, and is asked again."""
    log = tmp_path / "log"
    process = FORK.Process(target=run_with_file_limit, args=(server.url, tasks, limit_kb * 1000, log, True))
    process.start()
    process.join(60)
    assert process.exitcode == 1
    (line,) = [line for line in log.read_text().splitlines() if "ERROR" in line]
    assert f"The disk of {tasks} refused to write toy_" in line
    assert "then run the same command again" in line
    assert BigTask(settings_for(server, tasks), force_direct=True).run()
    assert len({row["key"] for row in rows_of(tasks)}) == len(rows_of(tasks)) == BigTask.count
    spent, reserved, unlinked, linked = books(tasks)
    assert (spent, reserved) == (linked + unlinked, 0)


def test_a_damaged_store_is_told(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks)).run()
    store = tasks / "toy_state.db"
    content = bytearray(store.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    store.write_bytes(content)
    with pytest.raises(StoreError, match=r"The store toy_state.db is damaged .* Restore it from a backup") as caught:
        ToyTask(settings_for(server, tasks)).run()
    assert "\n" not in str(caught.value)


def test_something_else_than_a_store_is_told(server: SandboxProcess, tasks: Path) -> None:
    (tasks / "toy_state.db").write_text("my diary\n" * 100)
    with pytest.raises(StoreError, match=r"toy_state.db is damaged \(file is not a database\)"):
        ToyTask(settings_for(server, tasks)).run()
    assert (tasks / "toy_state.db").read_text().startswith("my diary")


def test_a_database_of_another_program_is_told(server: SandboxProcess, tasks: Path) -> None:
    db = sqlite3.connect(tasks / "toy_state.db")
    db.execute("CREATE TABLE recipes (name TEXT)")
    db.close()
    with pytest.raises(StoreError, match="is an SQLite file of another program"):
        ToyTask(settings_for(server, tasks)).run()


def test_a_store_of_a_newer_version_is_told(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks)).run()
    query(tasks, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"written by a newer gpt_batch_api \(schema 99.*Update gpt_batch_api"):
        ToyTask(settings_for(server, tasks)).run()
