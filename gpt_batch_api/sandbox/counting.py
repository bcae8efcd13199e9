"""Count the input tokens of a request body as the service does.

Text and structured outputs are exact; tools, pictures and files are rough, as the documentation says. Never raises: a
malformed part counts nothing, because a body is counted before it is judged.
"""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gpt_batch_api.data import load_encoding
from gpt_batch_api.sandbox.models import encoding_name, is_harmony, is_o_series

if TYPE_CHECKING:
    import tiktoken

_MESSAGE = 4
_PICTURE, _SMALL_PICTURE, _TOOL_FRAME, _CALL_FRAME = 765, 85, 12, 12
_STRIPPED = frozenset(
    (
        "required",
        "additionalProperties",
        "$schema",
        "default",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "pattern",
        "format",
        "multipleOf",
        "uniqueItems",
    )
)
_NAMED_SCHEMAS = ("properties", "$defs", "definitions")
_loading = threading.Lock()


def encoding_for(model: str) -> tiktoken.Encoding:
    """The vocabulary of *model*."""
    return _encoding(encoding_name(model))


def _encoding(name: str) -> tiktoken.Encoding:
    """The vocabulary *name*. Loading takes a second, so the first calls, which come together, share one load."""
    with _loading:
        return load_encoding(name)


def count_text(text: str, model: str) -> int:
    """How many tokens *model* reads in *text*; special tokens count as ordinary text."""
    return _count(text, encoding_name(model))


def cut_text(text: str, tokens: int, *, model: str) -> str:
    """The first *tokens* tokens of *text*."""
    encoding = encoding_for(model)
    return encoding.decode_bytes(encoding.encode_ordinary(text)[: max(tokens, 0)]).decode("utf-8", "ignore")


@lru_cache(maxsize=2048)
def _count(text: str, encoding: str) -> int:
    # Cached, because the system message with its schema is the same in every line of a batch.
    return len(_encoding(encoding).encode_ordinary(text)) if text else 0


def count_chat(body: dict[str, Any]) -> int:
    """The prompt tokens of a Chat Completions body."""
    messages = [message for message in _list(body.get("messages")) if isinstance(message, dict)]
    json_schema = _dict(_dict(body.get("response_format")).get("json_schema"))
    return _count_messages(messages, _text(body.get("model")), layout=json_schema, tools=_list(body.get("tools")))


def count_responses(body: dict[str, Any]) -> int:
    """The input tokens of a Responses body: `instructions` lead as a system message, a text is one user message."""
    model = _text(body.get("model"))
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else _list(given)
    messages = [item for item in items if isinstance(item, dict)]
    if isinstance(body.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    tokens = _count_messages(messages, model, layout={}, tools=_list(body.get("tools")))
    layout = _dict(_dict(body.get("text")).get("format"))
    if layout.get("type") == "json_schema":
        tokens += count_text(_layout_text(layout), model) + (0 if is_harmony(model) else 1)
    return tokens


def count_embeddings(body: dict[str, Any]) -> list[int]:
    """The tokens of each input of an Embeddings body."""
    model = _text(body.get("model"))
    return [count_text(entry, model) if isinstance(entry, str) else len(entry) for entry in embedding_inputs(body)]


def embedding_inputs(body: dict[str, Any]) -> list[str | list[int]]:
    """The inputs of an Embeddings body, whichever of its four forms they have."""
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    entries = _list(given)
    if entries and all(isinstance(entry, int) for entry in entries):
        return [entries]
    return [entry for entry in entries if isinstance(entry, str | list)]


def _count_messages(messages: list[dict[str, Any]], model: str, *, layout: dict[str, Any], tools: list[Any]) -> int:
    harmony = is_harmony(model)
    tokens = 2 if harmony else 3
    schema_text = _layout_text(layout) if layout else ""
    for index, message in enumerate(messages):
        runs, others = _content(message)
        leads = index == 0 and message.get("role") in ("system", "developer")
        if leads and schema_text:
            runs = [*runs[:-1], f"{runs[-1]}\n\n{schema_text}"] if runs else [schema_text]
            schema_text = ""
        tokens += _MESSAGE + sum(count_text(run, model) for run in runs) + others
        if isinstance(message.get("name"), str):
            tokens += count_text(f":{message['name']}", model)
        tokens += _count_calls(message, model)
        if message.get("role") == "assistant":
            tokens += 2 if harmony and not is_o_series(model) else 0
            tokens += 2 + count_text(_text(layout.get("name")), model) if layout else 0
    if schema_text:
        tokens += _MESSAGE + count_text(schema_text, model)
    if layout and not harmony and not tools:
        tokens += 2 + count_text(_text(layout.get("name")), model)
    if tools:
        tokens += _TOOL_FRAME + count_text(json.dumps(tools, separators=(",", ":"), ensure_ascii=False), model)
    return tokens


def _content(message: dict[str, Any]) -> tuple[list[str], int]:
    """The text runs of a message (adjacent parts joined) and the rough cost of everything else in it."""
    content = message.get("content", message.get("output"))
    if isinstance(content, str):
        return [content], 0
    runs: list[str] = []
    others, joined = 0, False
    for part in _list(content):
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            if joined:
                runs[-1] += text
            else:
                runs.append(text)
            joined = True
        elif isinstance(part, dict):
            joined = False
            low = "low" in (part.get("detail"), _dict(part.get("image_url")).get("detail"))
            others += _SMALL_PICTURE if low else _PICTURE
    return runs, others


def _count_calls(message: dict[str, Any], model: str) -> int:
    functions = [_dict(_dict(call).get("function")) for call in _list(message.get("tool_calls"))]
    if message.get("type") == "function_call":
        functions.append(message)
    return sum(
        _CALL_FRAME + count_text(_text(call.get("name")), model) + count_text(_text(call.get("arguments")), model)
        for call in functions
    )


def _layout_text(layout: dict[str, Any]) -> str:
    """How a json_schema format is put before the model."""
    description = layout.get("description")
    note = f"// {description}\n" if isinstance(description, str) and description else ""
    schema = json.dumps(_stripped(layout.get("schema")), separators=(",", ":"), ensure_ascii=False)
    return f"# Response Formats\n\n## {_text(layout.get('name'))}\n\n{note}{schema}"


def _stripped(schema: Any) -> Any:
    """*schema* without the keywords that the model does not see; a property of such a name stays."""
    if isinstance(schema, list):
        return [_stripped(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in _NAMED_SCHEMAS and isinstance(value, dict):
            kept[key] = {entry: _stripped(inner) for entry, inner in value.items()}
        elif not (key in _STRIPPED or (key[:3] in ("min", "max") and key[3:4].isupper())):
            kept[key] = value if key in ("enum", "const") else _stripped(value)
    return kept


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
