"""What is left of a task is told before it is paid for: by its own command, and by `gpt-batch-api estimate`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.estimate import trial
from gpt_batch_api.cli.main import main
from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.engine.estimate import estimate
from gpt_batch_api.gpt_requester import GPTRequester
from gpt_batch_api.planning.estimate import Estimate
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.connection import connect_readonly
from tests.seeds.test_useful_arguments import folder_print
from tests.toy import ToyTask, ask, books, query, sandbox, settings_for


class Forty(ToyTask):
    count = 40


def pilot(server: SandboxProcess, tasks: Path, **values: Any) -> None:
    Forty(**settings_for(server, tasks, max_session_requests=15, max_batch_requests=15, **values)).run()


def estimated(server: SandboxProcess, tasks: Path, **values: Any) -> Estimate:
    found = Forty(**settings_for(server, tasks, estimate=True, **values)).run_to_end().estimate
    assert found is not None
    return found


class TestTheFlag:
    def test_nothing_is_asked_and_nothing_changed(self, server: SandboxProcess, tasks: Path) -> None:
        """Not of a new task either, and no key is needed."""
        assert not Forty(task_dir=tasks, estimate=True).run()
        assert list(tasks.iterdir()) == []
        pilot(server, tasks)
        before, calls = folder_print(tasks), ask(server, "/sandbox/state")["calls"]
        estimated(server, tasks)
        assert folder_print(tasks) == before
        assert ask(server, "/sandbox/state")["calls"] == calls

    def test_what_the_generator_has_yet_is_counted(self, server: SandboxProcess, tasks: Path) -> None:
        pilot(server, tasks, max_unpushed_batches=1)
        known = query(tasks, "SELECT count(*) FROM request WHERE state <> 'succeeded'")[0][0]
        found = estimated(server, tasks)
        assert found.generator_asked
        assert found.rest.requests == 25 > known
        assert found.rest.finished == 15

    def test_before_anything_is_asked_the_input_is_known_and_the_output_assumed(
        self, server: SandboxProcess, tasks: Path
    ) -> None:
        found = estimated(server, tasks)
        assert (found.rest.output_tokens.low, found.rest.output_tokens.expected, found.rest.output_tokens.high) == (
            0,
            40 * 50,
            40 * 100,
        )
        assert found.rest.input_tokens.low == found.rest.input_tokens.high == 40 * 74

    def test_it_says_so_in_lines(self, server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture) -> None:
        """And not the status."""
        pilot(server, tasks)
        log.clear()
        estimated(server, tasks)
        said = [text for text in log.messages if not text.startswith("HTTP")]
        assert said[0] == "Estimate of toy: 25 requests not done"
        assert any(line.startswith("  cost       $") and line.endswith("in batches") for line in said)
        assert not any("generator was not asked" in line or "samples" in line for line in said)

    def test_a_wipe_is_imagined_with_it(self, server: SandboxProcess, tasks: Path) -> None:
        """What would it cost to start from scratch?"""
        pilot(server, tasks)
        assert estimated(server, tasks, wipe_task=True).rest.requests == 40
        assert len(query(tasks, "SELECT 1 FROM response")) == 15

    def test_a_requester_has_no_plan_to_estimate(self, server: SandboxProcess, tasks: Path) -> None:
        with (
            pytest.raises(SettingError, match="gpt-batch-api estimate"),
            GPTRequester("toy", **settings_for(server, tasks, estimate=True)),
        ):
            pass


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_after_a_pilot_holds_what_the_rest_costs(seed: int) -> None:
    """Kinds of different length, follow-ups, refusals; `python -m benchmarks.estimate` does it at full size."""
    found = trial(seed, pilot=80, requests=500)
    assert found.holds
    assert found.expected == pytest.approx(found.true, rel=0.2)


class TestTheCommand:
    def told(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        assert main(["estimate", *arguments]) == 0
        return capsys.readouterr().out

    def test_tells_what_the_store_knows(
        self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pilot(server, tasks)
        said = self.told(capsys, "--task_dir", str(tasks))
        assert said.startswith("Estimate of toy: 25 requests not done\n")
        assert "25 in local batches" in said
        assert "the generator was not asked: add --estimate" in said
        assert f"{dollars(books(tasks).spent)} spent so far" in said

    def test_tells_how_long_batches_took_lately(
        self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In the median and at most."""
        Forty(**settings_for(server, tasks, max_batch_requests=10, max_session_requests=30)).run()
        with closing(sqlite3.connect(tasks / "toy_state.db")) as db, db:
            db.execute("UPDATE batch SET ended_at = pushed_at + 3600 * (1 + id) WHERE ended_at IS NOT NULL")
        said = self.told(capsys, "--task_dir", str(tasks), "--min_batch_requests", "1")
        assert ": about 3.0 h if batches take as long as lately (the longest 4.0 h), at most 24.0 h\n" in said
        found = json.loads(self.told(capsys, "--task_dir", str(tasks), "--task_prefix", "toy", "--json"))
        assert found["time_s"]["batch"]["longest_lately"] == 4 * 3600

    def test_gives_a_document(self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One for a task that is named, a list for a folder."""
        pilot(server, tasks)
        found = json.loads(self.told(capsys, "--task_dir", str(tasks), "--task_prefix", "toy", "--json"))
        assert json.loads(self.told(capsys, "--task_dir", str(tasks), "--json")) == [found]
        assert found["requests"]["left"] == found["requests"]["in_local_batches"] == 25
        cost = found["cost_pico"]["batch"]
        assert cost["low"] < cost["expected"] < cost["high"]
        assert found["cost_pico"]["direct"]["expected"] == 2 * cost["expected"]
        assert found["batches"] == {"to_make": 0, "local": 2, "on_server": 0, "rounds": 1, "small_remainder": 0}
        assert found["time_s"]["batch"]["at_most"] == 86_400

    def test_a_finished_task_has_nothing_left(
        self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Forty(**settings_for(server, tasks)).run()
        found = json.loads(self.told(capsys, "--task_dir", str(tasks), "--task_prefix", "toy", "--json"))
        assert found["requests"]["left"] == found["cost_pico"]["batch"]["high"] == found["batches"]["rounds"] == 0

    def test_names_the_limits_in_the_way(
        self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pilot(server, tasks)
        said = self.told(capsys, "--task_dir", str(tasks), "--max_task_requests", "39", "--max_remote_batches", "0")
        assert "LIMIT      max_task_requests leaves 24, and 25 are still to be sent" in said
        assert "time       none: the limits of what may be on the server" in said
        assert "LIMIT" not in self.told(capsys, "--task_dir", str(tasks), "--max_task_requests", "40")

    def test_own_prices_count(self, server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pilot(server, tasks)
        flags = [
            f"--cost_{name}_mtoken=0" for name in ("input_direct", "input_cached", "output_direct", "output_batch")
        ]
        said = self.told(
            capsys, "--task_dir", str(tasks), "--task_prefix", "toy", "--json", *flags, "--cost_input_batch_mtoken=1"
        )
        assert json.loads(said)["cost_pico"]["batch"]["expected"] == 25 * 74 * 10**6
        assert json.loads(said)["cost_pico"]["direct"]["expected"] == 0

    def test_a_wrong_prefix_is_one_line(self, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["estimate", "--task_dir", str(tasks), "--task_prefix", "nobody"]) == 1
        assert capsys.readouterr().err == f"error: There is no task 'nobody' in {tasks}.\n"


JANUARY_3_S = 1_798_934_400.0
"""2027-01-03; gpt-4o-mini ends on the 14th."""


@pytest.mark.parametrize(("most_batches", "rounds", "told"), [(15, 1, False), (1, 2, False), (1, 10, True)])
def test_a_model_that_ends_before_the_work_may_be_done_is_named(
    server: SandboxProcess, tasks: Path, most_batches: int, rounds: int, told: bool
) -> None:
    """One round of batches takes a day at most."""
    Forty(
        **settings_for(
            server, tasks, max_session_requests=0, max_batch_requests=-(-40 // rounds), max_unpushed_batches=50
        )
    ).run()
    settings = Settings.from_values({"max_remote_batches": most_batches})
    with closing(connect_readonly(tasks / "toy_state.db")) as db:
        found = estimate(db, settings, now=JANUARY_3_S, generator_asked=False)
    assert found.schedule.rounds == (1 if most_batches > 1 else rounds)
    assert [model for model, _ in found.shutdowns] == (["gpt-4o-mini"] if told else [])


def test_batches_on_the_server_are_still_to_be_paid(tmp_path: Path, tasks: Path) -> None:
    """They count, with the round that they are."""
    with sandbox(tmp_path / "server", "timing: {validating_s: 100000}\n") as slow:
        Forty(**settings_for(slow, tasks, once=True)).run()
    with closing(connect_readonly(tasks / "toy_state.db")) as db:
        found = estimate(db, Settings.from_values({}), now=0.0, generator_asked=False)
    assert (found.on_server, found.remote_batches, found.schedule.rounds) == (40, 1, 1)
    assert found.rest.cost_pico[Road.BATCH].expected > 0


def test_copies_for_identical_requests_cost_nothing_more(server: SandboxProcess, tasks: Path) -> None:
    """With dedupe each question is paid once: neither copies that came nor twins that wait make the rest cheaper or dearer."""

    class Alike(Forty):
        def payload(self, key: str) -> dict[str, Any]:
            return super().payload(f"word-{int(key[-2:]) // 2}")

    settings = settings_for(server, tasks, dedupe=True, max_batch_requests=12)
    Alike(**settings, max_session_requests=12).run()
    found = Alike(**settings, estimate=True).run_to_end().estimate
    assert found is not None
    assert (found.rest.requests, found.rest.finished) == (8, 12)
    spent = books(tasks).spent
    assert found.rest.cost_pico[Road.BATCH].expected == pytest.approx(spent * 8 / 12, rel=0.05)
