"""Tools of a request: function definitions as one rendered text, everything else as a count.

Chat completions nest a function (`{"type": "function", "function": {…}}`), Responses do not, and the old `functions`
list has no wrapping at all; all three render the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpt_batch_api.tokens.count import NOTHING, Count, fitted, guess
from gpt_batch_api.tokens.models import Model, drifting, load_facts
from gpt_batch_api.tokens.text import LONGEST_KEPT, compact_json
from gpt_batch_api.tokens.typescript import TooLarge, render_functions


@dataclass(frozen=True)
class Tools:
    """The tools of one request.

    `rendered` are the functions as text, `only` is the name of the function if there is one alone (both empty without
    functions), `others` is the cost of everything else.
    """

    rendered: str
    only: str
    others: Count


NO_TOOLS = Tools("", "", NOTHING)
_CUSTOM = "custom tool: the words about its format are approximate"


def read_tools(body: Mapping[str, Any], *, model: Model) -> Tools:
    """Collect the tools of *body*."""
    tools, functions = body.get("tools"), body.get("functions")
    if not tools and not functions:
        return NO_TOOLS
    functions = [*functions] if isinstance(functions, list) else []
    others = NOTHING
    for tool in tools if isinstance(tools, list) else []:
        function = _function(tool)
        if function is not None:
            functions.append(function)
            others += _freedom(tool, model=model)
        else:
            others += _other_tool(tool)
    if not functions:
        return Tools("", "", others)
    return _rendered(functions, others, model=model)


def count_tool_choice(body: Mapping[str, Any], tools: Tools, *, model: Model, chat: bool) -> Count:
    """What it costs to force a call, or to forbid one. Responses turns "required" into the only function there is."""
    choice = body.get("tool_choice", body.get("function_call"))
    if choice is None or choice == "auto":
        return NOTHING
    if choice == "none":
        return fitted(model.dialect.no_call)
    if choice == "required":
        return fitted(model.dialect.required_call) if chat or not tools.only else _forced(tools.only, model=model)
    inner = choice.get("function", choice) if isinstance(choice, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return _forced(name, model=model) if isinstance(name, str) else NOTHING


def _forced(name: str, *, model: Model) -> Count:
    return fitted(model.dialect.forced_call + (model.n(name) if model.dialect.forced_call_named else 0))


def _function(tool: Any) -> Mapping[str, Any] | None:
    """What *tool* defines: a function, or a custom tool, which is a function that takes any text."""
    if not isinstance(tool, Mapping):
        return None
    kind = tool.get("type", "function")
    inner = tool.get(kind, tool) if kind in ("function", "custom") else None
    if not isinstance(inner, Mapping):
        return None
    if kind == "custom":
        return {"name": inner.get("name"), "description": inner.get("description"), "freeform": True}
    return inner


def _freedom(tool: Mapping[str, Any], *, model: Model) -> Count:
    """What a custom tool costs beside its definition: words about its format, and the grammar if it has one."""
    if tool.get("type") != "custom":
        return NOTHING
    inner = tool.get("custom", tool)
    format_ = inner.get("format") if isinstance(inner, Mapping) else None
    grammar = format_.get("grammar", format_) if isinstance(format_, Mapping) else None
    if not isinstance(grammar, Mapping) or not isinstance(grammar.get("definition"), str):
        return guess(drifting("custom_tool"), _CUSTOM)
    words = drifting("custom_grammar")
    return guess(words.get(str(grammar.get("syntax")), words["lark"]) + model.n(grammar["definition"]), _CUSTOM)


def _rendered(functions: list[Any], others: Count, *, model: Model) -> Tools:
    key = compact_json(functions)
    only = str(functions[0].get("name")) if len(functions) == 1 and isinstance(functions[0], Mapping) else ""
    try:
        return Tools(_remembered(key, model.dialect.renderer), only, others)
    except (TooLarge, RecursionError):
        return Tools(key, only, others + guess(0, "tool schema too deep to render: counted as JSON"))


def _remembered(functions: str, style: str) -> str:
    """The rendering; millions of requests share it, so it is remembered unless it is huge."""
    return _render_kept(functions, style) if len(functions) <= LONGEST_KEPT else _render(functions, style)


@lru_cache(maxsize=256)
def _render_kept(functions: str, style: str) -> str:
    return _render(functions, style)


def _render(functions: str, style: str) -> str:
    return render_functions((function for function in json.loads(functions) if isinstance(function, dict)), style=style)


def _other_tool(tool: Any) -> Count:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    tokens = load_facts()["builtin_tools"].get(kind) if isinstance(kind, str) else None
    if tokens is None:
        return guess(0, f"tool of type {kind!r}: its hidden text is unknown, counted as 0 tokens")
    return guess(tokens, f"built-in tool {kind}: about {tokens} tokens, and whatever it reads when it runs")
