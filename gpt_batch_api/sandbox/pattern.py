"""Make a text that a regular expression accepts, for the patterns that schemas use."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

# The parser of `re` gives the expression as a tree; there is no public way to it.
_parser: Any = importlib.import_module("re._parser")

_MORE = 2  # how often a part is repeated at most beyond what it must be
_CATEGORIES = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_WORD": "abcdefghijklmnopqrstuvwxyz0123456789",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": "abcdefghijklmnopqrstuvwxyz",
    "CATEGORY_NOT_WORD": " -",
    "CATEGORY_NOT_SPACE": "abcdefghijklmnopqrstuvwxyz0123456789",
}
_PRINTABLE = "".join(map(chr, range(97, 123))) + "".join(map(chr, range(32, 127)))


def text_for(pattern: str, draw: Callable[[int], float]) -> str | None:
    """A text that *pattern* matches, or None if it is beyond us. `draw(n)` gives the n-th number from 0 to 1."""
    try:
        compiled = re.compile(pattern)
        text = _Writer(draw).sequence(_parser.parse(pattern))
    except (re.error, KeyError, NotImplementedError, RecursionError, OverflowError, IndexError):
        return None
    return text if compiled.search(text) else None


class _Writer:
    """Walks the tree of an expression and writes one way through it."""

    def __init__(self, draw: Callable[[int], float]) -> None:
        self._draw = draw
        self._drawn = 0
        self._groups: dict[int, str] = {}

    def sequence(self, parts: Any) -> str:
        return "".join(self._part(str(operator), argument) for operator, argument in parts)

    def _part(self, operator: str, argument: Any) -> str:
        if operator == "LITERAL":
            return chr(argument)
        if operator == "NOT_LITERAL":
            return str(self._choose([letter for letter in _PRINTABLE if letter != chr(argument)]))
        if operator == "ANY":
            return str(self._choose(_PRINTABLE[:26]))
        if operator == "IN":
            return str(self._choose(_letters(argument)))
        if operator == "BRANCH":
            return self.sequence(self._choose(argument[1]))
        if operator == "SUBPATTERN":
            number, *_, inner = argument
            self._groups[number] = self.sequence(inner)
            return self._groups[number]
        if operator == "GROUPREF":
            return self._groups[argument]
        if operator in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = argument
            times = least + int(self._next() * (min(int(most), least + _MORE) - least + 1))
            return "".join(self.sequence(inner) for _ in range(times))
        if operator == "AT":
            return ""
        raise NotImplementedError(operator)

    def _choose(self, options: Any) -> Any:
        return options[int(self._next() * len(options))]

    def _next(self) -> float:
        self._drawn += 1
        return self._draw(self._drawn)


def _letters(entries: Any) -> list[str]:
    """The letters of a class like `[a-z0-9_]`."""
    negated, letters = False, []
    for operator, argument in entries:
        kind = str(operator)
        if kind == "NEGATE":
            negated = True
        elif kind == "LITERAL":
            letters.append(chr(argument))
        elif kind == "RANGE":
            letters += [chr(code) for code in range(argument[0], min(argument[1], argument[0] + 200) + 1)]
        else:
            letters += _CATEGORIES[str(argument)]
    return [letter for letter in _PRINTABLE if letter not in letters] if negated else letters
