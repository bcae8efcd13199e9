"""Write the JSON document that a schema asks for: always valid, mostly meaningless, short.

Any schema of the strict subset gets a valid document; keywords outside it are understood where that is cheap, and
never raise. Within an object the first free text is what the question quotes, the others are sentences about it.
Recursion ends: past a certain depth the branch that ends soonest is taken and arrays are as short as they may be.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from gpt_batch_api.sandbox.chance import Asker
from gpt_batch_api.sandbox.pattern import text_for
from gpt_batch_api.sandbox.schema_check import follow
from gpt_batch_api.sandbox.words import Question, first_string, sentence

_DEEP, _BOTTOMLESS = 3, 60  # steps into the document, names and indexes alike
_ENDLESS = 40
_FIRST_BRANCH_SHARE = 0.8

Path = tuple[object, ...]


def compose(schema: Any, *, question: Question, asker: Asker) -> Any:
    """Write a document for *schema*, as an answer to *question*."""
    return _Composer(schema, question, asker).value(schema, ())


class _Composer:
    def __init__(self, root: Any, question: Question, asker: Asker) -> None:
        self._root = root
        self._question = question
        self._asker = asker
        self._ends: dict[tuple[int, int], bool] = {}

    def value(self, schema: Any, path: Path, *, rank: int = 1) -> Any:
        """A value for *schema* at *path*; *rank* counts the free texts before it in its object."""
        if len(path) > _BOTTOMLESS:
            return None  # a schema that no finite document satisfies
        schema = self._resolved(schema, path)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._asker.pick(schema["enum"], "enum", *path)
        kind = self._kind(schema)
        if kind == "object":
            return self._object(schema, path)
        if kind == "array":
            return self._array(schema, path)
        if kind == "boolean":
            return self._asker.draw("boolean", *path) < 0.5
        if kind == "null":
            return None
        if kind in ("integer", "number"):
            return self._number(schema, path, whole=kind == "integer")
        return self._text(schema, path, rank=rank)

    def _resolved(self, schema: Any, path: Path) -> dict[str, Any]:
        """*schema* with references followed and one of its branches taken."""
        for _ in range(50):
            if not isinstance(schema, dict):
                return {}
            if isinstance(schema.get("$ref"), str):
                schema = follow(schema["$ref"], self._root)
                continue
            branches = self._branches(schema)
            if not branches:
                break
            siblings = {key: entry for key, entry in schema.items() if key not in ("anyOf", "oneOf", "allOf")}
            branch = self._branch(branches, path)
            schema = {**siblings, **branch} if isinstance(branch, dict) else siblings
        return schema if isinstance(schema, dict) else {}

    @staticmethod
    def _branches(schema: dict[str, Any]) -> list[Any]:
        for keyword in ("anyOf", "oneOf"):
            if isinstance(schema.get(keyword), list) and schema[keyword]:
                return list(schema[keyword])
        parts = schema.get("allOf")
        if isinstance(parts, list) and parts:
            merged: dict[str, Any] = {}
            for part in parts:
                merged.update(part if isinstance(part, dict) else {})
            return [merged]
        return []

    def _branch(self, branches: list[Any], path: Path) -> Any:
        if len(branches) == 1:
            return branches[0]
        if len(path) > _DEEP:
            return min(branches, key=self._height)
        if self._asker.draw("first", *path) < _FIRST_BRANCH_SHARE:
            return branches[0]
        return self._asker.pick(branches, "branch", *path)

    def _kind(self, schema: dict[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((entry for entry in kind if entry != "null"), "null")
        if isinstance(kind, str):
            return kind
        return "object" if "properties" in schema else "array" if "items" in schema else "string"

    def _object(self, schema: dict[str, Any], path: Path) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        document, rank = {}, 0
        for name, inner in properties.items():
            if len(path) > _DEEP and isinstance(required, list) and name not in required:
                continue
            resolved = self._resolved(inner, (*path, name))
            document[name] = self.value(resolved, (*path, name), rank=rank)
            rank += self._is_free_text(resolved)
        return document

    def _is_free_text(self, schema: dict[str, Any]) -> bool:
        fixed = any(key in schema for key in ("enum", "const", "pattern", "format"))
        return self._kind(schema) == "string" and not fixed

    def _array(self, schema: dict[str, Any], path: Path) -> list[Any]:
        prefix = schema.get("prefixItems")
        entries = [self.value(inner, (*path, index)) for index, inner in enumerate(prefix or ())]
        least = int(schema.get("minItems") or 0)
        few = 0 if len(path) > _DEEP else 1 if len(path) > 2 else 1 + (self._asker.draw("items", *path) < 0.5)
        wanted = max(least, few)
        count = min(wanted, int(schema.get("maxItems", wanted)))
        items = schema.get("items")
        if items is None or items is False:
            return entries
        return entries + [self.value(items, (*path, index)) for index in range(len(entries), count)]

    def _number(self, schema: dict[str, Any], path: Path, *, whole: bool) -> float:
        step = Fraction(str(schema.get("multipleOf") or (1 if whole else "0.01")))
        low, high = _bounds(schema)
        first, last = math.ceil(low / step), math.floor(high / step)
        if "exclusiveMinimum" in schema and first * step <= _fraction(schema["exclusiveMinimum"]):
            first += 1
        if "exclusiveMaximum" in schema and last * step >= _fraction(schema["exclusiveMaximum"]):
            last -= 1
        if last < first:
            # No multiple of a hundredth lies between the bounds.
            return float((low + high) / 2)
        chosen = (first + int(self._asker.draw("number", *path) * (last - first + 1))) * step
        return int(chosen) if whole and chosen.denominator == 1 else float(chosen)

    def _text(self, schema: dict[str, Any], path: Path, *, rank: int) -> str:
        if isinstance(schema.get("pattern"), str):
            made = text_for(schema["pattern"], lambda count: self._asker.draw("pattern", count, *path))
            if made is not None:
                return made
        if schema.get("format"):
            return self._formatted(str(schema["format"]), path)
        if rank == 0:
            return _fitted(first_string(self._question), schema)
        return _fitted(sentence(self._question, self._asker, *path), schema)

    def _formatted(self, kind: str, path: Path) -> str:
        def upto(most: int, what: str) -> int:
            return int(self._asker.draw(what, *path) * most)

        day = f"20{10 + upto(20, 'year')}-{1 + upto(12, 'month'):02d}-{1 + upto(28, 'day'):02d}"
        clock = f"{upto(24, 'hour'):02d}:{upto(60, 'minute'):02d}:{upto(60, 'second'):02d}Z"
        digits = f"{upto(16**12, 'digits'):012x}"
        return {
            "date-time": f"{day}T{clock}",
            "time": clock,
            "date": day,
            "duration": f"P{1 + upto(30, 'days')}DT{upto(24, 'hour')}H",
            "email": f"someone{upto(1000, 'who')}@example.com",
            "hostname": f"host{upto(1000, 'who')}.example.com",
            "ipv4": f"192.0.2.{upto(256, 'host')}",
            "ipv6": f"2001:db8::{1 + upto(65535, 'host'):x}",
            "uuid": f"{digits[:8]}-{digits[8:]}-4000-8000-{upto(16**12, 'node'):012x}",
            "uri": f"https://example.com/{upto(1000, 'who')}",
        }.get(kind, sentence(self._question, self._asker, *path))

    def _height(self, schema: Any) -> int:
        """How deep the shallowest document for *schema* is; `_ENDLESS` if there is none that ends."""
        return next((levels for levels in range(_ENDLESS) if self._ends_within(schema, levels)), _ENDLESS)

    def _ends_within(self, schema: Any, levels: int) -> bool:
        if not isinstance(schema, dict):
            return True
        if levels < 0:
            return False
        key = (id(schema), levels)  # all schemas asked about are parts of the root, which stays
        if key not in self._ends:
            self._ends[key] = self._parts_end_within(schema, levels - 1)
        return self._ends[key]

    def _parts_end_within(self, schema: dict[str, Any], levels: int) -> bool:
        if isinstance(schema.get("$ref"), str):
            return self._ends_within(follow(schema["$ref"], self._root), levels)
        branches = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(branches, list) and branches:
            return any(self._ends_within(branch, levels) for branch in branches)
        kind = self._kind(schema)
        if kind == "object" and isinstance(schema.get("properties"), dict):
            return all(self._ends_within(inner, levels) for inner in schema["properties"].values())
        if kind == "array" and int(schema.get("minItems") or 0) > 0:
            return self._ends_within(schema.get("items"), levels)
        return True


def _fitted(text: str, schema: dict[str, Any]) -> str:
    """*text* with the length that *schema* asks for, if it does."""
    if _is_number(schema.get("maxLength")):
        text = text[: int(schema["maxLength"])]
    return text.ljust(int(schema["minLength"]), ".") if _is_number(schema.get("minLength")) else text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounds(schema: dict[str, Any]) -> tuple[Fraction, Fraction]:
    lows = [_fraction(schema[key]) for key in ("minimum", "exclusiveMinimum") if _is_number(schema.get(key))]
    highs = [_fraction(schema[key]) for key in ("maximum", "exclusiveMaximum") if _is_number(schema.get(key))]
    step = abs(_fraction(schema.get("multipleOf") or 1))
    span = max(Fraction(100), 10 * step)
    low = max(lows) if lows else (min(highs) - span if highs and min(highs) < 0 else Fraction(0))
    return low, min(highs) if highs else low + span


def _fraction(value: Any) -> Fraction:
    return Fraction(str(value)) if _is_number(value) else Fraction(0)
