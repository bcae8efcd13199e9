"""Look at the whole world after a job: its store, its folder, and the server's side of everything."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import ask, let_time_pass

PREFIX = "toy"
STORE = frozenset({"toy_state.db", "toy.lock", "toy_state.db-shm", "toy_state.db-wal"})


class Direct(NamedTuple):
    """What a server has charged for direct calls since it began."""

    calls: int
    cost_pico: int

    def since(self, before: Direct) -> Direct:
        """What came after *before*."""
        return Direct(self.calls - before.calls, self.cost_pico - before.cost_pico)


@dataclass(frozen=True)
class Unknown:
    """A line of the ledger about calls that were in flight at a kill."""

    calls: int
    spent_pico: int


@dataclass(frozen=True)
class World:
    """What there is after a job: store, server and folder."""

    rows: list[dict[str, Any]] = field(repr=False)
    """Of the output files."""
    stored_rows: list[dict[str, Any]] = field(repr=False)
    delivered_bytes: Mapping[str, int]
    """What the store says of the output files."""
    states: Mapping[str, int]
    spent_pico: int
    spent_since_scratch_pico: int
    """Without what was spent before the last --wipe_task."""
    reserved_pico: int
    linked_pico: int
    unlinked_pico: int
    unknown: list[Unknown]
    """Calls in flight at a kill."""
    unknown_pico: int
    """These, and calls whose reply was lost on the way."""
    lost_replies: int
    answers: int
    """All that are kept, good or bad."""
    paid_answers: int
    """Those that cost something."""
    paid_direct_answers: int
    """Of these, the answers to direct calls."""
    batches_by_number: Counter[str]
    billed_pico: int
    """By the server, for the batches of this task."""
    billed_requests: int
    """Likewise: the answers that cost something."""
    good_answers: int
    """The most that one request has of those that were judged good."""
    statuses: Counter[str]
    """Of the batches of this task on the server."""
    server_files: list[str]
    """Files of this task that are left on the server: what it uploaded, and the results of its batches."""
    folder: Mapping[str, int]
    """Sizes of the files of the task."""
    damage: list[str]
    """What SQLite finds wrong with the store."""

    @property
    def outputs(self) -> frozenset[str]:
        return frozenset(self.folder) - STORE


def direct_charges(sandbox: SandboxProcess) -> Direct:
    """What the server has charged for direct calls so far, of whatever task."""
    sums = ask(sandbox, "/sandbox/ledger")["roads"].get("direct", {"requests": 0, "cost_pico": 0})
    return Direct(sums["requests"], sums["cost_pico"])


def look(folder: Path, sandbox: SandboxProcess) -> World:
    """Look at everything that a job in *folder* left behind, also at what the lists show late."""
    let_time_pass(sandbox, 120)
    with opened(folder) as db:
        uuid = db.execute("SELECT uuid FROM task").fetchone()[0]
        spent, reserved, unlinked_now, linked, spent_now = db.execute(
            "SELECT sum(spent_pico), sum(reserved_pico), sum(unlinked_pico) FILTER (WHERE era = (SELECT era FROM task)), "
            "(SELECT coalesce(sum(cost_pico), 0) FROM response), "
            "sum(spent_pico) FILTER (WHERE era = (SELECT era FROM task)) FROM ledger"
        ).fetchone()
        batches = [batch for batch in _batches(sandbox) if (batch["metadata"] or {}).get("gpt_batch_api_task") == uuid]
        own = {batch["id"] for batch in batches}
        billed = ask(sandbox, "/sandbox/ledger")["batches"]
        names = [file["filename"] for file in ask(sandbox, "/v1/files?limit=10000")["data"]]
        return World(
            rows=list(_rows(folder)),
            stored_rows=[json.loads(row) for (row,) in db.execute("SELECT row FROM output ORDER BY id")],
            delivered_bytes=dict(db.execute("SELECT file_name, size_bytes FROM delivery")),
            states=dict(db.execute("SELECT state, count(*) FROM request GROUP BY state").fetchall()),
            spent_pico=spent or 0,
            reserved_pico=reserved or 0,
            unlinked_pico=unlinked_now or 0,
            linked_pico=linked,
            spent_since_scratch_pico=spent_now or 0,
            unknown=[
                Unknown(int(note.split()[0]), pico)
                for note, pico in db.execute(
                    "SELECT note, spent_pico FROM ledger WHERE kind = 'unknown' AND note LIKE '% in flight %'"
                )
            ],
            unknown_pico=db.execute(
                "SELECT coalesce(sum(spent_pico), 0) FROM ledger WHERE kind = 'unknown'"
            ).fetchone()[0],
            lost_replies=db.execute("SELECT count(*) FROM response WHERE reason = 'lost_reply'").fetchone()[0],
            answers=db.execute("SELECT count(*) FROM response").fetchone()[0],
            paid_answers=db.execute("SELECT count(*) FROM response WHERE cost_pico > 0").fetchone()[0],
            paid_direct_answers=db.execute(
                "SELECT count(*) FROM response WHERE group_id IS NOT NULL AND cost_pico > 0"
            ).fetchone()[0],
            batches_by_number=Counter(
                batch["metadata"]["gpt_batch_api_batch"] for batch in batches if batch["status"] != "failed"
            ),
            billed_pico=sum(billed[batch]["cost_pico"] for batch in own if batch in billed),
            billed_requests=sum(billed[batch]["requests"] for batch in own if batch in billed),
            good_answers=db.execute(
                "SELECT coalesce(max(answers), 0) FROM "
                "(SELECT count(*) AS answers FROM response WHERE verdict = 'success' GROUP BY request_id)"
            ).fetchone()[0],
            statuses=Counter(batch["status"] for batch in batches),
            server_files=[name for name in names if uuid in name or any(batch in name for batch in own)],
            folder={path.name: path.stat().st_size for path in folder.iterdir()},
            damage=[
                *(text for (text,) in db.execute("PRAGMA integrity_check") if text != "ok"),
                *(f"foreign key of {row[0]}" for row in db.execute("PRAGMA foreign_key_check")),
            ],
        )


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The store of the job in *folder*, to be read."""
    db = sqlite3.connect(f"{(folder / f'{PREFIX}_state.db').as_uri()}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()


def _batches(sandbox: SandboxProcess) -> Iterator[dict[str, Any]]:
    """All batches on the server, newest first."""
    after = ""
    while True:
        page = ask(sandbox, f"/v1/batches?limit=100{after}")
        yield from page["data"]
        if not page["has_more"]:
            return
        after = f"&after={page['last_id']}"


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of an output, whichever form it has."""
    for path in sorted(folder.glob(f"{PREFIX}_output*")):
        text = path.read_text(encoding="utf-8")
        match path.suffix:
            case ".jsonl":
                yield from map(json.loads, text.splitlines())
            case ".json":
                yield from json.loads(text)["rows"]
            case ".tsv":
                yield from (dict(zip(("key", "word"), line.split("\t"), strict=True)) for line in text.splitlines())
