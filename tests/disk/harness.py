"""Run a job in a process whose files are watched, cut its power or refuse its writes, and look at the world afterwards."""

from __future__ import annotations

import json
import multiprocessing
import random
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.health import Health
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine.doctor import examine
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.connection import Store
from gpt_batch_api.utils import configure_logging
from tests.crash.harness import end_with_parent
from tests.disk.survival import Disk
from tests.disk.watch import Change, Fault, Watch, changes_in
from tests.toy import ask, batches_of, books, files_of, query

KILLED = -9
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.disk.warm"])

Job = Callable[[Path, str], int]
"""Runs a task in a folder against a server URL; its exit code. Must be a function at the top of a module."""


@dataclass(frozen=True)
class Ran:
    """What became of a run."""

    code: int
    said: str
    changes: list[Change]
    disk: Disk
    """The disk with all that the run changed."""

    @property
    def errors(self) -> list[str]:
        """The lines that tell of an error."""
        return [line for line in self.said.splitlines() if "ERROR" in line]


def run(
    job: Job, root: Path, url: str, *, cut_at: int | None = None, fault: Fault | None = None, forgets: str = ""
) -> Ran:
    """Run *job* in `root/tasks`, in a process of its own, watched as `Watch` says."""
    log, said = root.with_name(f"{root.name}.log"), root.with_name(f"{root.name}.said")
    log.unlink(missing_ok=True)
    disk = Disk(root)
    process = _FORK.Process(target=_child, args=(job, root, url, log, said, cut_at, fault, forgets))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"stuck: the job did not end (cut_at={cut_at}, fault={fault})\n{said.read_text()}")
    logged = list(changes_in(log))
    disk.play(logged)
    changes = [change for change in logged if change.kind not in ("acknowledged", "sync_failed")]
    return Ran(process.exitcode, said.read_text(encoding="utf-8"), changes, disk)


def _child(
    job: Job,
    root: Path,
    url: str,
    log: Path,
    said: Path,
    cut_at: int | None,
    fault: Fault | None,
    forgets: str,
) -> None:
    end_with_parent()
    with said.open("w", encoding="utf-8") as stream:
        configure_logging(stream=stream)
        watch = Watch(root, log, cut_at=cut_at, fault=fault, forgets=forgets)
        watch.install()
        _acknowledge_commits(watch)
        code = job(root / "tasks", url)
    raise SystemExit(code)


def _acknowledge_commits(watch: Watch) -> None:
    """A commit that has returned is a promise: note what the store says at each of them."""
    commit = Store.commit

    def commit_and_tell(self: Store) -> None:
        commit(self)
        watch.acknowledge(Promised.look(self.db))

    Store.commit = commit_and_tell  # type: ignore[method-assign]


@dataclass(frozen=True)
class Promised:
    """What a store says that must never be unsaid: money moves, answers, batches at the server, delivered rows."""

    ledger: tuple[tuple[Any, ...], ...]
    responses: int
    pushes: tuple[tuple[Any, ...], ...]
    rows: int

    @classmethod
    def look(cls, db: sqlite3.Connection) -> Promised:
        """What the store behind *db* says now."""

        def all_of(sql: str) -> tuple[tuple[Any, ...], ...]:
            return tuple(tuple(row) for row in db.execute(sql).fetchall())

        return cls(
            ledger=all_of("SELECT id, kind, batch_id, reserved_pico, spent_pico FROM ledger ORDER BY id"),
            responses=all_of("SELECT count(*) FROM response")[0][0],
            pushes=all_of("SELECT upload_nonce, create_nonce, file_id, remote_id FROM push ORDER BY id"),
            rows=all_of("SELECT coalesce(sum(rows), 0) FROM delivery WHERE generation > 0")[0][0],
        )


def survivors(disk: Disk, target: Path, *, fate: str, seed: int) -> None:
    """Put what a power cut leaves of *disk* into *target*, and insist that it holds all that was promised."""
    disk.cut(target, fate=fate, chance=random.Random(seed))
    promised: Promised | None = disk.acknowledged
    if promised is None:
        return
    look_at = target.with_name(f"{target.name}.look")
    disk.cut(look_at, fate=fate, chance=random.Random(seed))
    store = look_at / "tasks" / "toy_state.db"
    assert store.exists(), "the store is gone"
    insist_on_health(store.parent)
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'ledger'").fetchone(), "the store is empty"
        now = Promised.look(db)
        delivered = db.execute("SELECT file_name, size_bytes, crc32 FROM delivery WHERE generation > 0").fetchall()
    assert now.ledger[: len(promised.ledger)] == promised.ledger, "money that was booked is gone"
    assert now.responses >= promised.responses, "answers that were booked are gone"
    assert _known(now.pushes) >= _known(promised.pushes), "what was sent is forgotten"
    assert now.rows >= promised.rows, "delivered rows are not delivered any more"
    for name, size, crc in delivered:
        path = look_at / "tasks" / name
        assert path.exists(), f"delivered, but gone: {name}"
        content = path.read_bytes()[:size]
        assert (len(content), zlib.crc32(content)) == (size, crc), f"delivered, but not what it was: {name}"


def insist_on_health(folder: Path) -> None:
    """`gpt-batch-api doctor` finds nothing wrong, and leaves no trace."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    diagnosis = examine(Workplace(folder, "toy"))
    wrong = [text for check in diagnosis.checks if check.health is Health.WRONG for text in check.found]
    assert diagnosis.healthy, f"not healthy: {wrong}"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "the check changed something"


def _known(pushes: tuple[tuple[Any, ...], ...]) -> set[Any]:
    return {word for push in pushes for word in push if word is not None}


@dataclass(frozen=True)
class Bill:
    """What the server has charged for, to whomever."""

    requests: int
    cost_pico: int

    @classmethod
    def of(cls, server: SandboxProcess) -> Bill:
        """What it has charged for until now."""
        total = ask(server, "/sandbox/ledger")["total"]
        return cls(total["requests"], total["cost_pico"])


def check_world(
    folder: Path, server: SandboxProcess, *, keys: set[str], before: Bill, in_flight: int | None = None
) -> None:
    """Every row once, everything paid once, every coin booked as the server billed it, nothing left anywhere.

    Of direct calls as many as were *in_flight* may be unknown: booked as spent, and asked again. None: batches only.
    """
    insist_on_health(folder)
    rows = _rows(folder)
    assert Counter(row["key"] for row in rows) == Counter(keys), "not every row once"
    assert dict(query(folder, "SELECT state, count(*) FROM request GROUP BY state")) == {"succeeded": len(keys)}
    spent, reserved, unlinked, linked = books(folder)
    assert (reserved, spent) == (0, linked + unlinked)
    remote = batches_of(server, folder)
    numbers = Counter(batch["metadata"]["gpt_batch_api_batch"] for batch in remote)
    assert not numbers or set(numbers.values()) == {1}, "a batch was paid twice"
    after = Bill.of(server)
    paid_again = after.requests - before.requests - len(keys)
    assert 0 <= paid_again <= (in_flight or 0), f"{paid_again} requests were paid again"
    if in_flight is None:
        assert spent == linked == after.cost_pico - before.cost_pico, "not what the server billed"
    else:
        unknown = [int(note.split()[0]) for (note,) in query(folder, "SELECT note FROM ledger WHERE kind = 'unknown'")]
        assert paid_again <= sum(unknown) <= in_flight, "unknown calls are not booked as such"
        assert (unlinked > 0) == bool(unknown)
    assert files_of(server, folder) == [], "files are left on the server"
    left = {path.name for path in folder.iterdir()} - {"toy_state.db", "toy_state.db-wal", "toy_state.db-shm"}
    assert left <= {"toy.lock", "toy_output.jsonl", "toy_output.json", "count.txt"}, "work files are left"


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines, document = folder / "toy_output.jsonl", folder / "toy_output.json"
    if lines.exists():
        return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    rows: list[dict[str, Any]] = json.loads(document.read_bytes())["rows"]
    return rows
