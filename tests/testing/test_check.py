"""The self-check of tasks: what keeps its promises passes, and what breaks one is told which, where and how to repeat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.task_manager import TaskManager
from gpt_batch_api.testing import TaskCheckFailed, TaskChecks, check_task
from gpt_batch_api.testing.check import Check
from gpt_batch_api.testing.processes import Worlds, worlds
from tests.testing import subjects


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Processes that are warm already."""
    with worlds(tmp_path_factory.mktemp("worlds")) as both:
        yield both


@pytest.fixture(autouse=True)
def files_of_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed check keeps is kept where pytest cleans up."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_good_task_passes_and_the_report_tells_what_was_tried() -> None:
    """Opinions, follow-ups, retries; kills in all weathers."""
    report = check_task(subjects.Glossary, samples=3, max_retries=1)
    assert report.samples == 3
    assert report.kills >= 6
    assert str(report).startswith("Glossary is deterministic, restartable and wipe-clean: 3 samples, ")


class TestAGoodTask(TaskChecks):
    """The form for pytest."""

    task = subjects.Simple


NOT_DETERMINISTIC: list[tuple[type[TaskManager], str]] = [
    (
        subjects.RandomPrompt,
        r"RandomPrompt is not deterministic: for sample 'harbour' request #0 is not the same at messages\[0\].content.\n"
        r'  one run        : "Define the word \\"harbour\\" in \d+ words."\n'
        r'  another process: "Define the word \\"harbour\\" in \d+ words."\n'
        r"  repeat with: check_task\(RandomPrompt, seed=3, samples=12\); files and logs: /",
    ),
    (subjects.DatedPrompt, r"DatedPrompt is not deterministic: .* messages\[0\].content"),
    (subjects.UnorderedPrompt, r"UnorderedPrompt is not deterministic: .* messages\[0\].content"),
    (
        subjects.TimeInRow,
        r"TimeInRow is not deterministic: for sample 'harbour' the same answers give other rows.\n"
        r'  one run        : \{"at": .*\n  another process: \{"at": ',
    ),
    (
        subjects.GlobalCounter,
        r"GlobalCounter remembers something outside of sample.state, which a restart forgets: "
        r"for sample '\w+' the same answers give other rows.\n  in one go    : .*\n  with restarts: ",
    ),
    (subjects.RemembersInItself, r"RemembersInItself remembers something outside of sample.state"),
    (
        subjects.FirstComeFirstServed,
        r"FirstComeFirstServed depends on the order of the answers, .*\n"
        r'  one order    : \{"number": 0, "word": "\w+"\}\n  another order: \{"number": 1, "word": "\w+"\}\n',
    ),
    (
        subjects.KeepsItsOwnBooks,
        r"KeepsItsOwnBooks is not deterministic: for sample 'harbour' request #0 is not the same",
    ),
    (subjects.AsksNothing, r"AsksNothing asks nothing: generate_requests yields no request\."),
    (subjects.AcceptsNothing, r"AcceptsNothing accepts none of the sandbox's answers .* all 10 requests failed"),
]


@pytest.mark.parametrize(("task", "sentence"), NOT_DETERMINISTIC, ids=lambda case: getattr(case, "__name__", ""))
def test_what_is_not_deterministic_is_told(task: type[TaskManager], sentence: str, both: Worlds) -> None:
    """Which promise, which sample, both versions."""
    with pytest.raises(TaskCheckFailed) as failed:
        Check(task, {}, both, seed=3, samples=12).is_deterministic()
    assert re.match(sentence, str(failed.value)), str(failed.value)


@pytest.mark.parametrize(
    ("task", "weather", "sentence"),
    [
        (
            subjects.LeavesALock,
            "calm",
            r"LeavesALock cannot be restarted in calm weather: .*RuntimeError.*it is running already",
        ),
        (subjects.InsistsOnItsOutput, "calm", r"InsistsOnItsOutput does not survive --wipe_task: .*the output is gone"),
        (
            subjects.BlindToFailure,
            "storm",
            r"BlindToFailure .* storm weather: process_result of BlindToFailure raised AttributeError for sample '\w+' at ",
        ),
    ],
)
def test_what_a_kill_a_wipe_or_a_storm_breaks_is_told(
    task: type[TaskManager], weather: str, sentence: str, both: Worlds
) -> None:
    """All of these pass the look at undisturbed runs."""
    check = Check(task, {}, both, seed=0, samples=12)
    check.is_deterministic()
    with pytest.raises(TaskCheckFailed) as failed:
        check.survives(weather)
    assert re.match(sentence, str(failed.value)), str(failed.value)


def test_a_class_inside_a_function_is_refused() -> None:
    """Another process could not find it."""

    class Local(subjects.Simple):
        pass

    with pytest.raises(UserError, match=r"Local is defined inside a function, .* at the top of a module of its own"):
        check_task(Local)


def test_a_class_of_the_running_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process that script is not __main__."""
    monkeypatch.setattr(subjects.Simple, "__module__", "__main__")
    with pytest.raises(UserError, match="Simple is defined in the script that is running"):
        check_task(subjects.Simple)


def test_a_class_of_a_module_without_a_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with test modules that pytest imports by path."""
    monkeypatch.setattr(subjects.Simple, "__module__", "nowhere_at_all")
    with pytest.raises(UserError, match="Simple is in the module 'nowhere_at_all', which cannot be imported"):
        check_task(subjects.Simple)


def test_a_class_that_wants_more_than_settings_is_refused() -> None:
    """Another process could not make it."""
    with pytest.raises(UserError, match=r"WantsMore cannot be made from settings alone .*'words'.*derive a class"):
        check_task(subjects.WantsMore)
