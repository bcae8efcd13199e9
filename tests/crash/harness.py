"""Run a job in a real process, kill it at an edge, restart it, and look at the whole world afterwards."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash.edges import Edges

KILLED = -9
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.crash.warm"])

Job = Callable[[Path, str], int]
"""Runs a task in a folder against a server URL; its exit code. Must be a function at the top of a module."""


def _child(job: Job, folder: Path, url: str, kill_at: int | str | None, record: Path | None) -> None:
    edges = Edges(folder, kill_at=kill_at, record=record)
    edges.install()
    raise SystemExit(job(folder, url))


def run(job: Job, folder: Path, url: str, *, kill_at: int | str | None = None, record: Path | None = None) -> int:
    """Run *job* in a process of its own; its exit code, KILLED if it ended at the edge."""
    process = _FORK.Process(target=_child, args=(job, folder, url, kill_at, record))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"stuck: the job did not end (kill_at={kill_at})")
    return process.exitcode


def edges_of(job: Job, folder: Path, url: str, *, record: Path) -> list[str]:
    """The edges of an undisturbed run."""
    code = run(job, folder, url, record=record)
    assert code == 0, f"the undisturbed run ended with {code}"
    return record.read_text(encoding="utf-8").splitlines()


def sandbox_says(sandbox: SandboxProcess, path: str) -> Any:
    """A document of the sandbox's own endpoints or of its API."""
    request = urllib.request.Request(
        sandbox.url.removesuffix("/v1") + path, headers={"Authorization": "Bearer sk-test"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


@dataclass(frozen=True)
class World:
    """What there is after a job: store, server and folder."""

    rows: list[dict[str, Any]]
    states: Mapping[str, int]
    spent_pico: int
    spent_since_scratch_pico: int
    """Without what was spent before the last --wipe_task."""
    reserved_pico: int
    linked_pico: int
    unlinked_pico: int
    batches_by_number: Counter[str]
    billed_pico: int
    server_files: list[str]
    folder: set[str]


def let_time_pass(sandbox: SandboxProcess, seconds: float) -> None:
    """Turn the server's clock forward."""
    body = json.dumps({"seconds": seconds}).encode()
    url = sandbox.url.removesuffix("/v1") + "/sandbox/advance"
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST")):
        pass


def look(folder: Path, sandbox: SandboxProcess, *, prefix: str) -> World:
    """Look at everything that a job of *prefix* in *folder* left behind, also at what the lists show late."""
    let_time_pass(sandbox, 60)
    db = sqlite3.connect(f"{(folder / f'{prefix}_state.db').as_uri()}?mode=ro", uri=True)
    try:
        uuid = db.execute("SELECT uuid FROM task").fetchone()[0]
        states = dict(db.execute("SELECT state, count(*) FROM request GROUP BY state").fetchall())
        money = db.execute(
            "SELECT sum(spent_pico), sum(reserved_pico), sum(unlinked_pico) FILTER (WHERE era = (SELECT era FROM task)), "
            "(SELECT coalesce(sum(cost_pico), 0) FROM response), "
            "sum(spent_pico) FILTER (WHERE era = (SELECT era FROM task)) FROM ledger"
        ).fetchone()
    finally:
        db.close()
    remote = [
        batch
        for batch in sandbox_says(sandbox, "/v1/batches?limit=100")["data"]
        if (batch["metadata"] or {}).get("gpt_batch_api_task") == uuid
    ]
    billed = {name: sums["cost_pico"] for name, sums in sandbox_says(sandbox, "/sandbox/ledger")["batches"].items()}
    return World(
        rows=_rows(folder / f"{prefix}_output"),
        states=states,
        spent_pico=money[0],
        reserved_pico=money[1],
        unlinked_pico=money[2],
        linked_pico=money[3],
        spent_since_scratch_pico=money[4],
        batches_by_number=Counter(
            batch["metadata"]["gpt_batch_api_batch"] for batch in remote if batch["status"] != "failed"
        ),
        billed_pico=sum(billed.get(batch["id"], 0) for batch in remote),
        server_files=[file["filename"] for file in sandbox_says(sandbox, "/v1/files")["data"]],
        folder={path.name for path in folder.iterdir()},
    )


def _rows(base: Path) -> list[dict[str, Any]]:
    """The rows of an output, whichever form it has."""
    lines, document = base.with_suffix(".jsonl"), base.with_suffix(".json")
    if lines.exists():
        return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    rows: list[dict[str, Any]] = json.loads(document.read_bytes())["rows"] if document.exists() else []
    return rows
