"""The commonly useful arguments, each shown by its effect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample
from tests.toy import ToyTask, ask, batches_of, files_of, query, rows_of, sandbox, settings_for

STUCK = "timing: {validating_s: 1000000}\n"
"""A server on which batches never get anywhere."""


def folder_print(folder: Path) -> dict[str, str]:
    """Every file of a folder with the hash of its content."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


Pair = Callable[[], int]


class TestDryrun:
    """--dryrun: prevent any API calls or changes to saved disk state, and just show what would be done."""

    def test_of_a_new_task_creates_nothing(
        self, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        calls = ask(server, "/sandbox/state")["calls"]
        assert not ToyTask(settings_for(server, tasks), dryrun=True, max_batch_requests=4).run()
        assert list(tasks.iterdir()) == []
        assert ask(server, "/sandbox/state")["calls"] == calls
        assert "(dry run) Batch 1: would be pushed now (4 requests" in log.text
        assert "(dry run) Batch 2: would be pushed now (4 requests" in log.text

    def test_in_the_middle_changes_no_byte(self, server: SandboxProcess, tasks: Path) -> None:
        ToyTask(settings_for(server, tasks), max_batch_requests=3, max_session_requests=3).run()
        before = folder_print(tasks)
        assert not ToyTask(settings_for(server, tasks), dryrun=True).run()
        assert not ToyTask(settings_for(server, tasks), dryrun=True, wipe_task=True).run()
        assert folder_print(tasks) == before

    def test_needs_no_key(self, server: SandboxProcess, tasks: Path) -> None:
        assert not ToyTask(task_dir=tasks, dryrun=True).run()

    def test_shows_what_a_limit_holds_back(
        self, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        ToyTask(settings_for(server, tasks), dryrun=True, max_batch_requests=2, max_session_requests=4).run()
        assert log.text.count("would be pushed now") == 2


def test_max_remote_and_batch_ktokens_respect_the_usage_tier(server: SandboxProcess, tasks: Path) -> None:
    """--max_remote_ktokens 90 --max_batch_ktokens 90, here scaled down: no batch, and no two together, pass it."""
    assert ToyTask(settings_for(server, tasks), max_remote_ktokens=0.2, max_batch_ktokens=0.2).run()
    sizes = [tokens for (tokens,) in query(tasks, "SELECT input_tokens FROM batch")]
    assert len(sizes) > 1
    assert max(sizes) <= 200 / 1.05


def test_two_explicit_limits_that_contradict_each_other_are_refused(server: SandboxProcess, tasks: Path) -> None:
    with pytest.raises(SettingError, match="max_batch_ktokens is 100, but max_remote_ktokens is 90"):
        ToyTask(settings_for(server, tasks), max_remote_ktokens=90, max_batch_ktokens=100)


def test_the_remote_limit_is_kept_at_every_moment(tmp_path: Path, tasks: Path) -> None:
    """What may be on the server at once is never passed: the rest waits until a batch ends."""
    with sandbox(tmp_path / "server", STUCK) as stuck:
        task = ToyTask(settings_for(stuck, tasks), max_batch_requests=2, max_remote_requests=5, once=True)
        assert not task.run()
        assert len(batches_of(stuck, tasks)) == 2
    assert query(tasks, "SELECT count(*) FROM batch WHERE state = 'sealed'") == [(2,)]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 8), (3, [3, 3, 2]), (7, [7, 1]), (8, [8]), (9, [8])])
def test_max_batch_requests_limits_the_size_of_each_batch(
    server: SandboxProcess, tasks: Path, limit: int, sizes: list[int]
) -> None:
    """--max_batch_requests 50, at the limit, below and above."""
    assert ToyTask(settings_for(server, tasks), max_batch_requests=limit).run()
    assert [requests for (requests,) in query(tasks, "SELECT requests FROM batch ORDER BY id")] == sizes


def test_max_remote_batches_0_only_prepares(server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture) -> None:
    """--max_remote_batches 0 --max_unpushed_batches 3: local batches to be inspected, nothing pushed."""
    task = ToyTask(settings_for(server, tasks), max_batch_requests=2, max_remote_batches=0, max_unpushed_batches=3)
    assert not task.run()
    files = sorted(tasks.glob("toy_batch*.jsonl"))
    assert len(files) == 3
    assert all(len(file.read_text().splitlines()) == 2 for file in files)
    assert batches_of(server, tasks) == []
    assert "max_remote_batches: 0 of 0 used" in log.text
    assert ToyTask(settings_for(server, tasks), max_batch_requests=2).run()
    assert len(rows_of(tasks)) == 8


def test_local_batches_are_made_anew_when_limits_change(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks), max_batch_requests=2, max_remote_batches=0).run()
    assert ToyTask(settings_for(server, tasks), max_batch_requests=5).run()
    pushed = query(tasks, "SELECT requests FROM batch WHERE state = 'closed' ORDER BY id")
    assert [requests for (requests,) in pushed] == [5, 3]
    assert list(tasks.glob("toy_batch*")) == []


def test_max_retries_is_the_number_of_tries_beyond_the_first(tmp_path: Path, tasks: Path) -> None:
    """--max_retries 5"""
    plan = "lines: [{fault: status, status: 500, match: word-00001}]\ntiming: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    with sandbox(tmp_path / "server", plan) as rough:
        ToyTask(settings_for(rough, tasks), max_retries=5, max_pass_failures=99).run()
    assert query(tasks, "SELECT attempt, tries, state FROM request WHERE attempt > 1") == [(6, 6, "failed")]


class TestPassRatio:
    """--min_pass_ratio 0.8: what share must succeed, and what happens after too many bad batches."""

    PLAN = (
        "lines: [{fault: status, status: 500, match: word-00000}, {fault: status, status: 500, match: word-00001}]\n"
        "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    )

    def test_stops_the_run_after_too_many_bad_batches(
        self, tmp_path: Path, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        with sandbox(tmp_path / "server", self.PLAN) as rough:
            task = ToyTask(settings_for(rough, tasks), min_pass_ratio=0.8, max_pass_failures=2, max_retries=9)
            assert task.main() == 1
        assert "2 batches in a row have not passed, and max_pass_failures is 2" in log.text
        assert len(rows_of(tasks)) == 6

    def test_lets_a_batch_pass_that_reaches_it(self, tmp_path: Path, tasks: Path) -> None:
        with sandbox(tmp_path / "server", self.PLAN) as rough:
            ToyTask(settings_for(rough, tasks), min_pass_ratio=0.75, max_retries=0).run()
        assert query(tasks, "SELECT passed FROM batch") == [(1,)]


class TestFailedBatches:
    """--process_failed_batches 2 [--retry_fatal_requests]"""

    PLAN = (
        "lines: [{fault: status, status: 400, code: bad_thing, message: cannot do that, match: word-00004, times: 1}]\n"
        "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    )

    def test_stop_the_run_with_one_clear_message(
        self, tmp_path: Path, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        with sandbox(tmp_path / "server", self.PLAN) as rough:
            assert ToyTask(settings_for(rough, tasks)).main() == 1
            assert "cannot do that" in log.text
            assert "--process_failed_batches 1" in log.text
            assert len(rows_of(tasks)) == 7
            assert ToyTask(settings_for(rough, tasks)).main() == 1, "a plain restart does not pass over it"

    def test_count_as_failed_if_processed(self, tmp_path: Path, tasks: Path) -> None:
        with sandbox(tmp_path / "server", self.PLAN) as rough:
            assert ToyTask(settings_for(rough, tasks), process_failed_batches=1).run()
        assert len(rows_of(tasks)) == 7
        assert query(tasks, "SELECT status, count(*) FROM sample GROUP BY 1 ORDER BY 1") == [
            ("failed", 1),
            ("succeeded", 7),
        ]

    def test_are_asked_again_with_retry_fatal_requests(self, tmp_path: Path, tasks: Path) -> None:
        with sandbox(tmp_path / "server", self.PLAN) as rough:
            assert ToyTask(settings_for(rough, tasks), process_failed_batches=-1, retry_fatal_requests=True).run()
        assert len(rows_of(tasks)) == 8


class TestWipes:
    """--wipe_requests, --wipe_failed, --wipe_task"""

    def test_wipe_requests_cancels_on_the_server_and_asks_anew(self, tmp_path: Path, tasks: Path) -> None:
        """Ongoing requests go, finished results stay, the server is left clean."""
        with sandbox(tmp_path / "server", STUCK + "batches: []\n") as stuck:
            ToyTask(settings_for(stuck, tasks), max_batch_requests=4, once=True).run()
            assert len(files_of(stuck, tasks)) == 2
            assert ToyTask(settings_for(stuck, tasks), wipe_requests=True, run=False).main() == 0
            assert {batch["status"] for batch in batches_of(stuck, tasks)} == {"cancelled"}
            assert files_of(stuck, tasks) == []
        assert query(tasks, "SELECT count(*) FROM request") == [(0,)]
        assert query(tasks, "SELECT reserved_pico FROM account") == [(0,)]

    def test_wipe_requests_keeps_finished_samples(self, server: SandboxProcess, tasks: Path) -> None:
        ToyTask(settings_for(server, tasks), max_batch_requests=4, max_session_requests=4).run()
        before = rows_of(tasks)
        assert ToyTask(settings_for(server, tasks), wipe_requests=True).run()
        assert rows_of(tasks)[:4] == before
        assert len(rows_of(tasks)) == 8

    def test_wipe_requests_replays_the_answers_of_samples_it_touches(self, server: SandboxProcess, tasks: Path) -> None:
        """A sample with a finished and an unfinished request: the finished answer is shown again, not paid again."""

        class Pair(ToyTask):
            count = 4

            def process_result(self, result: Result, sample: Sample) -> None:
                sample.emit({"key": sample.key, "number": result.number})
                if result.number == 0:
                    from gpt_batch_api.task_manager import GPTRequest

                    sample.ask(GPTRequest(sample.key, self.payload(sample.key), number=1))

        assert not Pair(settings_for(server, tasks), max_batch_requests=4, max_session_requests=4).run()
        assert len(rows_of(tasks)) == 4
        assert Pair(settings_for(server, tasks), wipe_requests=True).run()
        assert sorted((row["key"], row["number"]) for row in rows_of(tasks)) == [
            (f"word-{index:05}", number) for index in range(4) for number in (0, 1)
        ]
        assert sum(batch["request_counts"]["total"] for batch in batches_of(server, tasks)) == 8

    def test_wipe_failed_tries_failed_samples_again(self, tmp_path: Path, tasks: Path) -> None:
        plan = (
            "lines: [{fault: status, status: 500, match: word-00006, times: 2}]\n"
            "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
        )
        with sandbox(tmp_path / "server", plan) as rough:
            ToyTask(settings_for(rough, tasks), max_retries=1, max_pass_failures=9).run()
            assert len(rows_of(tasks)) == 7
            assert ToyTask(settings_for(rough, tasks), wipe_failed=True).run()
        assert len(rows_of(tasks)) == 8
        assert query(tasks, "SELECT attempt, tries FROM request ORDER BY tries DESC LIMIT 1") == [(1, 1)]
        spent, unlinked, linked = query(
            tasks, "SELECT sum(spent_pico), sum(unlinked_pico), (SELECT sum(cost_pico) FROM response) FROM ledger"
        )[0]
        assert spent == unlinked + linked

    def test_wipe_task_starts_from_scratch(self, server: SandboxProcess, tasks: Path) -> None:
        ToyTask(settings_for(server, tasks)).run()
        assert ToyTask(settings_for(server, tasks), wipe_task=True, max_completion_tokens=77).run()
        assert len(rows_of(tasks)) == 8
        assert json.loads(query(tasks, "SELECT metadata FROM task")[0][0])["max_completion_tokens"] == 77
        assert len(batches_of(server, tasks)) == 2

    def test_a_wipe_without_kept_responses_resets_whole_samples(self, server: SandboxProcess, tasks: Path) -> None:
        class Pair(ToyTask):
            count = 2

            def process_result(self, result: Result, sample: Sample) -> None:
                if result.number == 0:
                    from gpt_batch_api.task_manager import GPTRequest

                    sample.ask(GPTRequest(sample.key, self.payload(sample.key), number=1))
                else:
                    sample.emit({"key": sample.key})

        Pair(settings_for(server, tasks), max_session_requests=2, keep_responses=False).run()
        assert Pair(settings_for(server, tasks), wipe_requests=True, keep_responses=False).run()
        assert len(rows_of(tasks)) == 2
        assert sum(batch["request_counts"]["total"] for batch in batches_of(server, tasks)) == 6


class TestLimits:
    """Each total limit holds, and says so."""

    @pytest.mark.parametrize("name", ["max_session_requests", "max_task_requests"])
    @pytest.mark.parametrize(("limit", "sent"), [(0, 0), (1, 1), (5, 5), (8, 8), (9, 8)])
    def test_requests(
        self, server: SandboxProcess, tasks: Path, name: str, limit: int, sent: int, log: pytest.LogCaptureFixture
    ) -> None:
        done = ToyTask(settings_for(server, tasks, max_batch_requests=3, **{name: limit})).run()
        assert sum(batch["request_counts"]["total"] for batch in batches_of(server, tasks)) == sent
        assert done == (sent == 8)
        assert (name in log.text) == (not done)

    @pytest.mark.parametrize("name", ["max_session_ktokens", "max_task_ktokens"])
    def test_tokens(self, server: SandboxProcess, tasks: Path, name: str) -> None:
        assert not ToyTask(settings_for(server, tasks, **{name: 0.2})).run()
        (tokens,) = query(tasks, "SELECT sum(input_tokens) FROM batch WHERE remote_id IS NOT NULL")[0]
        assert 0 < tokens <= 200 / 1.05

    @pytest.mark.parametrize("name", ["max_session_cost", "max_task_cost", "max_batch_cost"])
    def test_cost(self, server: SandboxProcess, tasks: Path, name: str) -> None:
        """Two requests' worth of money is two requests, not three."""
        cost = 2 * self.cost_of_one(server, tasks)
        done = ToyTask(settings_for(server, tasks, task_prefix="limited", **{name: f"{cost / 1e12:.12f}"})).run()
        sizes = query(tasks, "SELECT requests FROM batch WHERE remote_id IS NOT NULL", prefix="limited")
        if name == "max_batch_cost":
            assert done
            assert [size for (size,) in sizes] == [2, 2, 2, 2]
        else:
            assert not done
            assert [size for (size,) in sizes] == [2]

    def cost_of_one(self, server: SandboxProcess, tasks: Path) -> int:
        ToyTask(settings_for(server, tasks), task_prefix="probe", max_batch_requests=1, max_remote_batches=0).run()
        return int(query(tasks, "SELECT cost_pico FROM batch LIMIT 1", prefix="probe")[0][0])

    def test_strict_budget_refuses_what_has_no_maximum(self, server: SandboxProcess, tasks: Path) -> None:
        class Unbounded(ToyTask):
            defaults = {"model": "gpt-4o-mini"}  # noqa: RUF012

        with pytest.raises(
            Exception, match="With strict_budget request 'word-00000' cannot be sent: it sets no maximum"
        ):
            Unbounded(settings_for(server, tasks), strict_budget=True).run()
