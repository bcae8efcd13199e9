"""The language of `--where`: which rows are asked about. It compares cells and does nothing else.

    stars >= 4 and language in ["en", "de"]
    "refund" in lower(text) or not answer
    len(text) > 20 and `review date` < "2024-06"

A word is a column; a column whose name is no word stands in backquotes. Texts are quoted. There are `and or not`,
`== != < <= > >=`, `in`, `not in`, lists, `None`, `True`, `False`, `len(x)` and `lower(x)`; a column alone is true if it
is not empty. Beside a number a cell counts as a number, and a cell that is none fits no comparison but `!=`.

It is read with Python's own grammar and run by this file: nothing else of Python can be reached from it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.values import as_plain

Cells = Mapping[str, Any]
Evaluate = Callable[[Cells], Any]

_QUOTED = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`([^`]+)`""")
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "len": lambda value: 0 if value is None else len(value if isinstance(value, str | list | dict) else str(value)),
    "lower": lambda value: "" if value is None else str(value).lower(),
}
_ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: lambda left, right: left < right,
    ast.LtE: lambda left, right: left <= right,
    ast.Gt: lambda left, right: left > right,
    ast.GtE: lambda left, right: left >= right,
}


class Where:
    """A condition on rows. Raises UserError if it cannot be understood."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._columns: dict[str, None] = {}
        self._quoted: dict[str, str] = {}
        try:
            tree = ast.parse(_QUOTED.sub(self._as_word, text).strip(), mode="eval")
            self._evaluate = self._understand(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deep"
            raise self._error(reason) from error

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it looks at."""
        return tuple(self._columns)

    def keeps(self, cells: Cells) -> bool:
        """Whether a row is asked about."""
        return bool(self._evaluate(cells))

    def _as_word(self, match: re.Match[str]) -> str:
        """A column in backquotes as a word that Python's grammar knows."""
        if match.group(1) is None:
            return match.group()
        word = f"_column_{len(self._quoted)}_"
        self._quoted[word] = match.group(1)
        return word

    def _understand(self, node: ast.expr) -> Evaluate:
        match node:
            case ast.Constant(value=str() | int() | float() | None):
                value = node.value
                return lambda cells: value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda cells: -number
            case ast.Name(id=word):
                name = self._quoted.get(word, word)
                self._columns[name] = None
                return lambda cells: _plain(cells.get(name))
            case ast.BoolOp(op=operator, values=parts):
                conditions = [self._understand(part) for part in parts]
                decide = all if isinstance(operator, ast.And) else any
                return lambda cells: decide(condition(cells) for condition in conditions)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._understand(operand)
                return lambda cells: not inner(cells)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                items = [self._understand(part) for part in parts]
                return lambda cells: [item(cells) for item in items]
            case ast.Call(func=ast.Name(id=word), args=[argument], keywords=[]) if word in _FUNCTIONS:
                function, of = _FUNCTIONS[word], self._understand(argument)
                return lambda cells: function(of(cells))
            case ast.Compare():
                return self._understand_comparison(node)
        part = ast.unparse(node)
        raise self._error(f"it does not know {part!r:.60}")

    def _understand_comparison(self, node: ast.Compare) -> Evaluate:
        terms = [self._understand(term) for term in (node.left, *node.comparators)]
        operators = [type(operator) for operator in node.ops]
        if ast.Is in operators or ast.IsNot in operators:
            raise self._error("write == or != instead of 'is'")

        def compare(cells: Cells) -> bool:
            values = [term(cells) for term in terms]
            return all(
                _holds(operator, left, right)
                for operator, left, right in zip(operators, values, values[1:], strict=False)
            )

        return compare

    def _error(self, why: str) -> UserError:
        return UserError(
            f"The condition {self.text!r:.80} cannot be understood: {why}. It may use columns, texts in quotes, numbers, "
            "== != < <= > >=, in, and, or, not, len() and lower(); a column whose name is no word stands in `backquotes`."
        )


def _holds(operator: type[ast.cmpop], left: Any, right: Any) -> bool:
    if operator is ast.In:
        return _contains(right, left)
    if operator is ast.NotIn:
        return not _contains(right, left)
    if operator is ast.Eq:
        return _equal(left, right)
    if operator is ast.NotEq:
        return not _equal(left, right)
    left, right = _alike(left, right)
    comparable = (_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str))
    return comparable and _ORDERS[operator](left, right)


def _plain(value: Any) -> Any:
    """A cell as texts, numbers and lists, whatever library it came from; moments are texts."""
    try:
        return as_plain(value)
    except TypeError:
        return value


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str) and part in whole
    return isinstance(whole, list | tuple) and any(_equal(item, part) for item in whole)


def _equal(left: Any, right: Any) -> bool:
    left, right = _alike(left, right)
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Both values, a text as what it would be beside a number or a truth value."""
    if isinstance(left, str) and not isinstance(right, str):
        return _read(left, beside=right), right
    if isinstance(right, str) and not isinstance(left, str):
        return left, _read(right, beside=left)
    return left, right


def _read(text: str, *, beside: Any) -> Any:
    if isinstance(beside, bool):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if isinstance(beside, int | float):
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
