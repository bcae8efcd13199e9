"""What can be seen of a story's task between two runs: its store, its output file, and the server's side."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.codec import unpack
from tests.property.story_task import question_of
from tests.toy import ask, rows_of

ON_SERVER = ("pushing", "remote", "ended")
ALIVE = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True)
class Request:
    """A request as the store has it; each sample of a story has one."""

    id: int
    key: str
    state: str
    tries: int
    input_tokens: int

    @property
    def question(self) -> str:
        return question_of(self.key)


@dataclass(frozen=True)
class Answer:
    """A booked answer, and what it says when it is read plainly."""

    request_id: int
    key: str
    number: int
    """The first one of its request is 1."""
    attempt: int
    verdict: str
    """The engine's."""
    reason: str
    task_verdict: str | None
    """What parser and task made of it; None until then."""
    task_reason: str | None
    cost_pico: int
    raw: bytes | None = field(repr=False)

    @cached_property
    def says(self) -> str | None:
        """The word that it is about; None if it is of no use."""
        return _says(self.raw)

    @property
    def question(self) -> str:
        return question_of(self.key)

    @property
    def is_right(self) -> bool:
        return self.says == self.question

    @property
    def was_sent_back(self) -> bool:
        """The task's code wanted another one."""
        return self.task_reason == "rejected_by_task"


@dataclass(frozen=True)
class Batch:
    """A batch as the store has it."""

    id: int
    state: str
    remote_id: str | None


@dataclass(frozen=True)
class Line:
    """A line of the store's ledger."""

    session: int
    era: int
    requests: int
    cost_pico: int
    """Spent or reserved."""


@dataclass(frozen=True)
class Stored:
    """What the store says."""

    uuid: str = ""
    epoch: int = 0
    """Raised by each wipe that is begun."""
    wiping: str | None = None
    requests: tuple[Request, ...] = ()
    answers: tuple[Answer, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    batches: tuple[Batch, ...] = ()
    sessions: int = 0
    ledger: tuple[Line, ...] = ()
    groups: tuple[tuple[int, int], ...] = ()
    """(session, answers) of direct calls that are looked at together."""
    moves: tuple[tuple[int, str, dict[str, Any]], ...] = ()
    """(session, kind, facts) of the timeline: what came to the server, ended there, was wiped."""
    unknown_calls: int = 0
    """Direct calls in flight at a kill, told or not yet."""


@dataclass(frozen=True)
class Charge:
    """A line of the server's ledger."""

    id: int
    road: str
    batch: str | None
    input_tokens: int


@dataclass(frozen=True)
class Remote:
    """A batch of the task on the server."""

    id: str
    number: str
    status: str
    requests: int


@dataclass(frozen=True)
class Seen:
    """One look at everything."""

    begun: bool
    stored: Stored
    delivered: tuple[dict[str, Any], ...]
    charges: tuple[Charge, ...]
    remote: tuple[Remote, ...]

    def charged_to_batches(self) -> Mapping[str, int]:
        """How many requests of each batch the server has charged."""
        return Counter(charge.batch for charge in self.charges if charge.batch is not None)


def look(folder: Path, server: SandboxProcess) -> Seen:
    """Look at the task in *folder*, and at its server."""
    store = folder / "toy_state.db"
    stored = None
    if store.exists():
        with closing(sqlite3.connect(store)) as db:
            stored = _stored(db)
    charges = ask(server, "/sandbox/ledger?rows=1")["rows"]
    batches = _list_of_batches(server)
    uuid = "" if stored is None else stored.uuid
    return Seen(
        begun=stored is not None,
        stored=stored or Stored(),
        delivered=tuple(rows_of(folder)),
        charges=tuple(Charge(row["id"], row["road"], row["batch_id"], row["input"]) for row in charges),
        remote=tuple(
            Remote(
                batch["id"], batch["metadata"]["gpt_batch_api_batch"], batch["status"], batch["request_counts"]["total"]
            )
            for batch in batches
            if (batch["metadata"] or {}).get("gpt_batch_api_task") == uuid
        ),
    )


def _list_of_batches(server: SandboxProcess) -> list[dict[str, Any]]:
    """Asked until bad weather lets it pass."""
    for _ in range(100):
        with suppress(urllib.error.HTTPError):
            found: list[dict[str, Any]] = ask(server, "/v1/batches?limit=100")["data"]
            return found
    raise AssertionError("the server does not list its batches")


def _stored(db: sqlite3.Connection) -> Stored | None:
    """None if the store knows no task yet."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'task'").fetchone():
        return None
    task = db.execute("SELECT uuid, epoch, wiping FROM task").fetchone()
    if task is None:
        return None
    of_request = "FROM request JOIN sample ON sample.id = sample_id"
    requests = db.execute(f"SELECT request.id, key, request.state, tries, input_tokens {of_request} ORDER BY 1")
    answers = db.execute(
        "SELECT request.id, key, try, response.attempt, verdict, response.reason, task_verdict, task_reason, cost_pico, "
        f"body {of_request} JOIN response ON request_id = request.id "
        "LEFT JOIN raw_response ON response_id = response.id ORDER BY response.id"
    )
    ledger = "SELECT session_id, era, requests, spent_pico + reserved_pico FROM ledger ORDER BY id"
    groups = "SELECT session_id, requests FROM direct_group ORDER BY id"
    moves = "SELECT session_id, kind, data FROM event WHERE kind IN ('BatchPushed', 'BatchEnded', 'Wiped') ORDER BY id"
    notes = "SELECT note FROM ledger WHERE kind = 'unknown' AND note LIKE '% in flight %'"
    in_flight = db.execute("SELECT count(*) FROM direct_call").fetchone()[0]
    uuid, epoch, wiping = task
    return Stored(
        uuid=uuid,
        epoch=epoch,
        wiping=wiping,
        requests=tuple(Request(*row) for row in requests),
        answers=tuple(Answer(*row) for row in answers),
        rows=tuple(json.loads(row) for (row,) in db.execute("SELECT row FROM output ORDER BY id")),
        batches=tuple(Batch(*row) for row in db.execute("SELECT id, state, remote_id FROM batch ORDER BY id")),
        sessions=db.execute("SELECT coalesce(max(id), 0) FROM session").fetchone()[0],
        ledger=tuple(Line(*row) for row in db.execute(ledger)),
        groups=tuple(db.execute(groups)),
        moves=tuple((session, kind, json.loads(data)) for session, kind, data in db.execute(moves)),
        unknown_calls=in_flight + sum(int(note.split()[0]) for (note,) in db.execute(notes)),
    )


def _says(body: bytes | None) -> str | None:
    """Read an answer with nothing but JSON."""
    try:
        response = json.loads(unpack(body or b""))["response"]
        choice = response["body"]["choices"][0]
        content = json.loads(choice["message"]["content"])
        is_whole = response["status_code"] == 200 and choice["finish_reason"] == "stop"
        return str(content["word"]) if is_whole and set(content) == {"word", "remark"} else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None
