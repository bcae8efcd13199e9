"""A small task and a quick sandbox, for tests of whole runs."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager

QUICK_PLAN = """
timing: {validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}
"""
"""No time passes between creation and completion of a batch."""

MODEL = "gpt-4o-mini"


class Word(BaseModel):
    """What the toy task asks about each word."""

    word: str
    remark: str


class ToyTask(TaskManager):
    """Asks about `count` words, one request each."""

    name = "toy"
    defaults = {"model": MODEL, "max_completion_tokens": 100}  # noqa: RUF012
    count = 8

    def keys(self) -> Iterable[str]:
        return (f"word-{index:05}" for index in range(self.count))

    def generate_requests(self) -> Iterable[GPTRequest]:
        for key in self.keys():
            yield GPTRequest(key, self.payload(key))

    def payload(self, key: str) -> dict[str, Any]:
        return {
            **self.meta,
            "messages": [{"role": "user", "content": f'Tell me about "{key}".'}],
            "response_format": Word,
        }

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok:
            sample.emit({"key": sample.key, "word": result.value.word})


QUICK: dict[str, Any] = {
    "openai_api_key": "sk-test",
    "min_batch_requests": 1,
    "remote_update_interval": 0.01,
    "list_lag_wait": 0.2,
    "lock_timeout": 0.0,
}
"""Settings that make a run against a quick sandbox as fast as it can be."""


@contextmanager
def sandbox(folder: Path, plan: str = QUICK_PLAN) -> Iterator[SandboxProcess]:
    """A sandbox server with its files in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    plan_file = folder / "plan.yaml"
    plan_file.write_text(plan, encoding="utf-8")
    with SandboxProcess.start(folder / "sandbox.db", plan=plan_file) as process:
        yield process


def settings_for(server: SandboxProcess, folder: Path, **values: Any) -> dict[str, Any]:
    """Settings for a task in *folder* that asks *server*."""
    return {"client_base_url": server.url, "task_dir": folder, **QUICK, **values}


def rows_of(folder: Path, prefix: str = "toy") -> list[dict[str, Any]]:
    """The delivered rows of a JSON lines output."""
    path = folder / f"{prefix}_output.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def query(folder: Path, sql: str, prefix: str = "toy") -> list[tuple[Any, ...]]:
    """Ask a task's store something."""
    db = sqlite3.connect(folder / f"{prefix}_state.db")
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


class Books(NamedTuple):
    """What a task's store says of money, in picodollars."""

    spent: int
    reserved: int
    unlinked: int
    linked: int
    """The costs of all answers together."""


def books(folder: Path, prefix: str = "toy") -> Books:
    """The books of a task; always spent = linked + unlinked."""
    sums = (
        "SELECT sum(spent_pico), sum(reserved_pico), sum(unlinked_pico), "
        "(SELECT coalesce(sum(cost_pico), 0) FROM response) FROM ledger"
    )
    return Books(*query(folder, sums, prefix)[0])


def ask(server: SandboxProcess, path: str) -> Any:
    """A document of the sandbox, from its API (`/v1/…`) or its own endpoints (`/sandbox/…`)."""
    request = urllib.request.Request(server.url.removesuffix("/v1") + path, headers={"Authorization": "Bearer sk-test"})
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


def batches_of(server: SandboxProcess, folder: Path, prefix: str = "toy") -> list[dict[str, Any]]:
    """The batches on the server that belong to a task, newest first."""
    uuid = query(folder, "SELECT uuid FROM task", prefix)[0][0]
    return [
        batch
        for batch in ask(server, "/v1/batches?limit=100")["data"]
        if (batch["metadata"] or {}).get("gpt_batch_api_task") == uuid
    ]


def files_of(server: SandboxProcess, folder: Path, prefix: str = "toy") -> list[str]:
    """The files on the server that belong to a task: its uploads, and the results of its batches."""
    uuid = query(folder, "SELECT uuid FROM task", prefix)[0][0]
    own = {batch["id"] for batch in batches_of(server, folder, prefix)}
    names = [file["filename"] for file in ask(server, "/v1/files")["data"]]
    return [name for name in names if uuid in name or any(batch in name for batch in own)]


def tell(server: SandboxProcess, path: str, document: Any) -> None:
    """Post *document* to one of the sandbox's own addresses."""
    url = server.url.removesuffix("/v1") + path
    with urllib.request.urlopen(urllib.request.Request(url, data=json.dumps(document).encode(), method="POST")):
        pass


def let_time_pass(server: SandboxProcess, seconds: float) -> None:
    """Turn the server's clock forward."""
    tell(server, "/sandbox/advance", {"seconds": seconds})
