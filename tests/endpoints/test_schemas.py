"""The strict subset of JSON Schema: what is accepted, what is refused and where, and every limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import SchemaError
from gpt_batch_api.endpoints.schemas import (
    FORMATS,
    MAX_ENUM_VALUES,
    MAX_LEVELS,
    MAX_NAME_CHARACTERS,
    MAX_PATH,
    MAX_PROPERTIES,
    TYPES,
    check_strict,
    completed,
    of_json_schema,
)
from gpt_batch_api.sandbox.schema_check import trouble_with_schema
from tests.endpoints.shapes import any_json, clean_json

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}


def object_of(**properties: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def trouble(schema: Any) -> str | None:
    """What is said against *schema*, if anything."""
    try:
        check_strict(schema, name="Answer")
    except SchemaError as error:
        return str(error)
    return None


def accepted(schema: Any) -> bool:
    return trouble(schema) is None


class TestAccepted:
    """Everything that the subset has."""

    @pytest.mark.parametrize("kind", sorted(TYPES - {"object", "array"}))
    def test_every_simple_type(self, kind: str) -> None:
        assert accepted(object_of(a={"type": kind}))

    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_every_format(self, name: str) -> None:
        assert accepted(object_of(a={"type": "string", "format": name}))

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": ["string", "null"]},
            {"enum": ["a", "b"]},
            {"type": "integer", "enum": [1, 2]},
            {"type": ("string", "null"), "enum": ("a", None)},
            {"const": "a"},
            {"type": "string", "const": "a"},
            {"type": "string", "pattern": "^[a-z]+$"},
            {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 9},
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
            {"type": "array", "items": STRING, "minItems": 1, "maxItems": 3},
            {"anyOf": [STRING, {"type": "null"}]},
            {"anyOf": [STRING, object_of(b=STRING)], "title": "T", "description": "D"},
            {"$ref": "#/$defs/Thing"},
            {"$ref": "#/$defs/Thing", "description": "D"},
            {"$ref": "#/definitions/Old"},
            {"$ref": "#"},
            {"type": "array", "items": {"$ref": "#"}},
            object_of(),
        ],
    )
    def test_every_construct(self, schema: Schema) -> None:
        definitions = {"$defs": {"Thing": object_of(b=STRING)}, "definitions": {"Old": STRING}}
        assert accepted({**object_of(a=schema), **definitions})

    def test_recursion(self) -> None:
        """Through the root, through a definition, and through two of them."""
        tree = object_of(left={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
        person = object_of(friends={"type": "array", "items": {"$ref": "#/$defs/Person"}})
        hen = object_of(egg={"$ref": "#/$defs/Egg"})
        egg = object_of(hen={"anyOf": [{"$ref": "#/$defs/Hen"}, {"type": "null"}]})
        assert accepted(tree)
        assert accepted({**object_of(a={"$ref": "#/$defs/Person"}), "$defs": {"Person": person}})
        assert accepted({**object_of(a={"$ref": "#/$defs/Hen"}), "$defs": {"Hen": hen, "Egg": egg}})

    def test_a_reference_may_point_to_a_name_with_special_characters(self) -> None:
        """Slash and tilde are escaped in a pointer."""
        definitions = {"$defs": {"a/b": STRING, "c~d": STRING}}
        assert accepted({**object_of(a={"$ref": "#/$defs/a~1b"}), **definitions})
        assert accepted({**object_of(a={"$ref": "#/$defs/c~0d"}), **definitions})

    def test_properties_may_be_called_like_keywords(self) -> None:
        names = ["oneOf", "allOf", "default", "$ref", "enum", "properties", "type", "$defs", "not", "format"]
        assert accepted(object_of(**dict.fromkeys(names, STRING)))


FORBIDDEN = (
    "allOf oneOf not if then else dependentRequired dependentSchemas patternProperties propertyNames prefixItems contains "
    "unevaluatedProperties unevaluatedItems minLength maxLength uniqueItems minProperties maxProperties default examples $id"
).split()


class TestRefused:
    """Whatever lies outside is named with its place."""

    @pytest.mark.parametrize("keyword", FORBIDDEN)
    @pytest.mark.parametrize(
        ("place", "wrap"),
        [
            ("properties.a", lambda inner: object_of(a=inner)),
            ("properties.a.items", lambda inner: object_of(a={"type": "array", "items": inner})),
            ("properties.a.anyOf.1", lambda inner: object_of(a={"anyOf": [STRING, inner]})),
            ("properties.a.properties.b", lambda inner: object_of(a=object_of(b=inner))),
            ("$defs.D", lambda inner: {**object_of(a={"$ref": "#/$defs/D"}), "$defs": {"D": inner}}),
            ("definitions.D", lambda inner: {**object_of(a={"$ref": "#/definitions/D"}), "definitions": {"D": inner}}),
            ("$defs.D.properties.b", lambda inner: {**object_of(a=STRING), "$defs": {"D": object_of(b=inner)}}),
        ],
        ids=["property", "items", "anyOf", "inner object", "$defs", "definitions", "unused definition"],
    )
    def test_a_keyword_outside_the_subset_is_named_with_its_place(self, keyword: str, place: str, wrap: Any) -> None:
        with pytest.raises(SchemaError) as caught:
            check_strict(wrap({**STRING, keyword: []}), name="Answer")
        assert caught.value.path == place
        assert str(caught.value) == (
            f"The response schema 'Answer' is outside the strict subset at {place}: '{keyword}' is not permitted."
        )

    @pytest.mark.parametrize("keyword", FORBIDDEN)
    def test_nor_may_it_stand_at_the_root(self, keyword: str) -> None:
        assert trouble({**object_of(), keyword: []}) == (
            f"The response schema 'Answer' is outside the strict subset at its root: '{keyword}' is not permitted."
        )

    @pytest.mark.parametrize(
        "root",
        [
            {},
            STRING,
            {"type": "array", "items": STRING},
            {"type": ["object"], "properties": {}, "required": [], "additionalProperties": False},
            {"anyOf": [object_of(), object_of(a=STRING)]},
            {**object_of(), "anyOf": [object_of()]},
            {"$ref": "#/$defs/A", "$defs": {"A": object_of()}},
        ],
    )
    def test_the_root_must_be_an_object_and_no_union(self, root: Schema) -> None:
        assert trouble(root) == (
            "The response schema 'Answer' is outside the strict subset at its root: "
            "the root must be an object, and no union."
        )

    @pytest.mark.parametrize(
        ("schema", "place", "what"),
        [
            ({}, "properties.a", "it allows anything: give it a type"),
            ({"description": "anything"}, "properties.a", "it allows anything: give it a type"),
            ({"type": "array"}, "properties.a", "an array needs 'items', one schema for all of them"),
            ({"type": "array", "items": {}}, "properties.a.items", "it allows anything: give it a type"),
            ({"type": "text"}, "properties.a", "the type 'text' does not exist"),
            ({"type": ["string", "text"]}, "properties.a", "the type 'text' does not exist"),
            ({"type": "string", "format": "uri"}, "properties.a", "the format 'uri' is not supported"),
            ({"$ref": "#/$defs/None"}, "properties.a", "the reference '#/$defs/None' points nowhere"),
            ({"$ref": "other.json"}, "properties.a", "the reference 'other.json' does not point into this schema"),
            ({"$ref": 5}, "properties.a", "the reference 5 does not point into this schema"),
            ({"$ref": "#a"}, "properties.a", "the reference '#a' does not point into this schema"),
            ({"$ref": "#/type/x"}, "properties.a", "the reference '#/type/x' points nowhere"),
            ({"type": None}, "properties.a", "the type None does not exist"),
            ({"type": {"a": 1}}, "properties.a", "the type {'a': 1} does not exist"),
            ({"type": ["string", []]}, "properties.a", "the type [] does not exist"),
            ({"type": []}, "properties.a", "'type' is empty, so that nothing would fit"),
            ({"enum": []}, "properties.a", "'enum' is empty, so that nothing would fit"),
            ({"enum": 5}, "properties.a", "'enum' is 5, but must be a list"),
            ({"enum": "ab"}, "properties.a", "'enum' is 'ab', but must be a list"),
            ({"anyOf": []}, "properties.a", "'anyOf' is empty, so that nothing would fit"),
            ({"anyOf": None}, "properties.a", "'anyOf' is None, but must be a list"),
            ({"anyOf": {"0": STRING}}, "properties.a", "'anyOf' is {'0': {'type': 'string'}}, but must be a list"),
            ({"type": "string", "format": ["date"]}, "properties.a", "'format' is ['date'], but must be a text"),
            ({**STRING, "$defs": []}, "properties.a", "'$defs' is [], but must be a mapping"),
            ({**object_of(), "properties": ["b"]}, "properties.a", "'properties' is ['b'], but must be a mapping"),
            ({**object_of(b=STRING), "required": "b"}, "properties.a", "'required' is 'b', but must be a list"),
            (
                {**object_of(b=STRING), "required": ["b", "c"]},
                "properties.a",
                "'c' is required, but is none of its properties",
            ),
            (
                {**object_of(b=STRING), "required": ["b", ["b"]]},
                "properties.a",
                "['b'] is required, but is none of its properties",
            ),
            (True, "properties.a", "True is no schema"),
            ({"anyOf": [STRING, None]}, "properties.a.anyOf.1", "None is no schema"),
            (
                {"type": "object"},
                "properties.a",
                "an object must name all its properties: 'additionalProperties' has to be false (no dict[str, …])",
            ),
            (
                {"type": "object", "additionalProperties": STRING},
                "properties.a",
                "an object must name all its properties: 'additionalProperties' has to be false (no dict[str, …])",
            ),
            (
                {**object_of(b=STRING, c=STRING), "required": ["c"]},
                "properties.a",
                "'b' must be required (for an optional one allow null)",
            ),
            (
                {"type": "object", "properties": {"b": STRING}, "additionalProperties": False},
                "properties.a",
                "'b' must be required (for an optional one allow null)",
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, schema: Any, place: str, what: str) -> None:
        with pytest.raises(SchemaError) as caught:
            check_strict(object_of(a=schema), name="Answer")
        assert caught.value.path == place
        assert str(caught.value) == (f"The response schema 'Answer' is outside the strict subset at {place}: {what}.")


def nested(levels: int, *, through: str = "property") -> Schema:
    """Objects within objects, so many levels deep, the root being the first."""
    schema = object_of(end=STRING)
    for _ in range(levels - 1):
        inner: Schema = {
            "property": schema,
            "items": {"type": "array", "items": schema},
            "anyOf": {"anyOf": [schema, {"type": "null"}]},
        }[through]
        schema = object_of(a=inner)
    return schema


class TestLimits:
    """Each limit may be reached, and not passed; together over the whole schema."""

    @pytest.mark.parametrize("through", ["property", "items", "anyOf"])
    @pytest.mark.parametrize(("levels", "fits"), [(9, True), (10, True), (11, False)])
    def test_levels(self, through: str, levels: int, fits: bool) -> None:
        """Only objects count as levels."""
        assert MAX_LEVELS == 10
        assert accepted(nested(levels, through=through)) == fits

    def test_too_many_levels_are_named_with_their_place(self) -> None:
        with pytest.raises(SchemaError) as caught:
            check_strict(nested(11), name="Answer")
        assert caught.value.path == ".".join(["properties.a"] * 10)
        assert str(caught.value).endswith("objects are nested more than 10 deep.")

    def test_references_add_no_levels(self) -> None:
        """They could not be counted: a recursive schema has no end."""
        chain = {f"D{number}": object_of(next={"$ref": f"#/$defs/D{number + 1}"}) for number in range(20)}
        assert accepted({**object_of(a={"$ref": "#/$defs/D0"}), "$defs": {**chain, "D20": STRING}})

    @pytest.mark.parametrize("spread", ["root", "objects", "definitions"])
    @pytest.mark.parametrize(("number", "fits"), [(4_999, True), (5_000, True), (5_001, False)])
    def test_properties(self, spread: str, number: int, fits: bool) -> None:
        assert MAX_PROPERTIES == 5_000
        names = [f"p{index}" for index in range(number)]
        half, rest = number // 2, names[number // 2 + 1 :]
        schema = {
            "root": lambda: object_of(**dict.fromkeys(names, STRING)),
            "objects": lambda: object_of(
                inner=object_of(**dict.fromkeys(names[:half], STRING)), **dict.fromkeys(rest, STRING)
            ),
            "definitions": lambda: {
                **object_of(inner={"$ref": "#/$defs/D"}, **dict.fromkeys(rest, STRING)),
                "$defs": {"D": object_of(**dict.fromkeys(names[:half], STRING))},
            },
        }[spread]()
        found = trouble(schema)
        assert (found is None) == fits
        if not fits:
            assert found == (
                "The response schema 'Answer' is outside the strict subset at its root: "
                "it has 5,001 properties, but at most 5,000 are allowed."
            )

    @pytest.mark.parametrize("spread", [1, 2])
    @pytest.mark.parametrize(("number", "fits"), [(999, True), (1_000, True), (1_001, False)])
    def test_enum_values(self, spread: int, number: int, fits: bool) -> None:
        """Of all enums together."""
        assert MAX_ENUM_VALUES == 1_000
        values = [f"v{index}" for index in range(number)]
        cut = number // spread
        found = trouble(object_of(a={"enum": values[:cut]}, b={"enum": ["x", *values[cut + 1 :]]}, c=STRING)
            if spread > 1 else object_of(a={"enum": values}))  # fmt: skip
        assert (found is None) == fits
        if not fits:
            assert found is not None
            assert "it has 1,001 enum values, but at most 1,000 are allowed" in found

    @pytest.mark.parametrize(("number", "fits"), [(119_999, True), (120_000, True), (120_001, False)])
    @pytest.mark.parametrize("where", ["property", "enum", "definition"])
    def test_characters_of_names_and_enum_values(self, where: str, number: int, fits: bool) -> None:
        """Names of properties and of definitions, and the values of enums."""
        assert MAX_NAME_CHARACTERS == 120_000
        filler = "x" * (number - 1)
        schema = {
            "property": lambda: object_of(a=STRING, **{filler: STRING}),
            "enum": lambda: object_of(a={"enum": [filler[: number // 2], filler[number // 2 :]]}),
            "definition": lambda: {**object_of(a=STRING), "$defs": {filler: STRING}},
        }[where]()
        found = trouble(schema)
        assert (found is None) == fits
        if not fits:
            assert found is not None
            assert "it has 120,001 characters of names and enum values, but at most 120,000 are allowed" in found


class TestWrittenByHand:
    """Schemas that the user wrote out as `json_schema`."""

    def test_a_strict_one_is_checked(self) -> None:
        with pytest.raises(SchemaError, match="outside the strict subset"):
            of_json_schema({"name": "A", "strict": True, "schema": {}})

    @pytest.mark.parametrize("strict", [False, None])
    def test_a_loose_one_is_not(self, strict: bool | None) -> None:
        assert json.loads(of_json_schema({"name": "A", "strict": strict, "schema": {"oneOf": []}}).json) == {
            "oneOf": []
        }

    def test_it_keeps_order_and_characters(self) -> None:
        """What is stored says exactly what the user wrote."""
        schema = {"type": "object", "b": "é\u2028", "a": [1, None]}
        assert of_json_schema({"name": "A", "schema": schema}).json == '{"type":"object","b":"é\u2028","a":[1,null]}'


# ------------------------------------------------------------ any schema

odd: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=2) | st.just([]) | st.just({})
)
words = st.sampled_from(["a", "b", "type", "$ref"])
kinds = st.sampled_from([*sorted(TYPES), ["string", "null"], ["object", "null"]]) | odd
references = st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/definitions/a", "a"]) | odd


def objects_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    """Objects that are well formed but for what is in them."""
    return st.dictionaries(words, inner, max_size=3).map(lambda properties: object_of(**properties))


def messy(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    """Schemas in which each keyword may be missing, right, or wrong."""
    return st.fixed_dictionaries(
        {},
        optional={
            "type": kinds,
            "properties": st.dictionaries(words, inner, max_size=2) | odd,
            "required": st.lists(words, max_size=3) | odd,
            "additionalProperties": st.just(False) | odd,
            "items": inner | odd,
            "anyOf": st.lists(inner, max_size=2) | odd,
            "enum": st.lists(st.text("ab", max_size=2), max_size=2) | odd,
            "format": st.sampled_from(sorted(FORMATS)) | odd,
            "$ref": references,
            "$defs": st.dictionaries(words, inner, max_size=2) | odd,
        },
    )


leaves = st.sampled_from([STRING, {"type": "integer"}, {"enum": ["a"]}, {"$ref": "#"}]) | odd
schemas = st.recursive(
    leaves,
    lambda inner: (
        objects_of(inner)
        | messy(inner)
        | inner.map(lambda item: {"type": "array", "items": item})
        | st.lists(inner, max_size=3).map(lambda items: {"anyOf": items})
    ),
    max_leaves=6,
)
roots = objects_of(schemas) | messy(schemas)

SPOILS: list[Schema] = [
    {"required": []},
    {"required": ["a", "b", "type", "$ref", "more"]},
    {"required": "ab"},
    {"additionalProperties": True},
    {"additionalProperties": {"type": "string"}},
    {"type": "text"},
    {"type": ["string", "text"]},
    {"type": "string", "format": "uri"},
    {"type": "array"},
    {"type": "array", "items": 5},
    {"$ref": "#/$defs/nowhere"},
    {"anyOf": [5]},
    {"oneOf": [{"type": "string"}]},
    {"type": "string", "maxLength": 5},
]
"""Each makes many a schema a wrong one."""


def spoiled(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    """Well-formed objects with one thing changed."""
    return st.tuples(objects_of(inner), st.sampled_from([{}, *SPOILS])).map(lambda found: {**found[0], **found[1]})


well_formed = st.recursive(
    st.sampled_from([STRING, {"type": "integer"}, {"enum": ["a"]}, {"$ref": "#"}]),
    lambda inner: (
        objects_of(inner)
        | spoiled(inner)
        | inner.map(lambda item: {"type": "array", "items": item})
        | st.lists(inner, min_size=1, max_size=3).map(lambda items: {"anyOf": items})
    ),
    max_leaves=6,
)


class TestAnySchema:
    """What must hold whatever the user wrote."""

    @given(schema=roots | st.dictionaries(st.text(max_size=5), any_json, max_size=3))
    def test_checking_refuses_in_words_or_accepts(self, schema: Schema) -> None:
        """A schema of an odd shape is the user's mistake, told in one line, and no fault of ours."""
        found = trouble(schema)
        assert found is None or found.startswith("The response schema 'Answer' is outside the strict subset at ")

    @given(schema=objects_of(well_formed) | spoiled(well_formed))
    def test_what_a_server_would_refuse_is_refused_here(self, schema: Schema) -> None:
        """Found locally, before each line fails on the server. The sandbox reads the rules for itself."""
        refusal = trouble_with_schema(schema, strict=True)
        if refusal is not None:
            assert not accepted(schema), f"the sandbox says: {refusal}"

    def test_a_schema_nested_beyond_reason_is_refused(self) -> None:
        assert trouble(object_of(a=arrays(5_000))) == (
            "The response schema 'Answer' is outside the strict subset at properties.a.items.items.items.items: "
            "what is below it is nested too deep."
        )

    @pytest.mark.parametrize(("number", "fits"), [(MAX_PATH - 3, True), (MAX_PATH - 2, True), (MAX_PATH - 1, False)])
    def test_arrays_may_be_nested_so_far(self, number: int, fits: bool) -> None:
        """They stand two steps below the root already."""
        assert accepted(object_of(a=arrays(number))) == fits


class TestCompleted:
    """What a person writes down is enough: the strict subset's demands on objects are added."""

    def test_objects_require_all_and_allow_no_others(self) -> None:
        inner = {"type": "object", "properties": {"type": STRING, "b": STRING}}
        bare = {"type": "object", "properties": {"a": {"type": "array", "items": inner}}, "$defs": {"c": inner}}
        made = completed(bare)
        assert accepted(made)
        assert made["required"] == ["a"]
        assert made["properties"]["a"]["items"]["required"] == ["type", "b"]
        assert made["$defs"]["c"]["additionalProperties"] is False

    def test_what_is_said_stays(self) -> None:
        said = {"type": "object", "properties": {"a": STRING}, "required": [], "additionalProperties": True}
        assert completed(said) == said

    def test_values_are_left_alone(self) -> None:
        value = {"type": "object", "properties": {}}
        assert completed({"enum": [value], "const": value}) == {"enum": [value], "const": value}

    @given(clean_json)
    def test_completing_twice_is_completing_once(self, document: Any) -> None:
        assert completed(completed(document)) == completed(document)


def arrays(number: int) -> Schema:
    """So many arrays within each other."""
    schema: Schema = STRING
    for _ in range(number):
        schema = {"type": "array", "items": schema}
    return schema
