"""Function definitions as the models see them: TypeScript, rendered from JSON schema.

    namespace functions {

    // What the function does.
    type name = (_: // What the arguments are.
    {
    // Title
    //
    // description
    needed: string,
    optional?: number, // default: 5
    }) => any;

    } // namespace functions

An object without any comment inside is written on one line. References are put in place; one that leads back to
itself ends as `any`. Schemas come from users: whatever does not make sense is rendered as `any`, and a schema that
would grow beyond all measure raises `TooLarge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpt_batch_api.tokens.text import compact_json

_MOST_CHARS = 2_000_000
_NODE_CHARS = 40
_CONSTRAINTS = (
    "format",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "default",
)
_NOT_REPEATED = ("title", "default")


class TooLarge(Exception):
    """The schema's references multiply without end."""


def render_functions(functions: Iterable[Mapping[str, Any]], *, style: str) -> str:
    """Write the definitions *functions* in *style*.

    `plain` is that of gpt-4's first snapshots, `typed` that of the others, `spaced` the same with a line more (gpt-5).
    """
    kind = _Plain if style == "plain" else _Typed
    blocks = "\n\n".join(_function(function, kind) for function in functions)
    head = "\n\n\n" if style == "spaced" else "\n\n"
    return f"namespace functions {{{head}{blocks}\n\n}} // namespace functions"


def _function(function: Mapping[str, Any], kind: type[_Typed]) -> str:
    parameters = function.get("parameters")
    lines = _comment(function.get("description"))
    if function.get("freeform"):
        argument = "FREEFORM"
    elif isinstance(parameters, dict) and isinstance(parameters.get("properties"), dict) and parameters["properties"]:
        argument = f"_: {kind(parameters).root()}"
    else:
        argument = ""
    lines.append(f"type {function.get('name')} = ({argument}) => any;")
    return "\n".join(lines)


def _comment(text: Any) -> list[str]:
    """*text* as comment lines, each stripped."""
    if not isinstance(text, str) or not text.strip():
        return []
    return [f"// {line.strip()}".rstrip() for line in text.strip().split("\n")]


class _Typed:
    """One schema in today's style."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._open: list[str] = []
        self._left = _MOST_CHARS

    def root(self) -> str:
        """The whole schema as an object type, its own title and description before it."""
        return "\n".join([*self._above(self._schema), self._object(self._schema)])

    def _type(self, schema: Any) -> str:
        """The type of *schema*, without the comments that belong above or behind it."""
        self._spend(_NODE_CHARS)
        if not isinstance(schema, dict):
            return "any"
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._expanded(schema, reference)
        for key in ("anyOf", "oneOf", "allOf"):
            if isinstance(schema.get(key), list):
                return self._union(schema[key])
        if isinstance(schema.get("enum"), list):
            return " | ".join(map(compact_json, schema["enum"]))
        if "const" in schema:
            return compact_json(schema["const"])
        if isinstance(schema.get("type"), list):
            once = {key: value for key, value in schema.items() if key not in _NOT_REPEATED}
            return self._union([{**once, "type": kind} for kind in schema["type"]])
        return self._plain_type(schema)

    def _plain_type(self, schema: dict[str, Any]) -> str:
        kind = schema.get("type")
        if kind == "array":
            return self._array(schema.get("items"))
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema)
        if kind in ("integer", "number"):
            return "number"
        return kind if kind in ("string", "boolean", "null") else "any"

    def _expanded(self, schema: dict[str, Any], reference: str) -> str:
        """What *reference* leads to, unless we are inside it already."""
        target = self._resolved(schema)
        if target is None:
            return "any"
        self._open.append(reference)
        try:
            return self._type(target)
        finally:
            self._open.pop()

    def _resolved(self, schema: Any) -> dict[str, Any] | None:
        """*schema* with its reference, if it has one, followed to the end. None if that leads nowhere or back."""
        seen = set(self._open)
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
            reference = schema["$ref"]
            if reference in seen:
                return None
            seen.add(reference)
            target = _lookup(self._schema, reference)
            if target is None:
                return None
            schema = target | {key: value for key, value in schema.items() if key != "$ref"}
        return schema if isinstance(schema, dict) else None

    def _union(self, alternatives: list[Any]) -> str:
        """The alternatives in a row; below each other if one of them has something to say."""
        resolved = [self._resolved(alternative) or {} for alternative in alternatives]
        types = [self._type(alternative) for alternative in alternatives]
        comments = [(self._above(alternative), self._tail(alternative)) for alternative in resolved]
        if not any(above or tail for above, tail in comments):
            return " | ".join(types)
        lines = [""]
        for kind, (above, tail) in zip(types, comments, strict=True):
            lines += [*above, f" | {kind}, {tail}" if tail else f" | {kind}"]
        return "\n".join(lines)

    def _array(self, items: Any) -> str:
        if not isinstance(items, dict):
            return "any[]"
        kind = self._type(items)
        above = self._above(self._resolved(items) or {})
        if above or "\n" in kind:
            return "\n".join(["Array<", *above, kind.removeprefix("\n"), ">"])
        return f"({kind})[]" if _is_union(self._resolved(items) or {}) else f"{kind}[]"

    def _object(self, schema: dict[str, Any]) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            return "object"
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        return self._body(properties, required)

    def _body(self, properties: dict[str, Any], required: list[Any]) -> str:
        members = [self._member(name, value, name in required) for name, value in properties.items()]
        if all(not above and not tail and "\n" not in body for above, body, tail in members):
            return f"{{ {', '.join(body for _, body, _ in members)} }}"
        lines = ["{"]
        for above, body, tail in members:
            lines += [*above, f"{body}, {tail}" if tail else f"{body},"]
        return "\n".join([*lines, "}"])

    def _member(self, name: str, schema: Any, needed: bool) -> tuple[list[str], str, str]:
        """A property: the comments above it, `name: type`, and the comment behind it."""
        resolved = self._resolved(schema) or {}
        kind = self._type(schema)
        gap = "" if kind.startswith("\n") else " "
        return self._above(resolved), f"{name}{'' if needed else '?'}:{gap}{kind}", self._tail(resolved)

    def _above(self, schema: dict[str, Any]) -> list[str]:
        title, description = _comment(schema.get("title")), _comment(schema.get("description"))
        self._spend(sum(map(len, title + description)))
        return [*title, "//", *description] if title and description else title + description

    def _tail(self, schema: dict[str, Any]) -> str:
        said = [f"{key}: {compact_json(schema[key])}" for key in _CONSTRAINTS if key in schema]
        return f"// {', '.join(said)}" if said else ""

    def _spend(self, chars: int) -> None:
        """Note that about *chars* characters are written; references can make a small schema endless."""
        self._left -= chars
        if self._left < 0:
            raise TooLarge


class _Plain(_Typed):
    """One schema in the style of gpt-4's first snapshots: no titles, no constraints, comments on the outer level."""

    def __init__(self, schema: dict[str, Any]) -> None:
        super().__init__(schema)
        self._depth = 0

    def root(self) -> str:
        return self._object(self._schema)

    def _body(self, properties: dict[str, Any], required: list[Any]) -> str:
        lines = ["{"]
        for name, value in properties.items():
            if self._depth == 0:
                lines += self._above(self._resolved(value) or {})
            self._depth += 1
            lines.append(f"{'  ' * (self._depth - 1)}{name}{'' if name in required else '?'}: {self._type(value)},")
            self._depth -= 1
        return "\n".join([*lines, "}"])

    def _above(self, schema: dict[str, Any]) -> list[str]:
        return super()._above({"description": schema.get("description")})

    def _array(self, items: Any) -> str:
        return f"{self._type(items)}[]" if isinstance(items, dict) else "any[]"

    def _tail(self, schema: dict[str, Any]) -> str:
        return ""


def _is_union(schema: dict[str, Any]) -> bool:
    """Whether the type of *schema* has several alternatives."""
    members = (schema.get(key) for key in ("anyOf", "oneOf", "allOf", "enum", "type"))
    return any(isinstance(member, list) and len(member) > 1 for member in members)


def _lookup(schema: dict[str, Any], reference: str) -> dict[str, Any] | None:
    """The part of *schema* that the JSON pointer *reference* names."""
    if not reference.startswith("#"):
        return None
    target: Any = schema
    for step in reference[1:].split("/")[1:]:
        target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target if isinstance(target, dict) else None
