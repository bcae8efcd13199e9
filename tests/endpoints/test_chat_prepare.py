"""Payloads of chat completions: what goes out, and what is refused before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from gpt_batch_api.domain.errors import PayloadError, SchemaError, SettingError
from gpt_batch_api.endpoints.base import Shape, encode, get_endpoint
from gpt_batch_api.endpoints.chat import ChatCompletions
from tests.endpoints import models

MESSAGES = [{"role": "user", "content": "What is an é?"}]
PLAIN: dict[str, Any] = {"model": "gpt-6-luna", "messages": MESSAGES}
NO_MESSAGES: list[dict[str, Any]] = [
    {},
    {"messages": []},
    {"messages": "Hello"},
    {"messages": None},
    {"messages": {"a": 1}},
]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


def prepare(**more: Any) -> Shape:
    return ChatCompletions().prepare({**PLAIN, **more})


def json_schema(**more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "Answer", "schema": SCHEMA, **more}}


class TestWhatGoesOut:
    def test_a_plain_payload_goes_out_as_it_is(self) -> None:
        """Every parameter of the API is passed on, known or not."""
        payload = {**PLAIN, "temperature": 0.3, "verbosity": "low", "something_new": {"x": [1]}}
        assert ChatCompletions().prepare(payload) == Shape(
            body=payload, model="gpt-6-luna", max_output_tokens=None, choices=1, schema=None
        )

    def test_the_users_payload_is_not_touched(self) -> None:
        """It may be used for many requests."""
        payload = {**PLAIN, "stream": False, "response_format": models.Character}
        before = dict(payload)
        ChatCompletions().prepare(payload)
        assert payload == before

    def test_a_read_only_payload_will_do(self) -> None:
        assert ChatCompletions().prepare(MappingProxyType(PLAIN)).body == PLAIN

    @pytest.mark.parametrize("stream", [False, None])
    def test_no_streaming_is_left_out(self, stream: bool | None) -> None:
        """Batches refuse the parameter in any form."""
        assert prepare(stream=stream).body == PLAIN

    @pytest.mark.parametrize(
        ("limits", "most"),
        [
            ({}, None),
            ({"max_completion_tokens": 1}, 1),
            ({"max_tokens": 7}, 7),
            ({"max_completion_tokens": 5, "max_tokens": 7}, 5),
            ({"max_completion_tokens": None, "max_tokens": 7}, 7),
            ({"max_completion_tokens": None}, None),
        ],
    )
    def test_the_maximum_of_output_tokens_is_found(self, limits: dict[str, Any], most: int | None) -> None:
        assert prepare(**limits).max_output_tokens == most

    @pytest.mark.parametrize(("given", "choices"), [({}, 1), ({"n": None}, 1), ({"n": 1}, 1), ({"n": 3}, 3)])
    def test_the_number_of_choices_is_found(self, given: dict[str, Any], choices: int) -> None:
        assert prepare(**given).choices == choices


class TestStructured:
    """A pydantic model class asks for a strict JSON schema."""

    def test_a_model_goes_out_as_a_strict_schema(self) -> None:
        shape = prepare(response_format=models.Outer.Inner)
        assert shape.body["response_format"] == {
            "type": "json_schema",
            "json_schema": {
                "name": "Inner",
                "strict": True,
                "schema": {
                    "description": "Nested in a class, which a restarted process finds again.",
                    "properties": {"x": {"title": "X", "type": "integer"}},
                    "required": ["x"],
                    "title": "Inner",
                    "type": "object",
                    "additionalProperties": False,
                },
            },
        }

    @pytest.mark.parametrize("model", models.ANSWERS)
    def test_the_stored_schema_is_the_one_on_the_wire(self, model: type) -> None:
        shape = prepare(response_format=model)
        assert shape.schema is not None
        on_wire = json.loads(encode(shape.body))["response_format"]["json_schema"]
        assert on_wire == {"name": shape.schema.name, "strict": True, "schema": json.loads(shape.schema.json)}

    def test_a_written_schema_goes_out_as_it_is(self) -> None:
        """Strict or not; it is kept so that the answer is read as JSON."""
        for more in ({}, {"strict": True}, {"strict": False}, {"description": "d"}):
            shape = prepare(response_format=json_schema(**more))
            assert shape.body["response_format"] == json_schema(**more)
            assert shape.schema is not None
            assert (shape.schema.name, json.loads(shape.schema.json), shape.schema.python) == ("Answer", SCHEMA, None)

    @pytest.mark.parametrize("kind", ["text", "json_object"])
    def test_other_formats_of_the_api_have_no_schema(self, kind: str) -> None:
        shape = prepare(response_format={"type": kind})
        assert shape.schema is None
        assert shape.body["response_format"] == {"type": kind}

    def test_no_format_is_left_out(self) -> None:
        assert prepare(response_format=None).body == PLAIN

    def test_a_loose_schema_is_not_held_against_the_strict_subset(self) -> None:
        """Without `strict` the server takes it."""
        assert prepare(response_format=json_schema(schema={"oneOf": []})).schema is not None


class TestRefusals:
    """What cannot be sent is refused in one line that says what to do."""

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            ({"messages": MESSAGES}, "The payload names no model: it needs 'model'."),
            ({"model": "", "messages": MESSAGES}, "The payload names no model: it needs 'model'."),
            ({"model": None, "messages": MESSAGES}, "The payload names no model: it needs 'model'."),
            ({"model": 5, "messages": MESSAGES}, "The payload names no model: it needs 'model'."),
            *(
                (
                    {"model": "m", **messages},
                    "The payload has no messages: it needs 'messages', a list with at least one message.",
                )
                for messages in NO_MESSAGES
            ),
            (
                {**PLAIN, "stream": True},
                "The payload asks for streaming, which batches do not have: leave 'stream' out.",
            ),
            *(
                ({**PLAIN, name: value}, f"{name} is {value!r}, but must be a whole number of at least 1.")
                for name in ("max_completion_tokens", "max_tokens", "n")
                for value in (0, -1, 1.5, "5", True, [1])
            ),
            (
                {**PLAIN, "response_format": "json"},
                "response_format is 'json', but must be a pydantic model class or the API's own form.",
            ),
            (
                {**PLAIN, "response_format": {"type": "xml"}},
                "response_format is {'type': 'xml'}, but must be a pydantic model class or the API's own form.",
            ),
            (
                {**PLAIN, "response_format": models.NoModel},
                "NoModel is no pydantic model: derive it from pydantic.BaseModel.",
            ),
            *(
                (
                    {**PLAIN, "response_format": {"type": "json_schema", **given}},
                    "The response format has no schema: it needs json_schema.name and json_schema.schema.",
                )
                for given in ({}, {"json_schema": None}, {"json_schema": {"name": "A"}}, {"json_schema": {"schema": 1}})
            ),
            *(
                (
                    {**PLAIN, "response_format": json_schema(name=name)},
                    f"The response format's name is {name!r}, but must be 1 to 64 letters, digits, '_' or '-'.",
                )
                for name in (None, "", "a b", "é", 5, "a" * 65, "a\n")
            ),
            (
                {**PLAIN, "response_format": json_schema(schema={"type": "array"}, strict=True)},
                "The response schema 'Answer' is outside the strict subset at its root: "
                "the root must be an object, and no union.",
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, payload: dict[str, Any], words: str) -> None:
        with pytest.raises(PayloadError) as caught:
            ChatCompletions().prepare(payload)
        assert str(caught.value) == words
        assert "\n" not in words

    @pytest.mark.parametrize("name", ["a", "a" * 64, "Answer_1-b"])
    def test_a_name_of_a_format_may_have_up_to_64_characters(self, name: str) -> None:
        shape = prepare(response_format=json_schema(name=name))
        assert shape.schema is not None
        assert shape.schema.name == name

    @pytest.mark.parametrize("payload", [None, "Hello", 5, [("model", "m")], [1], object()])
    def test_a_payload_that_is_no_mapping_is_refused(self, payload: Any) -> None:
        """A function that forgot its return, for instance."""
        with pytest.raises(PayloadError, match=r"The payload is .*, but must be a mapping with 'model' and 'messages'"):
            ChatCompletions().prepare(payload)

    @pytest.mark.parametrize(
        "schema",
        [{"type": "object", "enum": {1, 2}}, {"type": "object", "default": object()}, {"type": "object", "x": b"y"}],
    )
    @pytest.mark.parametrize("strict", [False, True])
    def test_a_schema_that_is_not_json_is_refused(self, schema: Mapping[str, Any], strict: bool) -> None:
        with pytest.raises(PayloadError):
            encode(prepare(response_format=json_schema(schema=schema, strict=strict)).body)

    def test_what_is_not_json_in_a_schema_is_named_with_its_place(self) -> None:
        with pytest.raises(PayloadError, match=r"^The response schema 'Answer' is not JSON at x\[1\]: b'y' is no JSON"):
            prepare(response_format=json_schema(schema={"type": "object", "x": [1, b"y"]}))

    def test_a_bad_schema_names_its_place(self) -> None:
        """As text and as an attribute."""
        bad = {**SCHEMA, "properties": {"a": {"type": "string", "maxLength": 3}}}
        with pytest.raises(SchemaError) as caught:
            prepare(response_format=json_schema(schema=bad, strict=True))
        assert caught.value.path == "properties.a"
        assert "properties.a: 'maxLength' is not permitted" in str(caught.value)


class TestEndpoint:
    def test_it_is_found_by_its_path(self) -> None:
        assert isinstance(get_endpoint("/v1/chat/completions"), ChatCompletions)

    @pytest.mark.parametrize("path", ["/v1/completion", "", "chat", "/v1/chat/completions/"])
    def test_an_unknown_path_is_a_wrong_setting(self, path: str) -> None:
        with pytest.raises(SettingError) as caught:
            get_endpoint(path)
        assert caught.value.names == ("endpoint",)
        assert str(caught.value).startswith(f"endpoint is {path!r}, but only /v1/chat/completions")
