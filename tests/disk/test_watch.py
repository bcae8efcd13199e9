"""The watch sees every change that the system sees, and its faults arrive as the system's own would."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash import jobs
from tests.disk.harness import KILLED, run
from tests.disk.watch import Fault

ROOT = Path(__file__).parents[2]


def scribble(folder: Path, _: str) -> int:
    """One of each change that Python makes."""
    folder.mkdir()
    path = folder / "text.txt"
    with path.open("w") as stream:
        stream.write("hello")
        stream.flush()
        os.fsync(stream.fileno())
    with path.open("ab") as stream:
        stream.write(b" world")
        stream.truncate(4)
    path.rename(folder / "other.txt")
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    (folder / "other.txt").write_text("anew")
    (folder / "other.txt").unlink()
    return 0


def test_pythons_own_files_are_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    ran = run(scribble, root, "")
    assert ran.code == 0, ran.said
    assert [change.name for change in ran.changes] == [
        "mkdir tasks",
        "create text.txt",
        "write text.txt",
        "sync text.txt",
        "write text.txt",
        "truncate text.txt",
        "rename text.txt",
        "sync_folder tasks",
        "truncate other.txt",
        "write other.txt",
        "unlink other.txt",
    ]
    assert [change.data for change in ran.changes if change.kind == "write"] == [
        (0, b"hello"),
        (5, b" world"),
        (0, b"anew"),
    ]


def commit(folder: Path, _: str) -> int:
    """One transaction; the exit code says what SQLite made of it."""
    folder.mkdir()
    db = sqlite3.connect(folder / "x.db")
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
    except sqlite3.OperationalError as error:
        return {"database or disk is full": 10, "disk I/O error": 11}.get(str(error), 12)
    finally:
        db.close()
    return 0


@pytest.mark.parametrize(("error", "code"), [(errno.ENOSPC, 10), (errno.EIO, 11)])
def test_sqlites_files_are_seen_and_refused(tmp_path: Path, error: int, code: int) -> None:
    """The first write to the journal: it is full, or broken."""
    root = tmp_path / "root"
    root.mkdir()
    ran = run(commit, root, "")
    names = [change.name for change in ran.changes]
    assert {"create x.db", "create x.db-wal", "write x.db-wal", "sync x.db-wal", "sync x.db", "unlink x.db-wal"} <= set(
        names
    )
    assert ran.code == 0
    shutil.rmtree(root / "tasks")
    refused = run(commit, root, "", fault=Fault(names.index("write x.db-wal") + 1, error, stays=True))
    assert refused.code == code


def test_the_process_dies_before_the_change_at_which_it_is_to_die(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    ran = run(scribble, root, "", cut_at=3)
    assert ran.code == KILLED
    assert [change.name for change in ran.changes] == ["mkdir tasks", "create text.txt"]
    assert (root / "tasks" / "text.txt").read_bytes() == b""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_watch_sees_what_the_system_sees(alone: SandboxProcess, tmp_path: Path) -> None:
    """A job under strace makes as many changes as one that is watched: none goes past the watch."""
    watched, plain, trace = tmp_path / "watched", tmp_path / "plain", tmp_path / "trace"
    watched.mkdir()
    plain.mkdir()
    seen = Counter(change.kind for change in run(jobs.two_batches, watched, alone.url).changes)
    code = "import sys; from pathlib import Path; from tests.crash import jobs; jobs.two_batches(Path(sys.argv[1]), sys.argv[2])"
    calls = (
        "write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,link,linkat,fallocate"
    )
    command = ["strace", "-f", "-y", "-e", f"trace={calls}", "-o", str(trace), sys.executable, "-c", code]
    done = subprocess.run([*command, str(plain / "tasks"), alone.url], cwd=ROOT, capture_output=True, check=False)
    if "ptrace" in done.stderr.decode().lower():
        pytest.skip("tracing is not allowed here")
    assert done.returncode == 0
    system: Counter[str] = Counter()
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+ +([a-z]+)", line)
        if call and str(plain) in line and "-shm" not in line and "ENOENT" not in line:
            system[call.group(1)] += 1
    assert system["unlink"] == seen["unlink"]
    assert system["rename"] == seen["rename"]
    assert system["fsync"] + system["fdatasync"] == seen["sync"] + seen["sync_folder"]
    # The pages that a transaction touches differ a little from run to run; the writes must not be others by kind.
    assert set(system) == {"write", "pwrite", "fsync", "fdatasync", "rename", "unlink"}
    assert abs(system["write"] + system["pwrite"] - seen["write"]) <= seen["write"] // 10
