"""How function definitions are written for the models."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_batch_api.tokens.typescript import TooLarge, render_functions


def rendered(
    properties: dict[str, Any], *, style: str = "typed", definitions: dict[str, Any] | None = None, **schema: Any
) -> str:
    """The type of the arguments alone."""
    needed = {"type": "object", "properties": properties, "required": list(properties)}
    parameters = {**needed, "$defs": definitions or {}, **schema}
    text = render_functions([{"name": "f", "parameters": parameters}], style=style)
    return text.split("type f = (_: ")[1].split(") => any;")[0]


def test_the_frame_is_a_namespace() -> None:
    """One block a function, blank lines between."""
    functions = [{"name": "one", "description": "First."}, {"name": "two"}]
    assert render_functions(functions, style="typed") == (
        "namespace functions {\n\n// First.\ntype one = () => any;\n\ntype two = () => any;\n\n} // namespace functions"
    )


def test_gpt_5_has_a_line_more_at_the_top() -> None:
    """The only difference of that style."""
    text = render_functions([{"name": "one"}], style="spaced")
    assert text.replace("{\n\n\n", "{\n\n") == render_functions([{"name": "one"}], style="typed")


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}, "nonsense"])
def test_no_properties_are_no_argument(parameters: Any) -> None:
    """Whatever the way to say so."""
    text = render_functions([{"name": "f", "parameters": parameters}], style="typed")
    assert "type f = () => any;" in text


def test_an_object_without_comments_is_one_line() -> None:
    """Optional properties have a question mark; integers are numbers."""
    text = rendered({"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "boolean"}}, required=["a"])
    assert text == "{ a: string, b?: number, c?: boolean }"


def test_comments_stand_above_their_property() -> None:
    """Title, an empty comment line, description; each line stripped."""
    text = rendered({"a": {"type": "string", "title": "Name", "description": "  The name,\n\n   in full. "}})
    assert text == "{\n// Name\n//\n// The name,\n//\n// in full.\na: string,\n}"


def test_the_schema_s_own_words_stand_before_the_brace() -> None:
    """Title and description of the arguments as a whole."""
    text = rendered({"a": {"type": "string"}}, title="Arguments", description="All of them.")
    assert text == "// Arguments\n//\n// All of them.\n{ a: string }"


def test_constraints_and_defaults_stand_behind_their_property() -> None:
    """With their values as JSON."""
    text = rendered({"a": {"type": "string", "format": "date"}, "b": {"type": "integer", "default": None}})
    assert text == '{\na: string, // format: "date"\nb: number, // default: null\n}'


def test_a_comment_anywhere_inside_breaks_the_lines_outside() -> None:
    """But not those of a sibling without one."""
    text = rendered(
        {
            "deep": {"type": "object", "properties": {"x": {"type": "string", "description": "Why."}}},
            "flat": {"type": "object", "properties": {"y": {"type": "null"}}},
        }
    )
    assert text == "{\ndeep: {\n// Why.\nx?: string,\n},\nflat: { y?: null },\n}"


def test_enumerations_and_constants_are_json() -> None:
    """Numbers and null among them."""
    assert rendered({"a": {"enum": ["x", 1, None]}, "b": {"const": "z"}}) == '{ a: "x" | 1 | null, b: "z" }'


def test_arrays_have_brackets() -> None:
    """Of unions in parentheses; of unknown items any."""
    text = rendered(
        {
            "a": {"type": "array", "items": {"type": "string"}},
            "b": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            "c": {"type": "array"},
            "d": {"type": "array", "items": {"enum": ["x", "y"]}},
        }
    )
    assert text == '{ a: string[], b: number[][], c: any[], d: ("x" | "y")[] }'


def test_an_array_of_commented_objects_is_spread() -> None:
    """The items' own words stand before their brace."""
    items = {"type": "object", "description": "A book.", "properties": {"t": {"type": "string", "title": "T"}}}
    text = rendered({"books": {"type": "array", "items": items}})
    assert text == "{\nbooks: Array<\n// A book.\n{\n// T\nt?: string,\n}\n>,\n}"


def test_references_are_put_in_place() -> None:
    """With the words of what they lead to."""
    text = rendered(
        {"who": {"$ref": "#/$defs/Who"}},
        definitions={"Who": {"type": "object", "title": "Who", "properties": {"name": {"type": "string"}}}},
    )
    assert text == "{\n// Who\nwho: { name?: string },\n}"


@pytest.mark.parametrize("reference", ["#/nowhere", "https://example.org/schema", "#/$defs/Gone/x"])
def test_a_reference_to_nowhere_is_any(reference: str) -> None:
    """Nothing is fetched."""
    assert rendered({"a": {"$ref": reference}}) == "{ a: any }"


def test_a_reference_in_a_circle_ends() -> None:
    """A tree of nodes is shown once, its children as any."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert rendered({"first": {"$ref": "#/$defs/Node"}}, definitions={"Node": node}) == "{ first: { next?: any } }"


def test_references_that_only_point_at_each_other_end() -> None:
    """There is nothing behind them."""
    definitions = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}
    assert rendered({"a": {"$ref": "#/$defs/A"}}, definitions=definitions) == "{ a: any }"


def test_references_that_multiply_are_given_up() -> None:
    """Forty definitions that each use the next one twice would be 2 to the 40 nodes."""
    definitions: dict[str, Any] = {"D40": {"type": "string"}}
    for number in range(40):
        both = {side: {"$ref": f"#/$defs/D{number + 1}"} for side in ("left", "right")}
        definitions[f"D{number}"] = {"type": "object", "properties": both}
    with pytest.raises(TooLarge):
        rendered({"a": {"$ref": "#/$defs/D0"}}, definitions=definitions)


def test_unions_are_in_a_row() -> None:
    """If none of the alternatives has something to say."""
    text = rendered({"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "b": {"type": ["integer", "null"]}})
    assert text == "{ a: string | null, b: number | null }"


def test_unions_with_something_to_say_are_below_each_other() -> None:
    """Each alternative with its own comment."""
    text = rendered({"a": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}})
    assert text == '{\na:\n | string, // format: "date"\n | null,\n}'


def test_a_list_of_types_repeats_the_description() -> None:
    """Once for each alternative."""
    text = rendered({"a": {"type": ["string", "null"], "description": "Why."}})
    assert text == "{\n// Why.\na:\n// Why.\n | string\n// Why.\n | null,\n}"


@pytest.mark.parametrize("name", ["title", "description", "default", "format", "properties", "enum", "type", "$ref"])
def test_a_property_may_be_called_like_a_keyword(name: str) -> None:
    """It is a property, not a comment."""
    assert rendered({name: {"type": "string"}}) == f"{{ {name}: string }}"


@pytest.mark.parametrize("nonsense", [None, True, 5, "x", [], [{}], {"type": 7}, {"type": "date"}, {"anyOf": 3}])
def test_what_makes_no_sense_is_any(nonsense: Any) -> None:
    """Schemas come from users."""
    assert rendered({"a": nonsense}) == "{ a: any }"


def test_the_plain_style_has_no_titles_and_comments_only_outside() -> None:
    """That of gpt-4's first snapshots: every object spread, inner ones without comments."""
    inner = {"type": "object", "properties": {"x": {"type": "string", "description": "Why."}}}
    text = rendered(
        {"a": {"type": "string", "title": "A", "description": "First."}, "b": inner},
        style="plain",
        title="Arguments",
        description="All.",
    )
    assert text == "{\n// First.\na: string,\nb: {\n  x?: string,\n},\n}"
