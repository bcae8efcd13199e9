"""Answers as the task's code sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpt_batch_api.domain.hooks import ToHand
from gpt_batch_api.domain.outcome import Outcome, Usage, Verdict
from gpt_batch_api.domain.request import RequestKey, ResponseSchema
from gpt_batch_api.task.results import Parser, Result

OBJECT = ResponseSchema(name="thing", json='{"type":"object"}', python=None)
MODEL = ResponseSchema(name="Word", json="{}", python="tests.toy:Word")


def parsed(*texts: tuple[str, str], schema: ResponseSchema | None = OBJECT) -> Result:
    """The result of an answer with these choices (finish reason, text)."""
    choices = [{"finish_reason": reason, "message": {"content": text}} for reason, text in texts]
    answer = ToHand(
        response_id=1,
        request_id=1,
        sample_id=1,
        key=RequestKey("a", "", 0),
        endpoint="/v1/chat/completions",
        model="gpt-4o-mini",
        schema=schema,
        meta=None,
        attempt=1,
        may_retry=True,
        outcome=Outcome(Verdict.SUCCESS, "ok", ""),
        usage=Usage(),
        cost_pico=0,
        raw=json.dumps({"response": {"body": {"choices": choices}}}).encode(),
    )
    return Parser().parse(answer)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("broken", [DEEP, '{"a":', '{"a": NaN}', "", "nonsense"], ids=lambda text: f"{text:.10}")
@pytest.mark.parametrize("position", [0, 1])
def test_a_broken_choice_beside_a_good_one_does_no_harm(broken: str, position: int) -> None:
    choices = [("stop", '{"a": 1}')]
    choices.insert(position, ("length", broken))
    assert parsed(*choices).values == ({"a": 1},)


@pytest.mark.parametrize("broken", [DEEP, '{"a":', '{"a": Infinity}'], ids=lambda text: f"{text:.10}")
def test_an_answer_that_is_no_json_is_a_parse_failure(broken: str) -> None:
    result = parsed(("stop", broken))
    assert (result.ok, result.value, result.reason) == (False, None, "parse_failure")


def test_halves_of_characters_do_not_reach_the_task() -> None:
    """They could be written nowhere."""
    assert parsed(("stop", r'{"a": "x\ud800y", "\udc00": 1}')).value == {"a": "x?y", "?": 1}
    assert parsed(("stop", r'{"a": "\ud83d\ude00"}')).value == {"a": "😀"}


def test_a_complete_choice_comes_before_one_that_was_cut_off() -> None:
    result = parsed(("length", "It was a dark and"), ("stop", "It was a night."), schema=None)
    assert result.value == "It was a night."
    assert result.text == "It was a night."
    assert result.values == ("It was a night.", "It was a dark and")


def test_a_model_is_found_again_and_filled() -> None:
    value: Any = parsed(("stop", '{"word": "w", "remark": "r"}'), schema=MODEL).value
    assert (type(value).__name__, value.word) == ("Word", "w")


def test_an_answer_that_does_not_fit_its_model_names_the_field() -> None:
    result = parsed(("stop", '{"word": "w"}'), schema=MODEL)
    assert (result.reason, result.message) == ("parse_failure", "the answer does not fit: remark: Field required")
