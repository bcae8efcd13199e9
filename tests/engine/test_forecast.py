"""What answers teach is used for the requests that follow: what they reserve, what is expected, what is advised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.lengths import learn_from_stored, learnt
from tests.toy import ToyTask, books, query, settings_for


class Words(ToyTask):
    """Answers of some 30 tokens, where 400 are allowed."""

    defaults = {"model": "gpt-4o-mini", "max_completion_tokens": 400}  # noqa: RUF012
    count = 160


def prepare(server: SandboxProcess, tasks: Path, **values: object) -> bool:
    return Words(**settings_for(server, tasks, max_batch_requests=40, **values)).run()


def expected(tasks: Path) -> dict[int, float]:
    """Output tokens that each request of a batch is expected to have, by batch."""
    return dict(query(tasks, "SELECT id, expected_output_tokens * 1.0 / requests FROM batch ORDER BY id"))


def reserved(tasks: Path) -> dict[int, int]:
    return dict(query(tasks, "SELECT id, cost_pico FROM batch ORDER BY id"))


def test_batches_after_a_pilot_expect_and_reserve_what_its_answers_showed(server: SandboxProcess, tasks: Path) -> None:
    """Before, half of the maximum is assumed."""
    assert not prepare(server, tasks, max_session_requests=40, max_unpushed_batches=1)
    assert not prepare(server, tasks, max_session_requests=40, max_unpushed_batches=1, max_batch_ktokens=19_999)
    before, after = expected(tasks)[1], max(expected(tasks).items())[1]
    true = query(tasks, "SELECT avg(output_tokens), max(output_tokens) FROM response")[0]
    assert before == 200
    assert true[0] - 1 <= after <= true[0] + 2
    in_tokens = query(tasks, "SELECT max(input_tokens) FROM request")[0][0]
    newest = max(reserved(tasks).items())[1] / 40
    assert after * 300_000 < newest <= in_tokens * 75_000 + true[1] * 300_000
    assert newest < reserved(tasks)[1] / 40 / 2


def test_batches_stay_sealed_when_more_was_learnt_since(server: SandboxProcess, tasks: Path) -> None:
    """A restart must not do all of them anew, only because figures moved."""
    assert not prepare(server, tasks, max_session_requests=40)
    sealed = "SELECT id, cost_pico FROM batch WHERE state = 'sealed'"
    before = query(tasks, sealed)
    assert len(before) == 3
    assert not prepare(server, tasks, max_session_requests=40)
    assert not prepare(server, tasks, max_session_requests=0)
    assert query(tasks, sealed) == before[1:]
    assert prepare(server, tasks)
    assert query(tasks, "SELECT count(*) FROM batch WHERE state = 'dissolved'") == [(0,)]
    assert books(tasks).reserved == 0


def test_a_ratio_that_the_user_gives_wins_over_what_was_learnt(server: SandboxProcess, tasks: Path) -> None:
    assert not prepare(server, tasks, max_session_requests=40, max_unpushed_batches=1)
    assert not prepare(server, tasks, max_session_requests=0, assumed_completion_ratio=0.25)
    assert max(expected(tasks).items())[1] == 100


def test_with_a_strict_budget_everything_is_reserved_and_the_true_length_expected(
    server: SandboxProcess, tasks: Path
) -> None:
    assert not prepare(server, tasks, max_session_requests=40, max_unpushed_batches=1)
    assert not prepare(server, tasks, max_session_requests=0, strict_budget=True)
    assert max(expected(tasks).items())[1] < 60
    assert max(reserved(tasks).items())[1] > 40 * 400 * 300_000


def test_answers_to_direct_calls_teach_too(server: SandboxProcess, tasks: Path) -> None:
    """And within the same run: later calls reserve less."""
    assert prepare(server, tasks, force_direct=True, max_direct_concurrency=1)
    groups = query(
        tasks, "SELECT cost_pico * 1.0 / requests, expected_cost_pico * 1.0 / requests FROM direct_group ORDER BY id"
    )
    assert groups[-1][0] < groups[0][0] / 2
    true = query(tasks, "SELECT avg(cost_pico) FROM response")[0][0]
    assert true * 0.8 < groups[-1][1] < true * 1.2


def test_what_is_learnt_with_every_answer_is_what_all_stored_answers_teach(server: SandboxProcess, tasks: Path) -> None:
    """In batches and by direct calls, with retries between them."""
    assert not prepare(server, tasks, max_session_requests=50, min_batch_requests=20)
    assert not prepare(server, tasks, max_session_requests=30, force_direct=True)
    store = Store.open(tasks / "toy_state.db")
    before = learnt(store.db)
    with store.transaction() as tx:
        tx.execute("DELETE FROM answer_length")
        tx.execute("DELETE FROM answer_kind")
        learn_from_stored(tx)
    assert learnt(store.db) == before
    assert sum(lengths.answers for lengths in before.values()) == 80
    store.close()


def test_a_pilot_ends_with_one_line_of_advice(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """The words that the manual looks for, with the evidence."""
    assert not prepare(server, tasks, max_session_requests=40)
    advice, evidence = re.search(r"(advice .*)\n.*?(learnt from .*)", log.text).groups()  # type: ignore[union-attr]
    longest = query(tasks, "SELECT max(output_tokens) FROM response")[0][0]
    assert f"longest {longest}; 0 cut off" in evidence
    assert "learnt from 40 answers: median" in evidence
    suggested, ratio = re.search(r"max_completion_tokens (\d+) and completion ratio (0\.\d\d)", advice).groups()  # type: ignore[union-attr]
    assert longest * 1.25 <= int(suggested) <= longest * 1.6
    assert 0.4 < float(ratio) < 1
    assert "with the present maximum of 400: 0.0" in advice


def test_answers_that_were_cut_off_are_told_in_the_advice(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """A maximum that is too small shows, and a greater one is suggested."""

    class Short(Words):
        defaults = {"model": "gpt-4o-mini", "max_completion_tokens": 5}  # noqa: RUF012
        count = 40

    Short(**settings_for(server, tasks, max_session_requests=40, max_retries=0, min_pass_ratio=0)).run()
    assert "max_completion_tokens 10 and completion ratio" in log.text
    assert "40 cut off" in log.text


@pytest.mark.parametrize("force_direct", [False, True], ids=["batches", "direct calls"])
@pytest.mark.parametrize("limit", ["max_session_cost", "max_task_cost"])
def test_no_reservation_passes_a_limit_whatever_is_learnt(
    weather: Any, tasks: Path, limit: str, force_direct: bool
) -> None:
    """Figures move with every answer, down at first; retries and refusals mix them up."""
    budget_pico = 3 * 10**9 if force_direct else 12 * 10**8
    with weather("answers: {refusal_rate: 0.2, length_rate: 0.05}") as server:
        settings = settings_for(
            server,
            tasks,
            max_batch_requests=15,
            force_direct=force_direct,
            max_direct_concurrency=4,
            min_pass_ratio=0,
            **{limit: budget_pico / 1e12},
        )
        assert not Words(**settings).run()
    total = highest = 0
    for kind, reserved_pico, spent_pico in query(
        tasks, "SELECT kind, reserved_pico, spent_pico FROM ledger ORDER BY id"
    ):
        total += reserved_pico + spent_pico
        if kind == "reserve":
            highest = max(highest, total)
            assert total <= budget_pico
    assert highest > 0.6 * budget_pico
    assert query(tasks, "SELECT min(reserved_pico) >= 0 FROM account") == [(1,)]
