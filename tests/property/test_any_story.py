"""Any story of a task, told by chance: runs of all kinds, kills, wipes, stored answers shown again, bad
weather, bad code of the user.

Each step is a real process against a real server. After each, what must always hold is looked at; at the end the weather
clears, the task is run until it is done, and then every sample has its row or the reason why it has none, and the books
agree with the server's. A story that goes wrong is shortened to one that a person can read, which takes some minutes.

    STORIES=500 python -m pytest tests/property
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample
from tests.crash.harness import KILLED, run
from tests.toy import (
    QUICK,
    QUICK_PLAN,
    ToyTask,
    ask,
    batches_of,
    books,
    files_of,
    let_time_pass,
    query,
    rows_of,
    sandbox,
    tell,
)

pytestmark = pytest.mark.timeout(0)


class StoryTask(ToyTask):
    """Its code fails for the samples in `breaks`, and asks twice for those in `doubts`."""

    breaks: frozenset[str] = frozenset()
    doubts: frozenset[str] = frozenset()

    def process_result(self, result: Result, sample: Sample) -> None:
        if sample.key in self.breaks:
            raise RuntimeError("a mistake of the user")
        if sample.key in self.doubts and result.attempt == 1:
            result.retry("not sure")
            return
        super().process_result(result, sample)


def play(
    folder: Path, url: str, *, count: int, breaks: frozenset[str], doubts: frozenset[str], values: dict[str, Any]
) -> int:
    """One run; its exit code."""
    task = StoryTask(client_base_url=url, task_dir=folder, **{**QUICK, "assumed_completion_ratio": 1.0, **values})
    task.count, task.breaks, task.doubts = count, breaks, doubts
    return task.main()


CALM = ""
STORMY = st.sampled_from(
    [
        CALM,
        "batches: [{fault: expire, rate: 0.5, after_fraction: 0.5}]",
        "batches: [{fault: fail, code: token_limit_exceeded, rate: 0.5}]",
        "lines: [{fault: status, status: 500, rate: 0.3}]",
        "lines: [{fault: fatal, match: word-00001}]",
        "faults: [{'on': batches.create, fault: lose_after, rate: 0.5}]",
        "faults: [{'on': files.create, fault: lose_after, rate: 0.5}]",
        "faults: [{'on': files.content, fault: cut, rate: 0.5, after_bytes: 300}]",
        "faults: [{'on': '*', fault: status, status: 503, rate: 0.2}]",
        "faults: [{'on': direct, fault: lose_after, rate: 0.2}]",
        "faults: [{'on': direct, fault: status, status: 400, match: word-00002}]",
    ]
)
SLOW = "timing: {validating_s: 0, requests_per_s: 0.1, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}\n"
KEYS = [f"word-{index:05}" for index in range(12)]
MANNERS = st.fixed_dictionaries(
    {"once": st.just(True)},
    optional={
        "max_batch_requests": st.integers(1, 5),
        "min_batch_requests": st.sampled_from([0, 1, 3]),
        "max_session_requests": st.integers(0, 6),
        "max_remote_batches": st.integers(0, 2),
        "force_direct": st.booleans(),
        "max_direct_concurrency": st.integers(1, 4),
        "max_direct_requests": st.integers(1, 4),
        "only_process": st.booleans(),
        "dedupe": st.booleans(),
        "strict_budget": st.booleans(),
        "deadline": st.sampled_from(["10m", "25m", "6h"]),
        "dryrun": st.sampled_from([False, False, True]),
        "process_failed_batches": st.sampled_from([0, 1, -1]),
        "retry_fatal_requests": st.booleans(),
        "takes_back": st.sampled_from(
            [None, None, None, None, "reprocess", "reprocess", "wipe_requests", "wipe_failed", "wipe_task"]
        ),
    },
)
KILLS = st.sampled_from([None, None]) | st.integers(1, 70)


class Story(RuleBasedStateMachine):
    """A task, its server, and what is known of both."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory(prefix="story_")
        self.tasks = Path(self.place.name) / "tasks"
        self.tasks.mkdir()
        self.around = sandbox(Path(self.place.name) / "server")
        self.server: SandboxProcess = self.around.__enter__()
        self.count = 0
        self.breaks: frozenset[str] = frozenset()
        self.doubts: frozenset[str] = frozenset()

    def teardown(self) -> None:
        try:
            self.come_to_an_end()
        finally:
            self.around.__exit__(None, None, None)
            self.place.cleanup()

    # ------------------------------------------------------------ what happens

    @initialize(count=st.integers(1, 8))
    def begin(self, count: int) -> None:
        self.count = count

    @rule(more=st.integers(1, 3))
    def more_samples(self, more: int) -> None:
        self.count = min(len(KEYS), self.count + more)

    @rule(plan=STORMY, slow=st.booleans())
    def weather(self, plan: str, slow: bool) -> None:
        """The server behaves like this from now on."""
        self.set_plan((SLOW if slow else QUICK_PLAN) + plan)

    @rule(seconds=st.sampled_from([5, 30, 100_000]))
    def time_passes(self, seconds: int) -> None:
        let_time_pass(self.server, seconds)

    @rule(key=st.sampled_from(KEYS[:8]))
    def code_breaks(self, key: str) -> None:
        self.breaks = frozenset({key})

    @precondition(lambda self: self.breaks)
    @rule()
    def code_is_mended(self) -> None:
        self.breaks = frozenset()

    @rule(keys=st.frozensets(st.sampled_from(KEYS[:8]), max_size=2))
    def doubt(self, keys: frozenset[str]) -> None:
        self.doubts = keys

    @rule(manner=MANNERS, kill_at=KILLS)
    def run_it(self, manner: dict[str, Any], kill_at: int | None) -> None:
        """Run in some manner, perhaps killed at some edge."""
        values = {name: value for name, value in manner.items() if name != "takes_back"}
        takes_back = manner.get("takes_back")
        if takes_back is not None:
            values |= {takes_back: True, "yes": True}
        self.play(values, kill_at=kill_at)

    # ------------------------------------------------------------ what always holds

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not (self.tasks / "toy_state.db").exists() or not query(self.tasks, "SELECT 1 FROM task"):
            return
        keys = [row["key"] for row in rows_of(self.tasks)]
        assert len(keys) == len(set(keys)), "a row was delivered twice"
        assert set(keys) <= set(KEYS[: self.count])
        spent, reserved, unlinked, linked = books(self.tasks) if query(self.tasks, "SELECT 1 FROM ledger") else (0,) * 4
        scratched = query(self.tasks, "SELECT era FROM task")[0][0] > 1
        assert scratched or spent == linked + unlinked, "the books do not add up"
        assert reserved >= 0

    # ------------------------------------------------------------ how it ends

    def come_to_an_end(self) -> None:
        """The weather clears and the code is mended: the task is done, and the books agree with the server's."""
        if not self.count:
            return
        self.set_plan(QUICK_PLAN)
        let_time_pass(self.server, 100_000)
        self.breaks = frozenset()
        code = self.play({"process_failed_batches": -1, "max_pass_failures": 99, "min_pass_ratio": 0.0})
        assert code == 0, f"the task did not come to its end (exit code {code})"
        self.nothing_is_wrong()
        let_time_pass(self.server, 100)
        delivered = {row["key"] for row in rows_of(self.tasks)}
        failed = {
            key
            for (key,) in query(
                self.tasks,
                "SELECT key FROM request JOIN sample ON sample.id = sample_id WHERE request.state = 'failed'",
            )
        }
        assert delivered | failed == set(KEYS[: self.count]), "a sample was lost"
        assert not delivered & failed
        assert files_of(self.server, self.tasks) == [], "files were left on the server"
        ours = [batch for batch in batches_of(self.server, self.tasks) if batch["status"] != "failed"]
        numbers = [
            (batch["metadata"]["gpt_batch_api_batch"], batch["metadata"]["gpt_batch_api_nonce"]) for batch in ours
        ]
        assert len(numbers) == len(set(numbers))
        billed = ask(self.server, "/sandbox/ledger")["total"].get("cost_pico", 0)
        spent, reserved, _, linked = books(self.tasks)
        assert reserved == 0
        assert linked <= billed <= spent, "the books do not agree with the server's"
        assert query(self.tasks, "SELECT 1 FROM ledger WHERE kind = 'unknown'") or billed == spent

    # ------------------------------------------------------------ helpers

    def play(self, values: dict[str, Any], *, kill_at: int | None = None) -> int:
        job = functools.partial(play, count=self.count, breaks=self.breaks, doubts=self.doubts, values=values)
        code = run(job, self.tasks, self.server.url, kill_at=kill_at)
        assert code in (0, 1, 3) or (code == KILLED and kill_at is not None), f"exit code {code}"
        return code

    def set_plan(self, text: str) -> None:
        tell(self.server, "/sandbox/plan", yaml.safe_load(text) or {})


TestAnyStory: Any = Story.TestCase
TestAnyStory.settings = settings(
    max_examples=int(os.environ.get("STORIES", "20")),
    stateful_step_count=8,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
