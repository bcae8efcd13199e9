"""The prompt of a Responses request.

`instructions` is a leading system message, an `input` string one user message; otherwise `input` is a list of items.
What only the server knows (stored prompts, earlier responses, reasoning kept there) is a lower bound and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt_batch_api.tokens.calls import Call, count_call
from gpt_batch_api.tokens.content import count_content, count_unknown
from gpt_batch_api.tokens.count import NOTHING, Count, exact, fitted, guess
from gpt_batch_api.tokens.models import Model, drifting
from gpt_batch_api.tokens.schemas_cost import response_schema
from gpt_batch_api.tokens.text import compact_json
from gpt_batch_api.tokens.tools import count_tool_choice, read_tools

_CALLS = ("function_call", "custom_tool_call")
_ANSWERS = ("function_call_output", "custom_tool_call_output")
_ON_THE_SERVER = {
    "previous_response_id": "previous_response_id: the earlier turns are unknown, counted as 0 tokens",
    "conversation": "conversation: the earlier turns are unknown, counted as 0 tokens",
    "prompt": "stored prompt: its text is unknown, counted as 0 tokens",
}


def count_responses(body: Mapping[str, Any], *, model: Model) -> Count:
    """Tokens of the prompt of the Responses request *body*. `TypeError` if its input is neither text nor a list."""
    dialect = model.dialect
    total = exact(dialect.responses_primer)
    for key, note in _ON_THE_SERVER.items():
        if body.get(key):
            total += guess(0, note)
    if isinstance(body.get("instructions"), str) and body["instructions"]:
        total += exact(dialect.message + model.n_shared(body["instructions"]))
    total += _count_input(body.get("input"), model=model, kept=body.get("store") is not False)
    tools = read_tools(body, model=model)
    total += tools.others
    if tools.rendered:
        total += fitted(dialect.responses_tools + model.n_shared(tools.rendered))
        total += count_tool_choice(body, tools, model=model, chat=False)
    if body.get("context_management"):
        total += fitted(drifting("context_management"))
    text = body.get("text")
    schema = response_schema(text.get("format")) if isinstance(text, Mapping) else None
    if schema:
        total += exact(dialect.responses_schema + model.n_shared(schema.text))
    reasoning = body.get("reasoning")
    if dialect.pro_mode and isinstance(reasoning, Mapping) and reasoning.get("mode") == "pro":
        total += guess(dialect.pro_mode, f"reasoning mode pro: about {dialect.pro_mode} tokens")
    return total


def _count_input(items: Any, *, model: Model, kept: bool) -> Count:
    """Tokens of the value of `input`. *kept*: the server keeps what it answered, calls too."""
    if items is None:
        return NOTHING
    if isinstance(items, str):
        return exact(model.dialect.message + model.n(items))
    if not isinstance(items, list):
        raise TypeError("input is neither text nor a list")
    items = [item if isinstance(item, Mapping) else {"content": item} for item in items]
    last_question = max((place for place, item in enumerate(items) if item.get("role") == "user"), default=-1)
    names = {str(item.get("call_id")): str(item.get("name")) for item in items if item.get("type") in _CALLS}
    total = NOTHING
    for place, item in enumerate(items):
        if item.get("type") == "reasoning":
            total += _reasoning(item) if place > last_question else NOTHING
        elif item.get("type") in _CALLS:
            total += _call(items, place, model=model, kept=kept)
        else:
            total += _item(item, names, model=model)
    return total


def _item(item: Mapping[str, Any], names: Mapping[str, str], *, model: Model) -> Count:
    dialect, kind = model.dialect, item.get("type")
    if kind in ("message", None):
        overhead = dialect.message + (dialect.earlier_assistant if item.get("role") == "assistant" else 0)
        return count_content(item.get("content"), model=model, chat=False) + exact(overhead)
    if kind in _ANSWERS:
        name = names.get(str(item.get("call_id")), "")
        return count_content(item.get("output"), model=model, chat=False) + fitted(model.n(name))
    if kind == "item_reference":
        return guess(0, "item by reference: its content is unknown, counted as 0 tokens")
    return count_unknown(item, f"input item of type {kind!r}", model=model)


def _call(items: Sequence[Mapping[str, Any]], place: int, *, model: Model, kept: bool) -> Count:
    """A call, with the overhead of its answer; one that the server kept itself costs a little more if it is alone."""
    item = items[place]
    arguments = item.get("arguments", item.get("input"))
    arguments = arguments if isinstance(arguments, str) else compact_json(arguments)
    alone = all(items[near].get("type") not in _CALLS for near in (place - 1, place + 1) if 0 <= near < len(items))
    stored = model.dialect.stored_call if kept and item.get("id") and alone else 0
    return count_call(
        Call(str(item.get("name")), arguments), model=model, overhead=model.dialect.responses_call + stored
    )


def _reasoning(item: Mapping[str, Any]) -> Count:
    """Reasoning that belongs to the turn still open; that of earlier turns is not shown to the model again."""
    hidden = item.get("encrypted_content")
    if not isinstance(hidden, str):
        return guess(0, "reasoning kept on the server: its length is unknown, counted as 0 tokens")
    tokens = max(0, len(hidden) - drifting("reasoning_hidden_chars")) / drifting("reasoning_chars_per_token")
    return guess(round(tokens), f"encrypted reasoning: about {round(tokens)} tokens")
