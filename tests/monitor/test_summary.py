"""The summary: ten lines at most, whatever has happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.request import Kind
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.monitor.facts import facts_of
from gpt_batch_api.monitor.summary import reasons, summary_lines
from gpt_batch_api.store import lengths, snapshot
from tests.store.rig import CHAT, MODEL, NOW, Desk, desk_at
from tests.store.test_snapshot import scene


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path / "t_state.db") as desk:
        yield desk


def summary(desk: Desk, *, after_s: float = 90) -> str:
    facts = facts_of(snapshot.take(desk.db), settings=Settings.from_values({}), now=NOW + after_s)
    return "\n".join(summary_lines(facts, prefix="t"))


def test_a_task_in_the_middle(desk: Desk) -> None:
    """Everything that there is to tell, word by word."""
    scene(desk)
    ids = desk.answered(*(f"more-{index}" for index in range(35)))
    desk.hand({ids[0]: RequestState.FAILED, **dict.fromkeys(ids[1:], RequestState.SUCCEEDED)})
    assert summary(desk).splitlines() == [
        "Task t (Toy): not complete",
        "  samples    43: 7 pending, 35 succeeded, 1 failed, 0 mixed",
        "  requests   43 asked = 35 succeeded + 1 failed + 1 held + 6 under way",
        "             failed: 1 rejected_by_task; held: 1 invalid_request",
        "  output     1 row in toy_output.jsonl",
        "  time       run 1: 2 min; time left: unknown (on the server unknown, direct unknown)",
        "  tokens     185 input (predicted 259), 111 completion (predicted 370); max 3 completion tokens, "
        "completion ratio 0.150",
        "  money      $0.0000000011 spent (expected $0.000000002), $0.0000000001 reserved",
    ]


def test_it_is_never_longer_than_ten_lines(desk: Desk) -> None:
    """With failed and held requests, and advice that has its evidence."""
    scene(desk)
    desk.answered(*(f"more-{index}" for index in range(40)))
    desk.hand(RequestState.FAILED)
    with desk.store.transaction() as tx:
        lengths.learn(tx, [(Kind(CHAT, MODEL, 20, 20), Usage(5, output_tokens=3), "ok")] * 40)
    lines = summary(desk).splitlines()
    assert len(lines) == 10
    assert "failed: 41 rejected_by_task; held: 1 invalid_request" in lines[3]
    assert "advice" in lines[8]
    assert "learnt from 40 answers" in lines[9]


def test_a_task_that_has_only_begun(desk: Desk) -> None:
    assert summary(desk).splitlines() == [
        "Task t (Toy): not complete",
        "  samples    0: 0 pending, 0 succeeded, 0 failed, 0 mixed",
        "  requests   0 asked = 0 succeeded + 0 failed + 0 held + 0 under way",
        "  output     0 rows",
        "  time       run 1: 2 min; time left: unknown",
        "  money      $0.00 spent (expected $0.00), $0.00 reserved",
    ]


def test_many_reasons_are_told_in_one_line() -> None:
    """The most frequent by name, the others as a sum."""
    found = {f"reason_{number}": number for number in range(1, 10)}
    assert reasons(found) == "9 reason_9, 8 reason_8, 7 reason_7, 6 reason_6, 15 of 5 other reasons"
