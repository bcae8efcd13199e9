"""Tool calls of earlier turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpt_batch_api.tokens.estimate import Sureness
from tests.tokens.helpers import assistant, chat, n, responses, user


def call(name: str, arguments: str, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(content: Any, call_id: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def item(name: str, arguments: str, **more: Any) -> dict[str, Any]:
    """A call as Responses has it."""
    return {"type": "function_call", "call_id": "c1", "name": name, "arguments": arguments, **more}


def output(content: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "c1", "output": content}


def pair(encoding: str = "o200k_base") -> int:
    """The texts of a call and its answer, without any overhead."""
    texts = ('{"place":"Rome"}', "functions.look", "look", "sunny")
    return sum(n(text, encoding) for text in texts) - 1


@pytest.mark.parametrize(("model", "overhead"), [("gpt-4o", 13), ("gpt-5", 19), ("o3", 19), ("gpt-4", 10)])
def test_a_call_and_its_answer(model: str, overhead: int) -> None:
    """Arguments without blanks, the name twice, the answer, an overhead."""
    counted = chat(
        user("hello"), assistant(None, tool_calls=[call("look", '{"place": "Rome"}')]), answer("sunny"), model=model
    )
    texts = pair("cl100k_base" if model == "gpt-4" else "o200k_base")
    assert counted.tokens == chat(user("hello"), model=model).tokens + texts + overhead
    assert counted.sureness is Sureness.FITTED


def test_text_beside_a_call_is_a_message_of_its_own() -> None:
    """With a message's overhead."""
    silent = chat(assistant(None, tool_calls=[call("look", "{}")]), answer("sunny"))
    assert chat(assistant("", tool_calls=[call("look", "{}")]), answer("sunny")) == silent
    spoken = chat(assistant("Let me see.", tool_calls=[call("look", "{}")]), answer("sunny"))
    assert spoken.tokens == silent.tokens + 4 + n("Let me see.")


def test_the_old_function_call_counts_the_same() -> None:
    """`function_call` and role `function` are what tools were before."""
    old = chat(
        assistant(None, function_call={"name": "look", "arguments": "{}"}),
        {"role": "function", "name": "look", "content": "sunny"},
    )
    assert old == chat(assistant(None, tool_calls=[call("look", "{}")]), answer("sunny"))


@pytest.mark.parametrize(("model", "overhead"), [("gpt-4o", 20), ("gpt-5", 26), ("o3", 26)])
def test_several_calls_are_shown_as_one(model: str, overhead: int) -> None:
    """All arguments in one JSON, all answers in one list, with blanks and escapes."""
    counted = chat(
        assistant(None, tool_calls=[call("look", '{"place": "Rome"}', "c1"), call("find", "not json", "c2")]),
        answer("22 °C", "c1"),
        answer('{"found": [1,2]}', "c2"),
        model=model,
    )
    uses = (
        '{"tool_uses":[{"recipient_name":"functions.look","parameters":{"place":"Rome"}},'
        '{"recipient_name":"functions.find","parameters":"not json"}]}'
    )
    results = '["22 \\u00b0C", {"found": [1, 2]}]'
    primer = 2 if model in ("gpt-5", "o3") else 3
    assert counted.tokens == primer + n(uses) + n(results) + overhead


def test_calls_do_not_count_as_answers_in_the_schema_s_form() -> None:
    """Only texts repeat the schema's name."""
    format_ = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": {}}}
    turn = [assistant(None, tool_calls=[call("look", "{}")]), answer("sunny")]
    more = (
        chat(user("hello"), *turn, response_format=format_).tokens - chat(user("hello"), response_format=format_).tokens
    )
    assert more == chat(user("hello"), *turn).tokens - chat(user("hello")).tokens


def test_an_answer_in_parts_is_joined() -> None:
    """As any content."""
    parts = [{"type": "text", "text": "sun"}, {"type": "text", "text": "ny"}]
    turn = [assistant(None, tool_calls=[call("look", "{}")])]
    assert chat(*turn, answer(parts)) == chat(*turn, answer("sunny"))


@pytest.mark.parametrize(
    "calls",
    [[None], ["x"], [{}], [{"function": None}], [{"function": {"name": 5}}], [{"function": {"arguments": {"a": 1}}}]],
)
def test_calls_that_make_no_sense_do_not_raise(calls: list[Any]) -> None:
    """Nor do answers without a call."""
    assert chat(assistant(None, tool_calls=calls), answer(None)).tokens > 3
    assert chat(answer("sunny")).tokens == 3 + 4 + n("sunny")


@pytest.mark.parametrize(("model", "overhead"), [("gpt-4o", 11), ("gpt-5", 17), ("gpt-5.2", 17), ("o4-mini", 17)])
def test_responses_count_each_pair_by_itself(model: str, overhead: int) -> None:
    """Arguments as they are written."""
    spaced = n('{"place": "Rome"}') - n('{"place":"Rome"}')
    counted = responses([user("hello"), item("look", '{"place": "Rome"}'), output("sunny")], model=model)
    plain = responses([user("hello")], model=model).tokens
    assert counted.tokens == plain + pair() + spaced + overhead
    twice = [user("hello"), *[item("look", '{"place": "Rome"}'), output("sunny")] * 2]
    assert responses(twice, model=model).tokens == plain + 2 * (pair() + spaced + overhead)


@pytest.mark.parametrize(("model", "more"), [("gpt-4o", 3), ("gpt-5", 0), ("gpt-5.2", 3)])
def test_a_call_that_the_server_kept_costs_more_if_it_is_alone(model: str, more: int) -> None:
    """It carries the server's id; not if nothing is stored, nor for calls side by side."""
    bare = responses([item("look", "{}"), output("sunny")], model=model).tokens
    kept = [item("look", "{}", id="fc_1"), output("sunny")]
    assert responses(kept, model=model).tokens == bare + more
    assert responses(kept, model=model, store=False).tokens == bare
    side_by_side = [item("look", "{}", id="fc_1"), item("look", "{}", id="fc_2"), output("sunny"), output("sunny")]
    assert responses(side_by_side, model=model).tokens == 2 * bare - responses([], model=model).tokens


def test_a_custom_call_counts_its_input() -> None:
    """As arguments that are no JSON."""
    custom = {"type": "custom_tool_call", "call_id": "c1", "name": "look", "input": "Rome, now"}
    result = {"type": "custom_tool_call_output", "call_id": "c1", "output": "sunny"}
    assert responses([custom, result]) == responses([item("look", "Rome, now"), output("sunny")])


def test_arguments_that_are_no_text_are_counted_as_json() -> None:
    """Some libraries forget to write them."""
    loose = item("look", "") | {"arguments": {"place": "Rome"}}
    assert responses([loose, output("sunny")]) == responses(
        [item("look", json.dumps({"place": "Rome"}, separators=(",", ":"))), output("sunny")]
    )
