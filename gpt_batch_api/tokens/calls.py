"""Tool calls of earlier turns, and what the tools answered.

One call of a turn is shown to the model as itself. Several calls of one assistant message (chat completions) are shown
as one call of `multi_tool_use.parallel`, with the answers as a JSON list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.tokens.count import NOTHING, Count, fitted
from gpt_batch_api.tokens.models import Model
from gpt_batch_api.tokens.text import compact_json


@dataclass(frozen=True)
class Call:
    """A tool's name and the arguments as the model wrote them."""

    name: str
    arguments: str


def read_calls(message: Mapping[str, Any]) -> list[Call]:
    """The calls of an assistant message, in the present form or the old one (`function_call`)."""
    tool_calls = message.get("tool_calls")
    listed = tool_calls if isinstance(tool_calls, list) else []
    old = message.get("function_call")
    return [_call(call) for call in ([*listed, {"function": old}] if isinstance(old, Mapping) else listed)]


def count_call(call: Call, *, model: Model, overhead: int) -> Count:
    """A call alone, its arguments as they are."""
    return fitted(model.n(call.arguments) + model.n(f"functions.{call.name}") - 1 + overhead)


def count_chat_calls(calls: Sequence[Call], results: Sequence[str], *, model: Model) -> Count:
    """The calls of one assistant message and the texts that answered them."""
    if not calls:
        return NOTHING
    if len(calls) > 1:
        return fitted(model.n(_parallel_text(calls)) + _results_tokens(results, model) + model.dialect.parallel_calls)
    call = Call(calls[0].name, _compacted(calls[0].arguments))
    answers = sum(model.n(result) + model.n(call.name) for result in results)
    return count_call(call, model=model, overhead=model.dialect.chat_call) + fitted(answers)


def _call(call: Any) -> Call:
    inner = call.get("function") or call.get("custom") if isinstance(call, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else {}
    name, arguments = inner.get("name"), inner.get("arguments", inner.get("input"))
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else compact_json(arguments)
    return Call(name if isinstance(name, str) else "", arguments)


def _parallel_text(calls: Sequence[Call]) -> str:
    uses = [{"recipient_name": f"functions.{call.name}", "parameters": _parsed(call.arguments)} for call in calls]
    return compact_json({"tool_uses": uses})


def _results_tokens(results: Sequence[str], model: Model) -> int:
    """The answers as one JSON list, with blanks and escapes, each parsed first if it is JSON itself."""
    return model.n(json.dumps([_parsed(result) for result in results]))


def _compacted(text: str) -> str:
    """*text* without blanks if it is JSON, else as it is."""
    value = _parsed(text)
    return text if value is text else compact_json(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
