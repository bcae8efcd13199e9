"""The facts: every figure that a watcher shows, named once and counted right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.monitor.facts import Facts, facts_of, settings_of
from gpt_batch_api.monitor.figures import FAMILIES, FIGURES
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store import snapshot
from tests.monitor.recount import BY_KIND, ONE_BY_ONE, recounted
from tests.store.rig import NOW, Desk, desk_at, good
from tests.store.test_snapshot import scene
from tests.toy import ToyTask, settings_for

FORETOLD = ("eta/", "limits/", "session/elapsed_s", "task/age_s")
"""Figures that come from settings and clock, not from rows."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path / "t_state.db") as desk:
        yield desk


def facts(desk: Desk, *, now: float = NOW, **values: object) -> Facts:
    return facts_of(snapshot.take(desk.db), settings=Settings.from_values(values), now=now)


def from_rows(found: Facts) -> dict[str, float]:
    return {name: value for name, value in found.numbers.items() if not name.startswith(FORETOLD)}


def test_every_figure_is_what_its_rows_say(desk: Desk) -> None:
    """In the middle of a task, with requests and batches in many states."""
    scene(desk)
    assert from_rows(facts(desk)) == pytest.approx(recounted(desk.db), rel=1e-12)


def test_details_of_tokens_are_what_the_answers_say(desk: Desk) -> None:
    """Cached, written to the cache, reasoning; also after some of the answers were wiped."""
    ids = desk.add("a", "b")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    usage = Usage(input_tokens=50, cached_tokens=20, cache_write_tokens=5, output_tokens=9, reasoning_tokens=4)
    desk.settle(batch_id, [replace(good(request_id), usage=usage) for request_id in ids])
    details = ("tokens/cached", "tokens/cache_write", "tokens/reasoning")
    assert [facts(desk)[name] for name in details] == [40, 10, 8]
    desk.hand({ids[0]: RequestState.SUCCEEDED, ids[1]: RequestState.FAILED})
    desk.wipe("failed")
    assert [facts(desk)[name] for name in details] == [20, 5, 4]


def test_an_empty_task_has_figures_too(desk: Desk) -> None:
    """All zero; what is a share of nothing is not known, and left out."""
    found = facts(desk)
    assert from_rows(found) == recounted(desk.db)
    assert found["requests/total"] == 0
    assert found.get("answers/pass_ratio") is found.get("tokens/completion_ratio") is None


def test_after_whole_runs_every_figure_is_what_its_rows_say(server: SandboxProcess, tasks: Path) -> None:
    """Batches and direct calls of two runs, through the real engine."""
    for values in ({"max_session_requests": 3, "max_batch_requests": 3}, {"force_direct": True}):
        task = ToyTask(settings_for(server, tasks), **values)
        task.run()
    with desk_at(task.workplace.store) as desk:
        found = facts(desk)
        assert from_rows(found) == pytest.approx(recounted(desk.db), rel=1e-12)
        assert found["requests/succeeded"] == 8


def test_each_figure_has_one_name_a_meaning_and_a_recount() -> None:
    """Nobody can add a figure without saying what it is and how it is checked."""
    names = [figure.name for figure in FIGURES]
    assert len(names) == len(set(names))
    assert all(figure.meaning and not figure.meaning.endswith(".") for figure in (*FIGURES, *FAMILIES))
    assert {name for name in names if not name.startswith(FORETOLD)} == set(ONE_BY_ONE)
    assert {family.prefix for family in FAMILIES} == set(BY_KIND)


def test_charts_get_dollars(desk: Desk) -> None:
    """Under the name without its unit; everything else is as it is."""
    desk.answered("a", cost_pico=2_500_000_000_000)
    numbers = facts(desk).as_numbers()
    assert numbers["money/spent"] == 2.5
    assert "money/spent_pico" not in numbers
    assert numbers["requests/total"] == 1


def test_a_family_is_told_by_kind(desk: Desk) -> None:
    scene(desk)
    assert facts(desk).each("answers/bad/") == {"expired": 1, "invalid_request": 1, "server_error": 1}


class TestTimeLeft:
    """The ETA comes from the task's own history, and says nothing where there is none."""

    def test_without_history_it_is_unknown(self, desk: Desk) -> None:
        desk.push(desk.seal(desk.add("a")))
        desk.add("b")
        found = facts(desk, now=NOW + 60)
        assert found.get("eta/server_s") is found.get("eta/total_s") is None

    def test_with_nothing_to_do_it_is_zero(self, desk: Desk) -> None:
        desk.answered("a")
        desk.hand()
        assert facts(desk)["eta/total_s"] == 0

    def test_a_batch_takes_as_long_as_the_last_ones(self, desk: Desk) -> None:
        desk.answered("a")
        with desk.store.transaction() as tx:
            tx.execute("UPDATE batch SET ended_at = pushed_at + 600")
        desk.push(desk.seal(desk.add("b")))
        assert facts(desk, now=NOW + 100)["eta/server_s"] == 500

    def test_what_waits_goes_in_rounds_as_the_limits_make_them(self, desk: Desk) -> None:
        """Five batches wait, two at a time: three rounds, of which the first is on its way."""
        desk.answered("a")
        with desk.store.transaction() as tx:
            tx.execute("UPDATE batch SET ended_at = pushed_at + 600")
        desk.push(desk.seal(desk.add("b")))
        for key in "cdef":
            desk.seal(desk.add(key))
        found = facts(desk, now=NOW + 100, max_remote_batches=2)
        assert (found["eta/waiting_s"], found["eta/total_s"]) == (1200, 1700)

    def test_limits_that_let_nothing_out_leave_it_unknown(self, desk: Desk) -> None:
        desk.answered("a")
        desk.seal(desk.add("b"))
        assert facts(desk, max_remote_batches=0).get("eta/total_s") is None

    def test_the_first_batch_goes_on_as_it_went(self, desk: Desk) -> None:
        """Three of four requests are done after 300 s."""
        batch_id = desk.seal(desk.add("a", "b", "c", "d"))
        desk.push(batch_id)
        with desk.store.transaction() as tx:
            tx.execute("UPDATE batch SET count_total = 4, count_completed = 2, count_failed = 1")
        assert facts(desk, now=NOW + 300)["eta/server_s"] == 100

    def test_a_batch_that_takes_longer_than_any_before_is_unknown(self, desk: Desk) -> None:
        desk.answered("a")
        with desk.store.transaction() as tx:
            tx.execute("UPDATE batch SET ended_at = pushed_at + 600")
        desk.push(desk.seal(desk.add("b")))
        assert facts(desk, now=NOW + 601).get("eta/server_s") is None

    def test_direct_calls_go_as_fast_as_lately(self, desk: Desk) -> None:
        with desk.store.transaction() as tx:
            tx.execute("INSERT INTO direct_group (session_id, opened_at, closed_at, requests) VALUES (1, 0, 10, 50)")
        desk.add(*"abcdefghij")
        assert facts(desk, force_direct=True)["eta/direct_s"] == 2


class TestWhoseLimits:
    """A watcher in another process shows the limits of the run, not the defaults."""

    def test_they_are_those_of_the_last_run(self, server: SandboxProcess, tasks: Path) -> None:
        task = ToyTask(settings_for(server, tasks), max_task_cost=7, max_remote_requests=100, max_session_requests=0)
        task.run()
        with desk_at(task.workplace.store) as desk:
            desk.db.execute("DELETE FROM session WHERE id = ?", (desk.session_id,))
            settings = settings_of(snapshot.take(desk.db))
        assert settings.limits.max_task_cost == 7
        assert settings.limits.max_remote_requests == 100

    def test_settings_of_another_version_are_left_aside(self, desk: Desk) -> None:
        with desk.store.transaction() as tx:
            tx.execute("""UPDATE session SET settings = '{"max_task_cost": 7, "no_such_setting": 1}'""")
        assert settings_of(snapshot.take(desk.db)) == Settings.from_values({}, environ={})


def test_answers_that_were_good_are_the_pass_ratio(desk: Desk) -> None:
    ids = desk.add("a", "b")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(ids[0]), good(ids[1])])
    assert facts(desk)["answers/pass_ratio"] == 1
