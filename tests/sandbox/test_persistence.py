"""The state is on the disk: a sandbox that is stopped, or killed at any moment, goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gpt_batch_api.domain.clock import ManualClock
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.sandbox.sandbox import Sandbox, SandboxInUse
from gpt_batch_api.sandbox.store import Store, StoreDamaged
from tests.sandbox.rig import Rig, body, client_of, request, requests, rig_on

FAST = {"requests_per_s": 100_000, "minimum_s": 0, "validating_s": 0, "finalizing_s": 0}


def said(rig: Rig) -> str | None:
    answer = rig.client.chat.completions.create(**body())
    content: str | None = answer.choices[0].message.content
    return content


def test_everything_is_there_after_a_restart(db: Path, clock: ManualClock) -> None:
    """Files, batches, money, calls, time, the sandbox's name, and how often what was asked."""
    with rig_on(db, clock=clock) as rig:
        uuid = rig.sandbox.uuid
        batch = rig.submit(requests(5), metadata={"k": "v"})
        first = said(rig)
        rig.advance(500)
        before, calls = rig.state(), rig.calls()
    with rig_on(db, clock=clock) as rig:
        assert rig.sandbox.uuid == uuid
        assert rig.state() == before
        assert rig.calls() == calls
        found = rig.client.batches.retrieve(batch.id)
        assert (found.status, found.metadata) == ("completed", {"k": "v"})
        assert len(rig.lines(found.output_file_id)) == 5
        assert said(rig) != first
        assert rig.ledger()["total"]["requests"] == 7


def test_batches_go_on_while_the_server_is_down(db: Path, clock: ManualClock) -> None:
    """As they do at a provider."""
    with rig_on(db, clock=clock) as rig:
        batch = rig.submit(requests(5))
    clock.advance(3600)
    with rig_on(db, clock=clock) as rig:
        found = rig.client.batches.retrieve(batch.id)
        assert (found.status, found.completed_at) == ("completed", batch.created_at + 2)


def test_time_does_not_go_back_over_a_restart(db: Path, clock: ManualClock) -> None:
    """Even if the wall clock has been set back meanwhile."""
    with rig_on(db, clock=clock) as rig:
        clock.advance(50)
        rig.client.models.list()
        before = rig.state()["now"]
    clock.set_back(1000)
    with rig_on(db, clock=clock) as rig:
        assert rig.state()["now"] >= before


def test_rules_go_on_counting_after_a_restart(db: Path, clock: ManualClock) -> None:
    """The second call is the second, whichever server it meets."""
    plan = {"faults": [{"on": "models.list", "fault": "status", "status": 500, "nth": 2}]}
    with rig_on(db, clock=clock, plan=plan) as rig:
        rig.client.models.list()
    with rig_on(db, clock=clock, plan=plan) as rig:
        with pytest.raises(openai.InternalServerError):
            rig.client.models.list()
        rig.client.models.list()


def test_a_plan_set_at_run_time_stays_until_another_is_asked_for(db: Path, clock: ManualClock) -> None:
    """Starting again with the same plan keeps it; starting with a new one does not."""
    with rig_on(db, clock=clock, plan={"seed": 1}) as rig:
        rig.plan(seed=2)
    with rig_on(db, clock=clock, plan={"seed": 1}) as rig:
        assert rig.sandbox.force.plan.seed == 2
    with Sandbox(db, clock=clock) as sandbox:
        assert sandbox.force.plan.seed == 2
    with rig_on(db, clock=clock, plan={"seed": 3}) as rig:
        assert rig.sandbox.force.plan.seed == 3


def test_two_sandboxes_cannot_share_a_database(db: Path, clock: ManualClock) -> None:
    """The second waits a while, and is refused."""
    with Sandbox(db, clock=clock), pytest.raises(SandboxInUse, match="Another sandbox still uses"):
        Sandbox(db, clock=clock, lock_wait_s=0.1)
    Sandbox(db, clock=clock, lock_wait_s=0.1).close()


def test_a_file_that_is_no_sandbox_is_refused(tmp_path: Path) -> None:
    """And not touched."""
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    with pytest.raises(StoreDamaged, match="is no sandbox database"):
        Store(path)
    assert path.read_text().startswith("These are my notes.")


def test_another_database_is_refused(tmp_path: Path) -> None:
    """Rather than filled with strange tables."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (a)")
        other.execute("PRAGMA user_version = 1")
        other.commit()
        with pytest.raises(StoreDamaged, match="is no sandbox database but another one"):
            Store(path)
        assert [row[0] for row in other.execute("SELECT name FROM sqlite_master")] == ["mine"]


def test_rubbish_of_a_crash_is_swept(db: Path, clock: ManualClock) -> None:
    """Uploads that were never finished."""
    with rig_on(db, clock=clock) as rig:
        kept = rig.upload(requests(1))
        (rig.sandbox.store.folder / "upload-abandoned").write_bytes(b"x")
    with rig_on(db, clock=clock) as rig:
        assert len(list(rig.sandbox.store.folder.iterdir())) == 1
        assert rig.client.files.content(kept.id).content


def results(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    content = client.files.content(file_id).content
    return sorted((json.loads(line) for line in content.split(b"\n")[:-1]), key=lambda line: str(line["custom_id"]))


def completed(client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    """Poll *batch_id* until it has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch_id)
        if batch.status == "completed":
            return batch
    raise AssertionError("the batch did not end")


def wait_for_results(db: Path, size_bytes: int) -> None:
    """Wait until the workshop has written so much of the first batch's results."""
    path = db.with_name(f"{db.name}.files") / "batch-000001.output"
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size_bytes:
        assert time.monotonic() < deadline


LINES = 800
WEATHER = {"timing": FAST, "lines": [{"fault": "missing", "nth": 7}]}
Answers = dict[str, Any]


def spared(db: Path, batch_input: bytes) -> Answers:
    """What the batch answers in a sandbox that nobody kills."""
    with rig_on(db, clock=ManualClock(), plan=WEATHER) as rig:
        uploaded = rig.client.files.create(file=("in.jsonl", batch_input), purpose="batch")
        return answers_of(rig.client, rig.finish(rig.create(uploaded.id)))


def answers_of(client: openai.OpenAI, batch: openai.types.Batch) -> Answers:
    lines = results(client, batch.output_file_id)
    assert len(lines) == LINES - 1
    return {line["custom_id"]: line["response"]["body"]["choices"] for line in lines}


@pytest.mark.crash
@pytest.mark.parametrize("size_bytes", [None, 0, 1, 200_000, 500_000])
def test_a_sandbox_killed_while_it_works_loses_and_doubles_nothing(tmp_path: Path, size_bytes: int | None) -> None:
    """Every line once in the results, every request once in the ledger, as if nothing had happened."""
    plan, db = tmp_path / "fast.json", tmp_path / "killed.db"
    plan.write_text(json.dumps(WEATHER))
    batch_input = "".join(json.dumps(request(f"r{number:04}")) + "\n" for number in range(LINES)).encode()
    with SandboxProcess.start(db, plan=plan) as sandbox, client_of(sandbox.url) as client:
        uploaded = client.files.create(file=("in.jsonl", batch_input), purpose="batch")
        created = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        if size_bytes is not None:
            wait_for_results(db, size_bytes)
        os.kill(sandbox.pid, signal.SIGKILL)
    with SandboxProcess.start(db, plan=plan) as sandbox, client_of(sandbox.url) as client:
        found = answers_of(client, completed(client, created.id))
        ledger = httpx2.get(f"{sandbox.url.removesuffix('/v1')}/sandbox/ledger", params={"rows": 1}).json()
    assert "r0006" not in found
    assert found == spared(tmp_path / "spared.db", batch_input)
    charged = Counter(row["custom_id"] for row in ledger["rows"])
    assert len(charged) == LINES
    assert set(charged.values()) == {1}
