"""The Responses endpoint: the form of an answer, directly and in batches."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import ANSWER_SCHEMA, Rig

LAYOUT = {"format": {"type": "json_schema", "name": "Answer", "strict": True, "schema": ANSWER_SCHEMA}}


def ask(rig: Rig, question: Any = 'What is "é"?', **more: Any) -> Response:
    wanted: dict[str, Any] = {"model": "gpt-4o-mini", "input": question, **more}
    answer: Response = rig.client.responses.create(**wanted)
    return answer


def test_an_answer_has_the_form_of_the_api(rig: Rig) -> None:
    """A message with a text, and usage with all details."""
    answer = ask(rig, instructions="Be brief.")
    assert answer.id.startswith("resp_")
    assert (answer.object, answer.status, answer.error, answer.incomplete_details) == (
        "response",
        "completed",
        None,
        None,
    )
    assert answer.instructions == "Be brief."
    assert answer.output_text
    assert answer.usage is not None
    used = answer.usage
    assert used.total_tokens == used.input_tokens + used.output_tokens
    details = used.model_dump()["input_tokens_details"]
    assert (details["cached_tokens"], details["cache_write_tokens"]) == (0, 0)


def test_structured_answers_satisfy_their_schema(rig: Rig) -> None:
    """By `text.format`."""
    record = json.loads(ask(rig, text=LAYOUT).output_text)
    assert record["character"] == "é"
    assert record["sample_sentence"].count("é") >= 2


def test_reasoning_comes_before_the_message(rig: Rig) -> None:
    """So the message is not the first item."""
    answer = ask(rig, model="gpt-5-nano", reasoning={"effort": "high"})
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens > 0


def test_a_maximum_that_is_too_small_leaves_the_answer_incomplete(rig: Rig) -> None:
    """With the reason; status 200 all the same."""
    answer = ask(rig, text=LAYOUT, max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 16


def test_a_refusal_is_a_part_of_the_message(make_rig: MakeRig) -> None:
    """Of its own type."""
    answer = ask(make_rig(answers={"refusal_rate": 1}))
    [message] = answer.output
    assert message.type == "message"
    assert [part.type for part in message.content] == ["refusal"]


def test_a_forced_function_is_called(rig: Rig) -> None:
    """As an item of its own."""
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    tools = [{"type": "function", "name": "look", "strict": False, "parameters": parameters}]
    [call] = ask(rig, tools=tools, tool_choice={"type": "function", "name": "look"}).output
    assert call.type == "function_call"
    assert call.name == "look"
    assert json.loads(call.arguments) == {"a": "é"}


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": "gpt-none"}, "model_not_found", "model"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"previous_response_id": "resp_x"}, "previous_response_not_found", "previous_response_id"),
        ({"text": {"format": {"type": "json_schema", "name": "A", "strict": True, "schema": {}}}}, None, "text.format"),
    ],
)
def test_a_wrong_body_is_refused(rig: Rig, change: dict[str, Any], code: str | None, param: str) -> None:
    """With the place and the kind of the mistake."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(rig, **change)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_batches_of_responses_work_like_those_of_chat(rig: Rig) -> None:
    """With the body of the Responses API in each line."""
    lines = [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": "/v1/responses",
            "body": {"model": "gpt-5-nano", "input": f"Question {number}"},
        }
        for number in range(4)
    ]
    batch = rig.finish(rig.submit(lines, endpoint="/v1/responses"))
    bodies = [line["response"]["body"] for line in rig.lines(batch.output_file_id)]
    assert [found["object"] for found in bodies] == ["response"] * 4
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(found["usage"]["output_tokens"] for found in bodies)


def test_a_batch_line_needs_an_input(rig: Rig) -> None:
    """As chat needs messages."""
    line = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": {"model": "gpt-5-nano"}}
    batch = rig.finish(rig.submit([line], endpoint="/v1/responses"))
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].message == "Input parameter is required."
