"""Identical payloads are asked once, and the answer is given to all (`dedupe`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample
from tests.toy import ToyTask, ask, books, query, rows_of, settings_for


class Repeated(ToyTask):
    """Twelve samples ask about four words."""

    count = 12
    seen: list[tuple[str, int, int]]

    def payload(self, key: str) -> dict[str, Any]:
        return super().payload(f"word {int(key[-5:]) % 4}")


def calls(server: SandboxProcess) -> int:
    """How many requests the server has charged for."""
    requests: int = ask(server, "/sandbox/ledger")["total"]["requests"]
    return requests


def check_all_answered(tasks: Path, *, count: int = 12, in_vain: bool = False) -> None:
    """One row for each sample; all of the same word say the same. *in_vain*: something was paid that never came."""
    rows = rows_of(tasks)
    assert sorted(row["key"] for row in rows) == [f"word-{index:05}" for index in range(count)]
    assert {(int(row["key"][-5:]) % 4, row["word"]) for row in rows} == {(n, f"word {n}") for n in range(4)}
    spent, reserved, unlinked, linked = books(tasks)
    assert spent == linked + unlinked > 0
    assert (reserved, unlinked > 0) == (0, in_vain)


@pytest.mark.parametrize("road", [{}, {"force_direct": True}, {"max_batch_requests": 2}])
def test_each_question_is_asked_once(weather: Any, tasks: Path, road: dict[str, Any]) -> None:
    with weather("") as server:
        assert Repeated(settings_for(server, tasks), dedupe=True, **road).run()
        assert calls(server) == 4
    check_all_answered(tasks)
    assert query(tasks, "SELECT count(*), sum(cost_pico > 0) FROM response") == [(12, 4)]


def test_without_it_each_sample_asks_for_itself(weather: Any, tasks: Path) -> None:
    with weather("") as server:
        assert Repeated(settings_for(server, tasks)).run()
        assert calls(server) == 12


def test_what_was_asked_before_is_found_too(weather: Any, tasks: Path) -> None:
    """Samples that come later, after all is answered, and a task that was begun without dedupe."""
    with weather("") as server:
        first = Repeated(settings_for(server, tasks))
        first.count = 4
        assert first.run()
        assert calls(server) == 4
        assert Repeated(settings_for(server, tasks), dedupe=True).run()
        assert calls(server) == 4
    check_all_answered(tasks)


def test_without_kept_answers_late_samples_are_asked_anew(weather: Any, tasks: Path) -> None:
    """There is nothing to copy. Those that come in time still share."""
    with weather("") as server:
        settings = settings_for(server, tasks, dedupe=True, keep_responses=False)
        first = Repeated(settings)
        first.count = 8
        assert first.run()
        assert calls(server) == 4
        assert Repeated(settings).run()
        assert calls(server) == 8
    check_all_answered(tasks)


class Opinions(ToyTask):
    """Two samples with the same question, three opinions each."""

    def generate_requests(self) -> Iterable[GPTRequest]:
        for key in ("a", "b"):
            for number in range(3):
                yield GPTRequest(key, self.payload("word-00000"), number=number)

    def process_result(self, result: Result, sample: Sample) -> None:
        sample.emit({"key": sample.key, "number": result.number})


def test_several_answers_to_one_sample_stay_several(weather: Any, tasks: Path) -> None:
    """Each sample gets three opinions, the same three as the other."""
    with weather("") as server:
        assert Opinions(settings_for(server, tasks), dedupe=True).run()
        assert calls(server) == 3
    assert sorted((row["key"], row["number"]) for row in rows_of(tasks)) == [(k, n) for k in "ab" for n in range(3)]
    by_number = (
        "SELECT number, count(*), count(DISTINCT body) FROM raw_response JOIN response ON response.id = response_id "
        "JOIN request ON request.id = request_id GROUP BY number"
    )
    assert query(tasks, by_number) == [(0, 2, 1), (1, 2, 1), (2, 2, 1)]
    assert query(tasks, "SELECT count(DISTINCT body) FROM raw_response") == [(3,)]


class Picky(Repeated):
    """Does not like the first answer for one sample."""

    def process_result(self, result: Result, sample: Sample) -> None:
        if sample.key == "word-00004" and result.attempt == 1:
            result.retry("once more")
            return
        super().process_result(result, sample)


def test_a_sample_that_wants_another_answer_is_asked_by_itself(weather: Any, tasks: Path) -> None:
    with weather("") as server:
        assert Picky(settings_for(server, tasks), dedupe=True).run()
        assert calls(server) == 5
    check_all_answered(tasks)


def test_a_bad_answer_is_mended_before_it_is_shared(weather: Any, tasks: Path) -> None:
    """A missing line is asked again; the twins wait."""
    with weather("lines: [{fault: missing, nth: [1]}]") as server:
        assert Repeated(settings_for(server, tasks), dedupe=True).run()
    check_all_answered(tasks, in_vain=True)
    assert query(tasks, "SELECT count(*) FROM response WHERE verdict = 'retryable'") == [(1,)]


def test_what_cannot_succeed_is_held_once_and_decided_for_all(weather: Any, tasks: Path) -> None:
    with weather('lines: [{fault: fatal, match: "word 2", message: No}]') as server:
        assert Repeated(settings_for(server, tasks), dedupe=True).main() == 1
        states = dict(query(tasks, "SELECT state, count(*) FROM request GROUP BY 1"))
        assert states == {"succeeded": 9, "held": 1, "twin": 2}
        assert Repeated(settings_for(server, tasks), dedupe=True, process_failed_batches=1).run()
    assert dict(query(tasks, "SELECT state, count(*) FROM request GROUP BY 1")) == {"succeeded": 9, "failed": 3}


def test_a_wipe_takes_waiting_twins_along(weather: Any, tasks: Path) -> None:
    """Then all is asked anew, once each."""
    with weather("") as server:
        Repeated(settings_for(server, tasks), dedupe=True, max_session_requests=0).run()
        assert query(tasks, "SELECT count(*) FROM request WHERE state = 'twin'") == [(8,)]
        assert Repeated(settings_for(server, tasks), dedupe=True, wipe_requests=True).run()
        assert calls(server) == 4
    check_all_answered(tasks)


def test_twins_get_their_answer_also_when_the_setting_is_gone(weather: Any, tasks: Path) -> None:
    with weather("") as server:
        Repeated(settings_for(server, tasks), dedupe=True, max_session_requests=0).run()
        assert Repeated(settings_for(server, tasks)).run()
        assert calls(server) == 4
    check_all_answered(tasks)


def test_a_dry_run_shows_that_little_would_be_sent(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    Repeated(settings_for(server, tasks), dedupe=True, dryrun=True).run()
    assert "Batch 1: prepared 4 requests" in log.text
    assert list(tasks.iterdir()) == []
