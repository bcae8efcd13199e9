"""What tools cost around their rendered definitions."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_batch_api.tokens.estimate import Sureness
from tests.tokens.helpers import chat, flat, function, n, responses, system, user

LOOK = function("look", place={"type": "string"})
RENDERED = (
    "namespace functions {\n\n// Look it up.\ntype look = (_: { place: string }) => any;\n\n} // namespace functions"
)
SPACED = RENDERED.replace("{\n\n// Look", "{\n\n\n// Look")


@pytest.mark.parametrize(
    ("model", "overhead"),
    [("gpt-4o", 9), ("gpt-4.1", 9), ("gpt-5", 91), ("gpt-5.6", 91), ("o3", 10)],
)
def test_tools_alone_are_a_message_of_their_own(model: str, overhead: int) -> None:
    """Measured over the plain rendering."""
    more = chat(user("hello"), tools=[LOOK], model=model).tokens - chat(user("hello"), model=model).tokens
    assert more == n(RENDERED) + overhead


@pytest.mark.parametrize(("model", "overhead"), [("gpt-4o", 3), ("gpt-5", 9), ("gpt-5.2", 9), ("o4-mini", 6)])
def test_responses_have_their_own_overhead(model: str, overhead: int) -> None:
    """Never joined to the instructions."""
    for more in ({}, {"instructions": "Be kind."}):
        with_tool = responses("hello", tools=[flat(LOOK)], model=model, **more)
        assert with_tool.tokens - responses("hello", model=model, **more).tokens == n(RENDERED) + overhead


def test_tools_are_joined_to_a_leading_system_message() -> None:
    """With blank lines, counted as one text, one token less."""
    joined = f"Be kind.\n\n# Tools\n\n## functions\n\n{RENDERED}"
    assert chat(system("Be kind."), user("hello"), tools=[LOOK]).tokens == 3 + (4 + n(joined) - 1) + (4 + 1)


def test_reasoning_models_head_the_instructions() -> None:
    """The joined text starts with a heading."""
    joined = f"# Instructions\n\nBe kind.\n\n# Tools\n\n## functions\n\n{SPACED}"
    assert chat(system("Be kind."), user("hello"), tools=[LOOK], model="gpt-5").tokens == 2 + 4 + n(joined) + 80 + 5


def test_a_later_system_message_is_not_joined() -> None:
    """Only the first message leads."""
    later = chat(user("hello"), system("Be kind."), tools=[LOOK]).tokens
    assert later == chat(user("hello"), tools=[LOOK]).tokens + 4 + n("Be kind.")


def test_the_old_functions_list_counts_like_tools() -> None:
    """The same definitions, without wrapping."""
    assert chat(user("hello"), functions=[LOOK["function"]]).tokens == chat(user("hello"), tools=[LOOK]).tokens


def test_tools_are_fitted() -> None:
    """Right but for a token or two."""
    assert chat(user("hello"), tools=[LOOK]).sureness is Sureness.FITTED


@pytest.mark.parametrize("setting", [{"strict": True}, {"strict": False}])
def test_strictness_costs_nothing(setting: dict[str, bool]) -> None:
    """Nor does `additionalProperties`."""
    closed = {**LOOK["function"]["parameters"], "additionalProperties": False}
    strict = {"type": "function", "function": {**LOOK["function"], **setting, "parameters": closed}}
    assert chat(user("hello"), tools=[strict]).tokens == chat(user("hello"), tools=[LOOK]).tokens


@pytest.mark.parametrize(
    ("model", "choice", "more"),
    [
        ("gpt-4o", "auto", 0),
        ("gpt-4o", "none", 1),
        ("gpt-4o", "required", 0),
        ("gpt-4o", {"type": "function", "function": {"name": "look"}}, 7 + 1),
        ("gpt-4", {"type": "function", "function": {"name": "look"}}, 4 + 1),
        ("gpt-4", "required", 2),
        ("gpt-5", {"type": "function", "function": {"name": "look"}}, 0),
        ("gpt-5", "none", 0),
    ],
)
def test_a_choice_costs_as_measured(model: str, choice: Any, more: int) -> None:
    """Forcing one function costs its name; nothing on reasoning models."""
    assert n("look") == 1
    plain = chat(user("hello"), tools=[LOOK], model=model).tokens
    assert chat(user("hello"), tools=[LOOK], tool_choice=choice, model=model).tokens == plain + more


def test_the_old_function_call_setting_forces_too() -> None:
    """`function_call` is what `tool_choice` was."""
    forced = chat(user("hello"), functions=[LOOK["function"]], function_call={"name": "look"})
    assert forced.tokens == chat(user("hello"), tools=[LOOK]).tokens + 8


def test_responses_take_required_for_the_only_function() -> None:
    """With two functions there is nothing to force."""
    one, two = [flat(LOOK)], [flat(LOOK), flat(function("find"))]
    assert responses("hello", tools=one, tool_choice="required").tokens == responses("hello", tools=one).tokens + 8
    assert responses("hello", tools=two, tool_choice="required").tokens == responses("hello", tools=two).tokens


def test_a_custom_tool_is_a_function_that_takes_any_text() -> None:
    """Its overhead is approximate, and the note says so."""
    tool = {"type": "custom", "name": "sql", "description": "Run it.", "format": {"type": "text"}}
    counted = responses("hello", tools=[tool], model="gpt-5")
    rendered = "namespace functions {\n\n// Run it.\ntype sql = (FREEFORM) => any;\n\n} // namespace functions"
    assert counted.tokens == 2 + 5 + n(rendered) + 9 + 13
    assert counted.sureness is Sureness.GUESS


def test_a_grammar_costs_its_definition() -> None:
    """In both spellings."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    plain = responses("hello", tools=[{"type": "custom", "name": "sql"}]).tokens
    flat_tool = {"type": "custom", "name": "sql", "format": grammar}
    assert responses("hello", tools=[flat_tool]).tokens == plain - 13 + 44 + n("start: WORD")
    nested = {"type": "custom", "custom": {"name": "sql", "format": {"type": "grammar", "grammar": grammar}}}
    assert chat(user("hello"), tools=[nested]).sureness is Sureness.GUESS


@pytest.mark.parametrize(
    ("kind", "tokens"), [("web_search", 294), ("code_interpreter", 139), ("image_generation", 343), ("mcp", 0)]
)
def test_built_in_tools_are_guesses(kind: str, tokens: int) -> None:
    """A measured number if there is one; else a lower bound."""
    counted = responses("hello", tools=[{"type": kind}])
    assert counted.tokens == responses("hello").tokens + tokens
    assert counted.sureness is Sureness.GUESS
    assert kind in counted.notes[0]


def test_a_schema_that_grows_without_end_is_counted_as_json() -> None:
    """And quickly."""
    definitions: dict[str, Any] = {"D30": {"type": "string"}}
    for number in range(30):
        both = {side: {"$ref": f"#/$defs/D{number + 1}"} for side in ("left", "right")}
        definitions[f"D{number}"] = {"type": "object", "properties": both}
    tool = function("grow", start={"$ref": "#/$defs/D0"})
    tool["function"]["parameters"]["$defs"] = definitions
    counted = chat(user("hello"), tools=[tool])
    assert counted.sureness is Sureness.GUESS
    assert "too deep" in counted.notes[0]


@pytest.mark.parametrize("tools", [[None], ["x"], [{}], {"a": 1}, "x", [{"type": "function", "function": 5}], [[]]])
def test_tools_that_make_no_sense_do_not_raise(tools: Any) -> None:
    """The server will refuse them; counting goes on."""
    assert chat(user("hello"), tools=tools).tokens >= 8
    assert responses("hello", tools=tools).tokens >= 8
