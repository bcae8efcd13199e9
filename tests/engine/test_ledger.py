"""The books of a task equal the server's, to the picodollar, as far as the server says what it used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.cli.main import main
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample
from tests.toy import ToyTask, ask, books, let_time_pass, query, sandbox, settings_for

ROUGH: dict[str, Any] = {"max_retries": 9, "min_pass_ratio": 0, "max_pass_failures": 99, "process_failed_batches": -1}


def billed(server: SandboxProcess, road: str | None = None) -> int:
    """What the server has billed, in all or on one road."""
    told = ask(server, "/sandbox/ledger")
    found = told["total"] if road is None else told["roads"].get(road, {"cost_pico": 0})
    cost: int = found["cost_pico"]
    return cost


class Many(ToyTask):
    count = 60


class TestABatchesOwnUsage:
    @pytest.mark.parametrize("fault", ["missing", "broken", "no_usage"])
    def test_shows_what_answers_cost_that_cannot_be_seen(
        self, weather: Any, tasks: Path, log: pytest.LogCaptureFixture, fault: str
    ) -> None:
        """Lines that are missing, broken or silent were paid for: the batch itself says so."""
        with weather(f"lines: [{{fault: {fault}, nth: [2, 5, 9]}}]") as server:
            assert Many(**settings_for(server, tasks, **ROUGH)).run()
            spent, reserved, unlinked, linked = books(tasks)
            assert spent == billed(server) == linked + unlinked
            assert unlinked > 0
            assert reserved == 0
        assert log.text.count("the server says that it used") == 1
        assert "have no answer to show for them, and count as spent" in log.text
        assert query(tasks, "SELECT count(*) FROM event WHERE kind = 'UsageDiffers'") == [(1,)]

    @pytest.mark.parametrize("fault", ["missing", "broken", "no_usage"])
    def test_that_is_not_told_leaves_silent_answers_booked_as_they_were_reserved(
        self, weather: Any, tasks: Path, fault: str
    ) -> None:
        """Nobody says what they cost: never less is booked than was billed."""
        plan = f"batches: [{{fault: no_counts}}]\nlines: [{{fault: {fault}, nth: [2, 5, 9]}}]"
        with weather(plan) as server:
            settings = settings_for(server, tasks, completion_ratio=1.0, max_batch_requests=10, **ROUGH)
            assert Many(**settings).run()
            spent, reserved, unlinked, linked = books(tasks)
            assert (reserved, spent) == (0, linked + unlinked)
            assert linked < billed(server) <= spent
        (load,) = query(tasks, "SELECT DISTINCT cost_pico / requests FROM batch WHERE id = 1")
        assert unlinked == pytest.approx(3 * load[0], rel=0.05)

    def test_is_not_told_where_it_agrees(
        self, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
    ) -> None:
        assert Many(**settings_for(server, tasks)).run()
        assert "the server says that it used" not in log.text
        assert books(tasks).unlinked == 0

    def test_of_an_expired_batch_is_what_had_finished(self, weather: Any, tasks: Path) -> None:
        """Partial results, twice in a row."""
        with weather("batches: [{fault: expire, nth: [1, 2], after_fraction: 0.4}]") as server:
            assert Many(**settings_for(server, tasks)).run()
            assert books(tasks).spent == books(tasks).linked == billed(server)

    def test_of_a_wiped_batch_is_booked_though_its_answers_are_thrown_away(self, tmp_path: Path, tasks: Path) -> None:
        """Those that had run when it was cancelled."""
        plan = "timing: {validating_s: 0, requests_per_s: 0.01, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}\n"
        with sandbox(tmp_path / "server", plan + "lines: [{fault: missing, nth: [2]}]") as server:
            assert not Many(**settings_for(server, tasks, once=True)).run()
            let_time_pass(server, 2000)  # some have run by then
            assert not Many(**settings_for(server, tasks, run=False, wipe_requests=True)).run()
            assert books(tasks).spent == books(tasks).unlinked == billed(server)


class Long(ToyTask):
    """Three long prompts of more than 272,000 tokens, where every token costs more, and three short ones."""

    defaults = {"model": "gpt-5.4", "max_completion_tokens": 300}  # noqa: RUF012
    count = 6

    def payload(self, key: str) -> dict[str, Any]:
        text = "word " * (272_100 if int(key[-1]) % 2 else 2000)
        return {**self.meta, "messages": [{"role": "user", "content": f"{text} {key}"}]}

    def process_result(self, result: Result, sample: Sample) -> None:
        assert result.ok


class Cached(ToyTask):
    """Prompts long enough to be cached, of a model that charges for writing to the cache."""

    defaults = {"model": "gpt-6-luna", "max_completion_tokens": 300}  # noqa: RUF012
    count = 40

    def payload(self, key: str) -> dict[str, Any]:
        return {**super().payload(key), "messages": [{"role": "user", "content": "word " * 1100 + f'about "{key}"'}]}


@pytest.mark.parametrize("force_direct", [False, True], ids=["batches", "direct calls"])
class TestDearAndCheapTokens:
    def test_the_long_context_step_is_booked_as_it_is_billed(
        self, server: SandboxProcess, tmp_path: Path, tasks: Path, force_direct: bool
    ) -> None:
        with sandbox(tmp_path / "own") as own:
            assert Long(**settings_for(own, tasks, force_direct=force_direct)).run()
            assert books(tasks).spent == books(tasks).linked == billed(own)
        assert query(tasks, "SELECT count(*) FROM response WHERE input_tokens > 272000") == [(3,)]

    def test_cached_and_written_tokens_are_booked_as_they_are_billed(
        self, weather: Any, tasks: Path, force_direct: bool
    ) -> None:
        with weather("answers: {cache_rate: 0.5, cache_write_rate: 0.5}") as server:
            assert Cached(**settings_for(server, tasks, force_direct=force_direct)).run()
            assert books(tasks).spent == books(tasks).linked == billed(server)
        used = query(tasks, "SELECT sum(cached_tokens > 0), sum(cache_write_tokens > 0) FROM response")[0]
        assert min(used) > 5


def test_a_long_request_without_an_answer_is_booked_at_its_dear_price(weather: Any, tasks: Path) -> None:
    """Its line is missing: the sum of the batch cannot show the step, but its request was known to be above it."""
    with weather("lines: [{fault: missing, match: word-00003, times: 1}]") as server:
        assert Long(**settings_for(server, tasks, **ROUGH)).run()
        assert books(tasks).unlinked > 272_000 * 2_500_000
        assert books(tasks).spent == billed(server)


@pytest.mark.parametrize("seed", range(3))
def test_after_bad_weather_without_lost_replies_the_books_are_the_servers(
    tmp_path: Path, tasks: Path, seed: int
) -> None:
    """Refusals, cut-off and broken answers, errors, missing lines, an expiry, a token limit: in batches and by direct calls."""
    plan = f"""
seed: {seed}
timing: {{validating_s: 0, requests_per_s: 1000000, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}}
answers: {{refusal_rate: 0.1, length_rate: 0.1, broken_json_rate: 0.1}}
faults:
  - {{on: batches.create, fault: lose_after, nth: [2]}}
  - {{on: "files.*", fault: status, status: 503, rate: 0.1}}
  - {{on: files.content, fault: cut, after_bytes: 900, times: 2}}
  - {{on: direct, fault: status, status: 429, rate: 0.1, code: rate_limit_exceeded}}
  - {{on: direct, fault: status, status: 500, rate: 0.1}}
lines:
  - {{fault: missing, rate: 0.05}}
  - {{fault: doubled, rate: 0.05}}
  - {{fault: broken, rate: 0.05}}
  - {{fault: unknown_id, rate: 0.05}}
  - {{fault: status, rate: 0.05}}
batches:
  - {{fault: expire, nth: [2], after_fraction: 0.3}}
  - {{fault: fail, code: token_limit_exceeded, nth: [3]}}
"""
    with sandbox(tmp_path / "server", plan) as server:
        settings = settings_for(server, tasks, max_batch_requests=20, min_batch_requests=8, **ROUGH)
        assert Many(**settings).run()
        spent, reserved, unlinked, linked = books(tasks)
        assert (spent, reserved) == (billed(server), 0)
        batches = query(tasks, "SELECT sum(spent_pico) FROM ledger WHERE batch_id IS NOT NULL")[0][0]
        assert batches == billed(server, "batch")
        assert linked + unlinked == spent
    assert query(tasks, "SELECT min(reserved_pico) >= 0 FROM account") == [(1,)]


class TestAStrictBudget:
    """Whatever the answers, no limit on cost is passed: here every one uses all that it may."""

    class Greedy(Cached):
        """Never content; what is written to the cache costs more than plain input."""

        count = 60

        def payload(self, key: str) -> dict[str, Any]:
            return {**super().payload(key), "max_completion_tokens": 64 + int(key[-2:]) * 5}

        def process_result(self, result: Result, sample: Sample) -> None:
            if result.ok:
                result.retry("never good enough")

    @pytest.mark.parametrize("force_direct", [False, True], ids=["batches", "direct calls"])
    @pytest.mark.parametrize("limit", ["max_session_cost", "max_task_cost"])
    def test_is_never_passed(self, weather: Any, tasks: Path, limit: str, force_direct: bool) -> None:
        """Retries included, run after run; and most of it can be used."""
        budget = 0.003
        with weather("answers: {always_maximum: true, cache_write_rate: 1}") as server:
            values = {
                **ROUGH,
                "strict_budget": True,
                "force_direct": force_direct,
                limit: budget,
                "max_batch_requests": 7,
            }
            spent = 0
            for turn in range(1, 4):
                self.Greedy(**settings_for(server, tasks, **values)).run()
                spent = billed(server)
                assert spent == books(tasks).spent <= budget * 1e12 * (turn if limit == "max_session_cost" else 1)
        assert spent > 0.8 * budget * 1e12

    def test_is_needed_for_that(self, weather: Any, tasks: Path) -> None:
        """With the usual reservations a limit is passed by answers longer than expected."""
        with weather("answers: {always_maximum: true}") as server:
            values = {**ROUGH, "max_session_cost": 0.0004, "assumed_completion_ratio": 0.1}
            self.Greedy(**settings_for(server, tasks, **values)).run()
            assert billed(server) > 0.0004e12


class TestWhatWentWhere:
    def test_the_status_says_what_retries_and_bad_answers_cost(
        self, weather: Any, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with weather("answers: {refusal_rate: 0.2}") as server:
            assert Many(**settings_for(server, tasks, min_batch_requests=30, **ROUGH)).run()
        assert main(["status", "--task_dir", str(tasks)]) == 0
        said = capsys.readouterr().out
        assert "for answers that were no good: refusal $" in said
        assert "for retries: $" in said
        assert " gpt-4o-mini in batches, $" in said
        assert main(["status", "--task_dir", str(tasks), "--task_prefix", "toy", "--json"]) == 0
        money = json.loads(capsys.readouterr().out)["money"]
        assert sum(line["cost_pico"] for line in money["spending"]) == money["spent_pico"] - money["unlinked_pico"]
        true = query(
            tasks, "SELECT attempt, reason, count(*), sum(cost_pico) FROM response GROUP BY 1, 2 ORDER BY 1, 2"
        )
        told: dict[tuple[int, str], list[int]] = {}
        for line in money["spending"]:
            sums = told.setdefault((line["attempt"], line["reason"]), [0, 0])
            sums[0] += line["answers"]
            sums[1] += line["cost_pico"]
        assert [(*key, *sums) for key, sums in sorted(told.items())] == true
        assert {key[0] for key in told} >= {1, 2}

    def test_answers_that_the_task_rejects_count_as_no_good(self, server: SandboxProcess, tasks: Path) -> None:
        """Though the server called them a success."""

        class Picky(Many):
            def process_result(self, result: Result, sample: Sample) -> None:
                if result.attempt == 1 and sample.key.endswith("7"):
                    result.retry("not this one")

        assert Picky(**settings_for(server, tasks)).run()
        rejected = query(tasks, "SELECT model, attempt, answers FROM spending WHERE reason = 'rejected_by_task'")
        assert rejected == [("gpt-4o-mini", 1, 6)]
        assert query(tasks, "SELECT sum(cost_pico) FROM spending") == [(books(tasks).linked,)]

    def test_one_model_and_no_trouble_need_no_words(self, server: SandboxProcess, tasks: Path) -> None:
        task = Many(**settings_for(server, tasks))
        assert task.run()
        assert not any("in batches" in line or "no good" in line or "retries" in line for line in task.status())
