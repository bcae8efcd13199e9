"""Schema-valid documents: whatever schema of the strict subset is asked for, the answer satisfies it."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from gpt_batch_api.sandbox.answers import compose
from gpt_batch_api.sandbox.chance import Asker
from gpt_batch_api.sandbox.pattern import text_for
from gpt_batch_api.sandbox.schema_check import trouble_with_schema
from gpt_batch_api.sandbox.words import Question


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Point(BaseModel):
    x: Annotated[int, Field(ge=-5, le=5)]
    y: Annotated[float, Field(gt=0, lt=1)]
    even: Annotated[int, Field(multiple_of=4, ge=1, le=9)]


class Tree(BaseModel):
    name: str
    colour: Colour | None
    children: list[Tree]


class Chain(BaseModel):
    value: int
    rest: Chain | None


class Expression(BaseModel):
    kind: Literal["sum"]
    left: Expression | Leaf
    right: Expression | Leaf


class Leaf(BaseModel):
    kind: Literal["leaf"]
    value: float


class Everything(BaseModel):
    title: str
    yes: bool
    nothing: None
    day: date
    clock: time
    moment: datetime
    points: Annotated[list[Point], Field(min_length=2, max_length=3)]
    tags: Annotated[list[str], Field(max_length=1)]
    choice: int | str | None
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{2,4}$")]
    size: Literal["S", "M", 3]


MODELS: list[type[BaseModel]] = [Point, Tree, Chain, Expression, Everything]


def answer(schema: Any, *, text: str = 'About "é".', who: str = "me", seed: int = 0) -> Any:
    document = compose(schema, question=Question(text), asker=Asker(seed, "body", who))
    return json.loads(json.dumps(document))


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 10_000))
def test_answers_satisfy_the_models_that_asked(model: type[BaseModel], seed: int) -> None:
    """References, recursion, unions, enums, bounds, formats and patterns, for any seed."""
    schema = to_strict_json_schema(model)
    model.model_validate(answer(schema, seed=seed))


def strict_schemas() -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["a", "b", "c", "type", "properties", "$ref"])
    leaves = st.one_of(
        st.just({"type": "string"}),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({"type": ["string", "null"]}),
        st.lists(st.one_of(st.integers(), st.text()), min_size=1, max_size=4).map(lambda values: {"enum": values}),
        st.integers().map(lambda value: {"const": value}),
        st.tuples(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 3)).map(
            lambda found: {
                "type": "integer",
                "minimum": found[0],
                "maximum": found[0] + found[1] + found[2],
                "multipleOf": found[2],
            }
        ),
        st.tuples(st.floats(-9, 9), st.floats(0.1, 9)).map(
            lambda found: {"type": "number", "exclusiveMinimum": found[0], "exclusiveMaximum": found[0] + found[1]}
        ),
    )

    def deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        objects = st.dictionaries(names, inner, max_size=3).map(as_object)
        arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
            lambda found: {
                "type": "array",
                "items": found[0],
                "minItems": found[1],
                "maxItems": found[1] + found[2],
            }
        )
        unions = st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
        return st.one_of(objects, arrays, unions)

    nested = st.recursive(leaves, deeper, max_leaves=8)
    return st.dictionaries(names, nested, min_size=1, max_size=3).map(as_object)


def as_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    """A small independent reading of JSON schema, for what `strict_schemas` makes."""
    if "anyOf" in schema:
        return any(is_valid(value, branch) for branch in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "const" in schema:
        return bool(value == schema["const"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(is_of_kind(value, kind, schema) for kind in kinds)


def is_of_kind(value: Any, kind: str, schema: dict[str, Any]) -> bool:
    if kind == "object":
        inner = schema["properties"]
        return (
            isinstance(value, dict)
            and list(value) == list(inner)
            and all(is_valid(value[name], inner[name]) for name in inner)
        )
    if kind == "array":
        fits = isinstance(value, list) and schema["minItems"] <= len(value) <= schema["maxItems"]
        return fits and all(is_valid(entry, schema["items"]) for entry in value)
    if kind == "integer":
        whole = isinstance(value, int) and schema["minimum"] <= value <= schema["maximum"]
        return whole and value % schema["multipleOf"] == 0
    if kind == "number":
        return isinstance(value, float | int) and schema["exclusiveMinimum"] < value < schema["exclusiveMaximum"]
    if kind == "null":
        return value is None
    return isinstance(value, bool if kind == "boolean" else str)


@given(schema=strict_schemas(), seed=st.integers(0, 99))
def test_answers_satisfy_any_schema_of_the_subset(schema: dict[str, Any], seed: int) -> None:
    """Made-up schemas, odd names of properties included; a second reading of the schema agrees."""
    assert trouble_with_schema(schema, strict=True) is None
    assert is_valid(answer(schema, seed=seed), schema)


@given(
    schema=st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "allOf", "$ref", "required", "enum", "x"]), inner
        ),
        max_leaves=10,
    )
)
def test_answers_to_nonsense_never_raise(schema: Any) -> None:
    """A schema that is not strict is not judged, so anything may come."""
    answer(schema)


def test_recursion_ends() -> None:
    """Answers to recursive schemas stay small."""
    for model in (Tree, Chain, Expression):
        for seed in range(50):
            document = answer(to_strict_json_schema(model), seed=seed)
            assert len(json.dumps(document)) < 1_500


def test_a_schema_without_any_finite_document_does_not_hang() -> None:
    """It cannot be satisfied; it gets something."""
    endless = as_object({"again": {"$ref": "#"}})
    assert isinstance(answer(endless), dict)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ('Character: "é" (U+00E9)', "é"),
        ('Character: """ (U+0022)', '"'),
        ('Character: """ (U+0022). Use """ twice.', '"'),
        ('Character: " " (U+0020)', " "),
        ('Character: "\\" (U+005C)', "\\"),
        ('Character: "\n" (newline)', "\n"),
        ('Nothing: "" but "this"', "this"),
        ("Curly: “quoted” text", "quoted"),
        ('Block: """a whole text""" here', "a whole text"),
        ('Block:\n"""\na whole\ntext\n"""', "a whole\ntext"),
        ("No quotes at all", None),
        ('A 5" screen', None),
        ('First "one", then "two"', "one"),
    ],
)
def test_the_first_quoted_piece_is_found(text: str, piece: str | None) -> None:
    """Whatever stands between the quotes, a quote itself included."""
    assert Question(text).piece == piece


def test_free_texts_of_an_object_come_in_order() -> None:
    """The first is exactly the piece, later ones are sentences with the piece at least twice."""
    schema = as_object({"kind": {"enum": ["x"]}, "first": {"type": "string"}, "more": {"type": "string"}})
    document = answer(schema, text='Say "this".')
    assert document["first"] == "this"
    assert document["more"].count("this") >= 2
    assert document["more"] != "this"


def test_without_a_quoted_piece_words_of_the_message_are_used() -> None:
    """So the answer still has to do with the question."""
    document = answer(as_object({"first": {"type": "string"}, "more": {"type": "string"}}), text="Name some colours")
    assert document["first"] == "Name some colours"
    assert any(word in document["more"] for word in ("Name", "some", "colours"))


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{3}-\d{4}$",
        r"^\d+$",
        r"^(yes|no)$",
        r"^[a-z0-9_]+(\.[a-z]+)*@example\.(com|org)$",
        r"^#[0-9a-fA-F]{6}$",
        r"^.{5,10}$",
        r"[^a]b",
        r"^(\w)-\1$",
    ],
)
def test_texts_match_their_patterns(pattern: str) -> None:
    """Classes, repetitions, branches, groups and references back."""
    for seed in range(20):
        asker = Asker(seed, "body", "me")
        text = text_for(pattern, lambda number, asker=asker: asker.draw(number))  # type: ignore[misc]
        assert text is not None
        assert re.search(pattern, text)


def test_a_pattern_beyond_us_gives_a_text_all_the_same() -> None:
    """Rather an answer that does not match than none."""
    assert isinstance(answer(as_object({"a": {"type": "string", "pattern": r"(?=x)\p{L}("}}))["a"], str)


def test_numbers_respect_tight_bounds() -> None:
    """Bounds without room for a multiple of a hundredth, and steps that are fractions."""
    tight = {"type": "number", "exclusiveMinimum": 0.001, "exclusiveMaximum": 0.002}
    stepped = {"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35}
    document = answer(as_object({"tight": tight, "stepped": stepped}))
    assert 0.001 < document["tight"] < 0.002
    assert Decimal(str(document["stepped"])) == Decimal("0.3")
