"""Response schemas: from a pydantic model to the strict subset of JSON Schema, checked before anything is paid.

The server finds a bad schema only when it runs each line, and every line then fails. So whatever lies outside the
subset is an error here, with its place. Constraints that the subset does not have but pydantic checks anyway
(`maxLength`, `uniqueItems`, defaults …) are left out of what is sent; an answer that breaks them is asked for again.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gpt_batch_api.domain.errors import SchemaError
from gpt_batch_api.domain.request import ResponseSchema
from gpt_batch_api.endpoints.base import encode

if TYPE_CHECKING:
    from pydantic import BaseModel

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

KEYWORDS = frozenset(
    "type properties required additionalProperties items enum const anyOf $ref $defs definitions title description "
    "pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems".split()
)
TYPES = frozenset(("string", "number", "boolean", "integer", "object", "array", "null"))
FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid".split())
LOCAL_ONLY = frozenset(
    "default minLength maxLength uniqueItems minProperties maxProperties examples discriminator".split()
)

MAX_PROPERTIES = 5_000
MAX_LEVELS = 10
MAX_ENUM_VALUES = 1_000
MAX_NAME_CHARACTERS = 120_000
MAX_PATH = 100
"""How far a schema may reach below its root. Only objects count as levels; arrays could go on without end."""

_LIST, _MAPPING, _TEXT = ((list, tuple), "a list"), (Mapping, "a mapping"), (str, "a text")
_FORMS: dict[str, tuple[Any, str]] = {
    "properties": _MAPPING,
    "$defs": _MAPPING,
    "definitions": _MAPPING,
    "required": _LIST,
    "enum": _LIST,
    "anyOf": _LIST,
    "format": _TEXT,
}


@lru_cache(maxsize=256)
def of_model(model: type) -> ResponseSchema:
    """The strict schema of a pydantic model class.

    Raises SchemaError if the model cannot be expressed in the subset, or if a restarted process could not find the
    class again by its name.
    """
    from openai.lib._pydantic import to_strict_json_schema
    from pydantic import BaseModel

    if not issubclass(model, BaseModel):
        raise SchemaError(f"{model.__name__} is no pydantic model: derive it from pydantic.BaseModel.")
    if "<locals>" in model.__qualname__:
        raise SchemaError(
            f"The model {model.__qualname__} is defined inside a function, where a restarted process cannot find it. "
            "Define it at the top of its module."
        )
    name = re.sub(r"[^A-Za-z0-9_-]", "_", model.__name__)[:64]
    schema = _loosened(to_strict_json_schema(model))
    check_strict(schema, name=name)
    made = ResponseSchema(name, _compact(schema, name=name), f"{model.__module__}:{model.__qualname__}")
    if not _leads_back(made, model):
        raise SchemaError(
            f"Module {model.__module__} does not have the model under its name {model.__qualname__}, so a restarted process "
            "cannot find it. Define it as a class at the top of its module."
        )
    return made


def _leads_back(schema: ResponseSchema, model: type) -> bool:
    try:
        return find_model(schema) is model
    except SchemaError:
        return False


def of_json_schema(given: Any) -> ResponseSchema:
    """The schema of a `json_schema` response format that the user wrote out; checked if it is strict."""
    if not isinstance(given, Mapping) or not isinstance(given.get("schema"), Mapping):
        raise SchemaError("The response format has no schema: it needs json_schema.name and json_schema.schema.")
    name = given.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SchemaError(f"The response format's name is {name!r}, but must be 1 to 64 letters, digits, '_' or '-'.")
    text = _compact(given["schema"], name=name)
    if given.get("strict"):
        check_strict(given["schema"], name=name)
    return ResponseSchema(name, text)


def completed(schema: Any) -> Any:
    """*schema* with what the strict subset demands of objects where it says nothing: all required, no others allowed."""
    if isinstance(schema, (list, tuple)):
        return [completed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: value if key in ("enum", "const") else completed(value) for key, value in schema.items()}
    properties = schema.get("properties")
    if schema.get("type") == "object" and isinstance(properties, Mapping):
        made = {"required": list(properties), "additionalProperties": False, **made}
    return made


def check_strict(schema: Mapping[str, Any], *, name: str) -> None:
    """Raise SchemaError unless *schema* lies in the strict subset."""
    _Check(name, schema).run()


def _compact(schema: Mapping[str, Any], *, name: str) -> str:
    return encode(schema, what=f"The response schema {name!r}").decode()


def _loosened(schema: Any, *, is_properties: bool = False) -> Any:
    """*schema* without the constraints that only pydantic checks, and with unions written the strict way."""
    if isinstance(schema, list):
        return [_loosened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if is_properties:  # here the keys are the user's names
        return {key: _loosened(value) for key, value in schema.items()}
    kept = {}
    for key, value in schema.items():
        if key in LOCAL_ONLY:
            continue
        if key in ("enum", "const"):
            kept[key] = value
        else:
            kept["anyOf" if key == "oneOf" else key] = _loosened(
                value, is_properties=key in ("properties", "$defs", "definitions")
            )
    return kept


class _Check:
    """One walk over a schema, counting what is limited."""

    def __init__(self, name: str, schema: Mapping[str, Any]) -> None:
        self.name = name
        self.root = schema
        self.properties = 0
        self.enum_values = 0
        self.characters = 0

    def run(self) -> None:
        if self.root.get("type") != "object" or "anyOf" in self.root:
            raise self.error((), "the root must be an object, and no union")
        self.walk(self.root, (), levels=0)
        for what, number, most in (
            ("properties", self.properties, MAX_PROPERTIES),
            ("enum values", self.enum_values, MAX_ENUM_VALUES),
            ("characters of names and enum values", self.characters, MAX_NAME_CHARACTERS),
        ):
            if number > most:
                raise self.error((), f"it has {number:,} {what}, but at most {most:,} are allowed")

    def walk(self, schema: Any, path: tuple[str, ...], *, levels: int) -> None:
        if len(path) > MAX_PATH:
            raise self.error(path[:6], "what is below it is nested too deep")
        self.check_forms(schema, path)
        for section in ("$defs", "definitions"):
            for key, item in schema.get(section, {}).items():
                self.characters += len(key)
                self.walk(item, (*path, section, key), levels=levels)
        if "$ref" in schema:
            return self.check_reference(schema["$ref"], path)
        if "anyOf" in schema:
            for index, item in enumerate(schema["anyOf"]):
                self.walk(item, (*path, "anyOf", str(index)), levels=levels)
        elif "type" not in schema and "enum" not in schema and "const" not in schema:
            raise self.error(path, "it allows anything: give it a type")
        self.check_values(schema, path)
        types = self.types(schema, path)
        if "object" in types:
            self.check_object(schema, path, levels=levels + 1)
        if "array" in types:
            if "items" not in schema:
                raise self.error(path, "an array needs 'items', one schema for all of them")
            self.walk(schema["items"], (*path, "items"), levels=levels)
        return None

    def check_forms(self, schema: Any, path: tuple[str, ...]) -> None:
        if not isinstance(schema, Mapping):
            raise self.error(path, f"{schema!r:.40} is no schema")
        if unknown := [key for key in schema if key not in KEYWORDS]:
            raise self.error(path, f"{unknown[0]!r:.40} is not permitted")
        for key, (form, words) in _FORMS.items():
            if key in schema and not isinstance(schema[key], form):
                raise self.error(path, f"{key!r} is {schema[key]!r:.40}, but must be {words}")
        for key in ("anyOf", "enum"):
            if key in schema and not schema[key]:
                raise self.error(path, f"{key!r} is empty, so that nothing would fit")

    def types(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
        """The types that *schema* allows; none if it does not say."""
        if "type" not in schema:
            return ()
        given = schema["type"]
        types = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if not types:
            raise self.error(path, "'type' is empty, so that nothing would fit")
        for item in types:
            if not isinstance(item, str) or item not in TYPES:
                raise self.error(path, f"the type {item!r:.40} does not exist")
        return types

    def check_object(self, schema: Mapping[str, Any], path: tuple[str, ...], *, levels: int) -> None:
        if levels > MAX_LEVELS:
            raise self.error(path, f"objects are nested more than {MAX_LEVELS} deep")
        if schema.get("additionalProperties") is not False:
            raise self.error(
                path, "an object must name all its properties: 'additionalProperties' has to be false (no dict[str, …])"
            )
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if missing := [key for key in properties if key not in required]:
            raise self.error(path, f"{missing[0]!r} must be required (for an optional one allow null)")
        if extra := [key for key in required if not isinstance(key, str) or key not in properties]:
            raise self.error(path, f"{extra[0]!r:.40} is required, but is none of its properties")
        self.properties += len(properties)
        for key, item in properties.items():
            self.characters += len(key)
            self.walk(item, (*path, "properties", key), levels=levels)

    def check_values(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> None:
        values = schema.get("enum", [])
        self.enum_values += len(values)
        self.characters += sum(len(str(value)) for value in values)
        if "format" in schema and schema["format"] not in FORMATS:
            raise self.error(path, f"the format {schema['format']!r:.40} is not supported")

    def check_reference(self, reference: Any, path: tuple[str, ...]) -> None:
        target: Any = self.root
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self.error(path, f"the reference {reference!r:.80} does not point into this schema")
        for step in reference.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")  # as JSON pointers write slash and tilde
            target = target.get(key) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            raise self.error(path, f"the reference {reference!r:.80} points nowhere")

    def error(self, path: tuple[str, ...], what: str) -> SchemaError:
        place = ".".join(path) or "its root"
        return SchemaError(
            f"The response schema {self.name!r} is outside the strict subset at {place}: {what}.", path=".".join(path)
        )


def find_model(schema: ResponseSchema) -> type[BaseModel]:
    """The pydantic model class that *schema* was made of, found again by its name.

    Raises SchemaError if it is not there any more.
    """
    from pydantic import BaseModel

    assert schema.python is not None
    module_name, _, qualname = schema.python.partition(":")
    label = f"The model {qualname} of module {module_name}, which answers are waiting for,"
    try:
        found: Any = importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SchemaError(f"{label} is not there any more ({error}).") from error
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        raise SchemaError(f"{label} is no pydantic model any more.")
    return found
