"""The log of a run: a handful of lines for however many equal problems, and what a live view leaves to it."""

from __future__ import annotations

import dataclasses

import pytest

from gpt_batch_api.domain import events
from gpt_batch_api.domain.events import BatchSettled, Problem
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.monitor.logs import LogLines, words_of
from gpt_batch_api.store.events import TROUBLE, Told

SETTLED = BatchSettled(
    batch=3, status="completed", requests=10_000, succeeded=0, retried=0, failed=10_000, held=0, free=0,
    expected_input_tokens=1, input_tokens=1, expected_output_tokens=1, output_tokens=1, output_allowance=1,
    longest_output_tokens=1, expected_cost_pico=1, cost_pico=1, failure=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("severity", "setting"), [("error", "show_errors"), ("warning", "show_warnings")], ids=["errors", "warnings"]
)
def test_ten_thousand_equal_problems_are_a_handful_of_lines(
    log: pytest.LogCaptureFixture, severity: str, setting: str
) -> None:
    """As many as the setting says, and one with the count of the others."""
    lines = LogLines(Settings.from_values({setting: 3}))
    for number in range(10_000):
        lines(Problem(severity=severity, batch=3, request=f"r{number}", reason="refusal", message="No"))
    lines(SETTLED)
    told = [text for text in log.messages if "refusal" in text]
    assert told == [
        *(f"Batch 3: request r{number}: refusal: No." for number in range(3)),
        "Batch 3: 9,997 more of refusal (10,000 in all).",
    ]


def test_another_batch_begins_anew(log: pytest.LogCaptureFixture) -> None:
    """What was said of one batch says nothing of the next."""
    lines = LogLines(Settings.from_values({"show_errors": 1}))
    for batch in (3, 4):
        for request in ("a", "b"):
            lines(Problem(severity="error", batch=batch, request=request, reason="refusal", message="No"))
    assert [text for text in log.messages if "refusal" in text] == [
        "Batch 3: request a: refusal: No.",
        "Batch 4: request a: refusal: No.",
    ]


@pytest.mark.parametrize("batches", [1, 2, 10, 400, 10_000])
def test_however_many_batches_they_come_in(log: pytest.LogCaptureFixture, batches: int) -> None:
    """10,000 equal problems are twice as many lines as the setting says at most, and a few counts; the last one has them all."""
    lines = LogLines(Settings.from_values({"show_errors": 5}))
    for batch in range(batches):
        for number in range(10_000 // batches):
            lines(Problem(severity="error", batch=batch, request=f"r{number}", reason="refusal", message="No"))
        lines(dataclasses.replace(SETTLED, batch=batch))
    lines(events.RunEnded(outcome="done", reasons=()))
    told = [text for text in log.messages if "refusal" in text]
    shown = [text for text in told if "more of" not in text]
    assert 5 <= len(shown) <= 11
    assert len(told) - len(shown) <= 15  # 10,000 is less than two to the power of 14
    hidden = 10_000 - len(shown)
    assert told[-1].endswith(f"{hidden:,} more of refusal (10,000 in all).")


def test_another_kind_is_shown_anew(log: pytest.LogCaptureFixture) -> None:
    """What one kind has used up is not missing for another, nor errors for warnings."""
    lines = LogLines(Settings.from_values({"show_errors": 2, "show_warnings": 2}))
    for severity, reason in (("error", "refusal"), ("error", "truncated"), ("warning", "refusal")):
        for batch in range(100):
            lines(Problem(severity=severity, batch=batch, request="r", reason=reason, message="No"))
    levels = [record.levelname for record in log.records if "request r: refusal" in record.getMessage()]
    assert levels == ["ERROR"] * 4 + ["WARNING"] * 4
    assert len([text for text in log.messages if "request r: truncated" in text]) == 4


def test_none_are_shown_if_none_are_wanted(log: pytest.LogCaptureFixture) -> None:
    """But they are counted."""
    lines = LogLines(Settings.from_values({"show_errors": 0}))
    lines(Problem(severity="error", batch=3, request="r", reason="refusal", message="No"))
    lines(SETTLED)
    assert [text for text in log.messages if "refusal" in text] == ["Batch 3: 1 more of refusal (1 in all)."]


@pytest.mark.parametrize(("verbosity", "told"), [("normal", 0), ("verbose", 1)])
def test_what_changes_all_the_time_is_left_to_the_view(
    log: pytest.LogCaptureFixture, verbosity: str, told: int
) -> None:
    lines = LogLines(Settings.from_values({"verbosity": verbosity}), beside_view=True)
    lines(events.Waiting(delay_s=1, reasons=("3 batches",)))
    lines(events.BatchProgressed(batch=3, status="in_progress", completed=1, failed=0, total=2))
    assert [len([text for text in log.messages if words in text]) for words in ("Waiting", "in_progress")] == [
        told,
        told,
    ]


def test_trouble_of_the_timeline_is_told_in_the_words_of_the_log() -> None:
    settings = Settings.from_values({})
    told = Told(0.0, "CallsUnknown", {"count": 2, "cost_pico": 3})
    assert words_of(told, settings=settings)[0].startswith("2 direct calls had no answer when the process ended.")


@pytest.mark.parametrize("kind", [event.kind for event in TROUBLE] + ["NoSuchEvent"])
def test_an_event_of_another_version_is_passed_by(kind: str) -> None:
    """A store may hold events that this version knows otherwise, or not at all."""
    assert words_of(Told(0.0, kind, {"no_such_field": 1}), settings=Settings.from_values({})) == []
