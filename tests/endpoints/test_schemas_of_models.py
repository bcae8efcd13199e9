"""From pydantic models to strict schemas, and back to the models after a restart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from gpt_batch_api.domain.errors import SchemaError
from gpt_batch_api.domain.request import ResponseSchema
from gpt_batch_api.endpoints.schemas import NAME, check_strict, find_model, of_model
from gpt_batch_api.sandbox.schema_check import trouble_with_schema
from tests.endpoints import models

THIS = "tests.endpoints.models"


def schema_of(model: type) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(of_model(model).json)
    return found


class TestEveryModel:
    """Whatever can be asked for."""

    @pytest.mark.parametrize("model", models.ANSWERS)
    def test_its_schema_lies_in_the_strict_subset(self, model: type) -> None:
        """As we read it, and as the sandbox does."""
        check_strict(schema_of(model), name="Answer")
        assert trouble_with_schema(schema_of(model), strict=True) is None

    @pytest.mark.parametrize("model", models.ANSWERS)
    def test_it_is_found_again(self, model: type) -> None:
        assert find_model(of_model(model)) is model

    @pytest.mark.parametrize("model", models.ANSWERS)
    def test_its_name_is_one_that_the_api_accepts(self, model: type) -> None:
        assert NAME.fullmatch(of_model(model).name)

    @pytest.mark.parametrize("model", models.ANSWERS)
    def test_asking_twice_gives_the_same(self, model: type) -> None:
        """The text is stored once, and compared."""
        assert of_model(model) == of_model(model)


class TestForm:
    """How constructs of pydantic look in the subset."""

    def test_every_property_is_required(self) -> None:
        """An optional one may be null instead."""
        schema = schema_of(models.Character)
        assert schema["required"] == list(schema["properties"]) == list(models.Character.model_fields)
        assert schema["additionalProperties"] is False
        assert schema["properties"]["remark"]["anyOf"] == [{"type": "string"}, {"type": "null"}]

    def test_an_enum_is_a_list_of_values(self) -> None:
        assert schema_of(models.Character)["$defs"]["Kind"]["enum"] == ["letter", "mark"]

    def test_a_discriminated_union_becomes_any_of(self) -> None:
        pet = schema_of(models.Owner)["properties"]["pet"]
        assert pet["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
        assert "oneOf" not in pet
        assert "discriminator" not in pet

    @pytest.mark.parametrize("model", [models.Node, models.Village])
    def test_recursion_goes_by_reference(self, model: type) -> None:
        schema = schema_of(model)
        assert schema["type"] == "object"
        assert "$ref" in of_model(model).json

    def test_constraints_that_only_pydantic_checks_are_left_out(self) -> None:
        """The others go out, so that the server can keep to them."""
        properties = schema_of(models.Strictly)["properties"]
        assert properties["name"] == {"title": "Name", "type": "string"}
        assert properties["age"] == {"maximum": 130, "minimum": 0, "title": "Age", "type": "integer"}
        assert properties["tags"] == {"items": {"type": "string"}, "title": "Tags", "type": "array"}
        assert (properties["many"]["minItems"], properties["many"]["maxItems"]) == (1, 3)
        assert properties["tone"] == {"title": "Tone", "type": "string"}
        assert "tone" in schema_of(models.Strictly)["required"]

    def test_fields_called_like_keywords_stay(self) -> None:
        assert schema_of(models.Awkward)["required"] == ["default", "properties", "enum", "oneOf", "minLength"]
        assert set(schema_of(models.Awkward)["properties"]) == set(schema_of(models.Awkward)["required"])

    @pytest.mark.parametrize(
        ("model", "name", "python"),
        [
            (models.Character, "Character", f"{THIS}:Character"),
            (models.Outer.Inner, "Inner", f"{THIS}:Outer.Inner"),
            (models.NumberBox, "Box_int_", f"{THIS}:Box[int]"),
            (models.Ähnlich, "_hnlich", f"{THIS}:Ähnlich"),
        ],
    )
    def test_names_are_made_fit_for_the_api(self, model: type, name: str, python: str) -> None:
        schema = of_model(model)
        assert (schema.name, schema.python) == (name, python)


class TestRefused:
    """What the subset cannot say is refused before anything is paid."""

    @pytest.mark.parametrize(
        ("model", "path", "what"),
        [
            (models.Loose, "", "'additionalProperties' has to be false"),
            (models.WithDict, "properties.counts", "'additionalProperties' has to be false (no dict[str, …])"),
            (models.WithAny, "properties.thing", "it allows anything"),
            (models.WithPlainList, "properties.things.items", "it allows anything"),
            (models.WithTuple, "properties.pair", "'prefixItems' is not permitted"),
            (models.WithNamedTuple, "$defs.Pair", "'prefixItems' is not permitted"),
            (models.WithUrl, "properties.link", "the format 'uri' is not supported"),
            (models.DeepDict, "$defs.WithDict.properties.counts", "'additionalProperties' has to be false"),
        ],
    )
    def test_it_is_named_with_its_place(self, model: type, path: str, what: str) -> None:
        with pytest.raises(SchemaError) as caught:
            of_model(model)
        assert caught.value.path == path
        assert what in str(caught.value)
        assert repr(model.__name__) in str(caught.value)

    @pytest.mark.parametrize("kind", [int, dict, models.NoModel, models.Kind, models.Pair])
    def test_a_class_that_is_no_model_is_refused(self, kind: type) -> None:
        with pytest.raises(SchemaError) as caught:
            of_model(kind)
        assert str(caught.value) == f"{kind.__name__} is no pydantic model: derive it from pydantic.BaseModel."

    def test_a_model_from_inside_a_function_is_refused(self) -> None:
        """A restarted process could not find it again, with answers waiting for it."""

        class Local(BaseModel):
            x: int

        with pytest.raises(SchemaError, match=r"Local is defined inside a function, .* Define it at the top"):
            of_model(Local)

    def test_a_model_that_nobody_could_find_again_is_refused(self) -> None:
        """Made by a call, it has no place in its module; nor has a generic one that was filled in within a function."""
        for model in (create_model("MadeByCall", x=(int, ...)), models.Box[str]):
            with pytest.raises(
                SchemaError, match=r"a restarted process cannot find it\. Define it as a class at the top"
            ):
                of_model(model)

    def test_a_model_whose_name_means_another_one_now_is_refused(self) -> None:
        """After a restart the other one would be found."""
        impostor = create_model("Character", __module__=THIS, y=(int, ...))
        with pytest.raises(SchemaError, match=f"Module {THIS} does not have the model under its name Character"):
            of_model(impostor)


class TestFindingAgain:
    """A restarted process finds the model by its name."""

    @pytest.mark.parametrize(
        "python",
        [f"{THIS}:Gone", f"{THIS}:Outer.Gone", f"{THIS}:Gone.Inner", "tests.endpoints.gone:Character", "no_such:X"],
    )
    def test_a_model_that_is_gone_is_named(self, python: str) -> None:
        module, _, name = python.partition(":")
        with pytest.raises(SchemaError) as caught:
            find_model(ResponseSchema("Answer", "{}", python))
        assert str(caught.value).startswith(f"The model {name} of module {module}, which answers are waiting for, ")

    @pytest.mark.parametrize("name", ["NoModel", "Kind", "ANSWERS", "Outer"])
    def test_something_else_of_that_name_is_no_model(self, name: str) -> None:
        with pytest.raises(SchemaError, match=f"^The model {name} of module .* is no pydantic model any more"):
            find_model(ResponseSchema("Answer", "{}", f"{THIS}:{name}"))
