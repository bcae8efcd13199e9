"""Any story of a task, told by chance: runs of all kinds, kills, wipes, stored answers shown again, bad
weather, bad answers, bad code of the user.

Each run is a real process against a real server. After each, store, output and server are compared with a plain
model of what may be paid and what must be there (`plain_model`), with the limits of the run (`limits`) and with the
ends that a run may come to (`endings`), and the doctor looks. At the end the weather clears, the task is run until it is
done, and then every sample has its row or the reason why it has none, and the books agree with the server's. A story
that goes wrong is shortened to one that a person can read, which takes some minutes.

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
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gpt_batch_api.domain.health import Health
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine.doctor import examine
from gpt_batch_api.monitor.health import health_lines
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash.harness import log_of, run
from tests.property.endings import Step, end_is_right
from tests.property.limits import limits_are_kept
from tests.property.plain_model import PlainModel
from tests.property.seen import Seen, look
from tests.property.story_task import KEYS, QUESTIONS, Code, play
from tests.toy import QUICK_PLAN, ask, books, files_of, let_time_pass, query, sandbox, tell

pytestmark = pytest.mark.timeout(0)

MILD = (
    "",
    "faults: [{'on': batches.create, fault: lose_after, rate: 0.5}]",
    "faults: [{'on': files.create, fault: lose_after, rate: 0.5}]",
    "faults: [{'on': files.content, fault: cut, rate: 0.5, after_bytes: 300}]",
)
"""No request fails in this weather."""
ROUGH = (
    "batches: [{fault: expire, rate: 0.5, after_fraction: 0.5}]",
    "batches: [{fault: fail, code: token_limit_exceeded, rate: 0.5}]",
    "lines: [{fault: status, status: 500, rate: 0.3}]",
    "lines: [{fault: fatal, match: word-00001}]",
    "lines: [{fault: broken_json, rate: 0.4}]",
    "lines: [{fault: refusal, match: word-00000}]",
    "faults: [{'on': '*', fault: status, status: 503, rate: 0.2}]",
    "faults: [{'on': direct, fault: lose_after, rate: 0.2}]",
    "faults: [{'on': direct, fault: length, rate: 0.4}]",
    "faults: [{'on': direct, fault: status, status: 400, match: word-00002}]",
)
SLOW = "timing: {validating_s: 0, requests_per_s: 0.1, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}\n"
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "max_batch_requests": st.integers(1, 5),
    "min_batch_requests": st.sampled_from([0, 1, 3]),
    "max_session_requests": st.integers(0, 6),
    "max_session_cost": st.sampled_from([0.00005, 0.0002, 0.0005]),
    "max_remote_batches": st.integers(0, 2),
    "force_direct": st.just(True),
    "max_direct_concurrency": st.integers(1, 4),
    "max_direct_requests": st.integers(1, 4),
    "dedupe": st.just(True),
    "strict_budget": st.just(True),
    "deadline": st.sampled_from(["10m", "25m", "6h"]),
    "dryrun": st.just(True),
    "process_failed_batches": st.sampled_from([1, -1]),
    "retry_fatal_requests": st.just(True),
}


def manners(*more: str) -> st.SearchStrategy[dict[str, Any]]:
    """A few settings, in which a run differs from a plain one."""
    some = [st.tuples(st.just(name), values) for name, values in SETTINGS.items()]
    some += [st.tuples(st.just(name), st.just(True)) for name in more]
    return st.lists(st.one_of(some), max_size=3, unique_by=lambda pair: pair[0]).map(dict)


WEATHER = st.sampled_from((*MILD, *ROUGH))
MANNERS = manners("only_process")
KILLS = st.integers(1, 70)
TAKEN_BACK = st.sampled_from(["reprocess", "wipe_requests", "wipe_failed", "wipe_task"])


class Story(RuleBasedStateMachine):
    """A task, its server, and what is known of both."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory(prefix="story_")
        self.tasks = Path(self.place.name) / "tasks"
        self.tasks.mkdir()
        self.around = sandbox(Path(self.place.name) / "server")
        self.server: SandboxProcess = self.around.__enter__()
        self.code = Code()
        self.model = PlainModel()

    def teardown(self) -> None:
        try:
            self.come_to_an_end()
        finally:
            self.around.__exit__(None, None, None)
            self.place.cleanup()

    # ------------------------------------------------------------ what happens

    @initialize(count=st.integers(1, QUESTIONS), plan=WEATHER)
    def begin(self, count: int, plan: str) -> None:
        self.change(count=count)
        self.weather(plan, slow=False)

    @rule(more=st.integers(1, 3))
    def more_samples(self, more: int) -> None:
        self.change(count=min(len(KEYS), self.code.count + more))

    @rule(plan=WEATHER, slow=st.booleans())
    def weather(self, plan: str, slow: bool) -> None:
        """The server behaves like this from now on."""
        self.model.fair = self.model.fair and plan in MILD and not slow
        self.set_plan((SLOW if slow else QUICK_PLAN) + plan)

    @rule(seconds=st.sampled_from([5, 30, 100_000]))
    def time_passes(self, seconds: int) -> None:
        let_time_pass(self.server, seconds)

    @rule(
        breaks=st.none() | st.sampled_from(KEYS[:QUESTIONS]),
        doubts=st.frozensets(st.sampled_from(KEYS[:QUESTIONS]), max_size=2),
    )
    def code_changes(self, breaks: str | None, doubts: frozenset[str]) -> None:
        self.change(breaks=breaks, doubts=doubts)

    @rule(manner=MANNERS)
    def run_it(self, manner: dict[str, Any]) -> None:
        self.play({"once": True, **manner})

    @rule(manner=MANNERS, at=KILLS)
    def run_it_and_kill_it(self, manner: dict[str, Any], at: int) -> None:
        """It is killed at that edge, if it comes so far."""
        self.play({"once": True, **manner}, kill_at=at)

    @precondition(lambda self: (self.tasks / "toy_state.db").exists())
    @rule(what=TAKEN_BACK, manner=manners(), kill_at=st.none() | KILLS)
    def take_back(self, what: str, manner: dict[str, Any], kill_at: int | None) -> None:
        """Wipe, or show stored answers again; and run on, perhaps until a kill."""
        self.play({"once": True, **manner, what: True, "yes": True}, takes_back=what, kill_at=kill_at)

    # ------------------------------------------------------------ how it ends

    def come_to_an_end(self) -> None:
        """The weather clears and the code is mended: the task is done, and the books agree with the server's."""
        if not self.code.count:
            return
        self.set_plan(QUICK_PLAN)
        let_time_pass(self.server, 100_000)
        self.change(breaks=None)
        self.play({"process_failed_batches": -1, "max_pass_failures": 99, "min_pass_ratio": 0.0}, must_end=True)
        let_time_pass(self.server, 100)
        assert files_of(self.server, self.tasks) == [], "files were left on the server"
        billed = ask(self.server, "/sandbox/ledger")["total"].get("cost_pico", 0)
        spent, reserved, _, linked = books(self.tasks)
        assert reserved == 0, "money is still reserved"
        assert linked <= billed <= spent, "the books do not agree with the server's"
        assert query(self.tasks, "SELECT 1 FROM ledger WHERE kind = 'unknown'") or billed == spent

    # ------------------------------------------------------------ what always holds

    def play(
        self,
        values: dict[str, Any],
        *,
        takes_back: str | None = None,
        kill_at: int | None = None,
        must_end: bool = False,
    ) -> None:
        """One run, and all that must hold after it."""
        before = look(self.tasks, self.server)
        step = Step(values, takes_back, kill_at, self.code, self.model.fair, before)
        log = log_of(self.tasks)
        known_bytes = log.stat().st_size if log.exists() else 0
        code = run(functools.partial(play, code=self.code, values=values), self.tasks, self.server.url, kill_at=kill_at)
        said = log.read_bytes()[known_bytes:].decode()
        after = look(self.tasks, self.server)
        end_is_right(step, code=code, log=said)
        assert code == 0 or not must_end, f"the task did not come to its end (exit code {code}):\n{said}"
        self.nothing_is_wrong(must_be_fine=must_end)
        self.model.run(before, after, code=self.code, takes_back=takes_back)
        limits_are_kept(before, after, values=values, log=said)
        self.what_the_code_means_is_true(step, code, after)

    def what_the_code_means_is_true(self, step: Step, code: int, after: Seen) -> None:
        """A dry run changes nothing; a run that is done has done all; one that ended well has delivered."""
        if step.values.get("dryrun"):
            assert (after.stored, after.delivered) == (step.before.stored, step.before.delivered), (
                "a dry run changed it"
            )
        elif code in (0, 3):
            self.model.all_is_delivered(after)
            if code == 0 and not (step.reprocesses or step.values.get("only_process")):
                self.model.has_come_to_an_end(after, self.code)

    def nothing_is_wrong(self, *, must_be_fine: bool) -> None:
        """The doctor finds nothing that no run would mend; at the end, nothing at all."""
        place = Workplace(self.tasks, "toy")
        if not place.store.exists():
            return
        diagnosis = examine(place)
        wrong = (Health.WRONG, Health.NEXT_RUN) if must_be_fine else (Health.WRONG,)
        said = "\n".join(map(str, health_lines(diagnosis)))
        assert not any(check.health in wrong for check in diagnosis.checks), f"the doctor says:\n{said}"

    # ------------------------------------------------------------ helpers

    def change(self, **facts: Any) -> None:
        """The task's code is another from now on."""
        self.code = Code(**{**vars(self.code), **facts})

    def set_plan(self, text: str) -> None:
        tell(self.server, "/sandbox/plan", yaml.safe_load(text) or {})


TestAnyStory: Any = Story.TestCase
TestAnyStory.settings = settings(
    max_examples=int(os.environ.get("STORIES", "20")),
    stateful_step_count=6,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
