"""What a response schema adds."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_batch_api.tokens.estimate import Sureness
from gpt_batch_api.tokens.schemas_cost import response_schema
from tests.tokens.helpers import assistant, chat, function, n, responses, system, user

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"mood": {"type": "string", "description": "The mood"}},
    "required": ["mood"],
    "additionalProperties": False,
}
SHOWN = '# Response Formats\n\n## Answer\n\n{"type":"object","properties":{"mood":{"type":"string","description":"The mood"}}}'
FORMAT = {"type": "json_schema", "json_schema": {"name": "Answer", "strict": True, "schema": SCHEMA}}
FLAT = {"type": "json_schema", "name": "Answer", "strict": True, "schema": SCHEMA}


def shown(schema: Any, **more: Any) -> str:
    """The schema as the model sees it."""
    text = response_schema({"type": "json_schema", "name": "Answer", "schema": schema, **more})
    assert text is not None
    return text.text.removeprefix("# Response Formats\n\n## Answer\n\n")


def test_the_schema_is_shown_under_its_name() -> None:
    """In the given key order, without what only constrains."""
    text = response_schema(FORMAT)
    assert text is not None
    assert (text.name, text.text) == ("Answer", SHOWN)
    assert response_schema(FLAT) == text


@pytest.mark.parametrize("format_", [None, {}, {"type": "json_object"}, {"type": "text"}, "json_schema", 5])
def test_other_formats_show_nothing(format_: Any) -> None:
    """JSON mode costs nothing."""
    assert response_schema(format_) is None


def test_a_description_is_a_comment_before_the_schema() -> None:
    """That of the format, not of the schema."""
    assert shown({}, description="All of it.") == "// All of it.\n{}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("required", []),
        ("additionalProperties", False),
        ("$schema", "x"),
        ("default", 1),
        ("minimum", 1),
        ("exclusiveMaximum", 9),
        ("minLength", 1),
        ("maxItems", 3),
        ("pattern", "a"),
        ("format", "date"),
        ("multipleOf", 2),
        ("uniqueItems", True),
    ],
)
def test_constraints_are_not_shown_at_any_level(key: str, value: Any) -> None:
    """But a property of that name is."""
    schema = {key: value, "items": {key: value, "anyOf": [{key: value, "type": "null"}]}}
    assert shown(schema) == '{"items":{"anyOf":[{"type":"null"}]}}'
    assert shown({"properties": {key: {"type": "null"}}}) == f'{{"properties":{{"{key}":{{"type":"null"}}}}}}'


@pytest.mark.parametrize("key", ["title", "description", "enum", "const", "$defs", "$ref"])
def test_words_and_values_are_shown(key: str) -> None:
    """They tell the model something; a value may look like a constraint."""
    value = {"default": {"type": "null"}} if key == "$defs" else ["required"] if key == "enum" else "x"
    assert f'"{key}":' in shown({key: value})


@pytest.mark.parametrize(("model", "more"), [("gpt-4o", 1), ("gpt-5", 0), ("o3", 0)])
def test_responses_add_the_section(model: str, more: int) -> None:
    """One token more on models that do not reason."""
    counted = responses("hello", text={"format": FLAT}, model=model)
    assert counted.tokens == responses("hello", model=model).tokens + n(SHOWN) + more
    assert counted.sureness is Sureness.EXACT


def test_chat_without_system_message_has_the_section_alone() -> None:
    """A message of its own, and two with the name, if the model does not reason."""
    assert n("Answer") == 1
    assert chat(user("hello"), response_format=FORMAT).tokens == 8 + (4 + n(SHOWN)) + (2 + 1)
    assert chat(user("hello"), response_format=FORMAT, model="gpt-5").tokens == 7 + (4 + n(SHOWN))


def test_chat_joins_the_section_to_the_system_message() -> None:
    """With a blank line; reasoning models head the instructions."""
    joined = f"Be kind.\n\n{SHOWN}"
    counted = chat(system("Be kind."), user("hello"), response_format=FORMAT)
    assert counted.tokens == 3 + 4 + n(joined) + (2 + 1) + 5
    counted = chat(system("Be kind."), user("hello"), response_format=FORMAT, model="gpt-5")
    assert counted.tokens == 2 + 4 + n(f"# Instructions\n\n{joined}") + 5


def test_each_earlier_answer_repeats_the_name() -> None:
    """Two and the name; not on reasoning models, where it costs two anyway."""
    question = [user("hello"), assistant("hello"), user("hello")]
    once = chat(user("hello"), response_format=FORMAT).tokens
    assert chat(*question, response_format=FORMAT).tokens == once + 5 + (2 + 1) + 5
    once = chat(user("hello"), response_format=FORMAT, model="gpt-5").tokens
    assert chat(*question, response_format=FORMAT, model="gpt-5").tokens == once + 5 + 2 + 5


def test_tools_stand_before_the_schema_in_one_text() -> None:
    """And the name is not counted again."""
    tool = function("look")
    rendered = "namespace functions {\n\n// Look it up.\ntype look = () => any;\n\n} // namespace functions"
    joined = f"# Tools\n\n## functions\n\n{rendered}\n\n{SHOWN}"
    assert chat(user("hello"), tools=[tool], response_format=FORMAT).tokens == 8 + 4 + n(joined) - 1


@pytest.mark.parametrize("schema", [None, True, 5, "x", [], {"properties": None}, {"properties": {"a": None}}])
def test_a_schema_that_makes_no_sense_does_not_raise(schema: Any) -> None:
    """It is shown as it is."""
    format_ = {"type": "json_schema", "json_schema": {"name": None, "schema": schema}}
    assert chat(user("hello"), response_format=format_).tokens > 8
