"""The prompt of a chat completion.

Each message costs its content and a fixed overhead; the reply's primer comes once. Tools and response schema are joined
to the leading system message with blank lines, or stand in a message of their own if there is none. Calls of earlier
turns are counted together with their answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt_batch_api.tokens.calls import count_chat_calls, read_calls
from gpt_batch_api.tokens.content import count_content, count_unknown, split_text
from gpt_batch_api.tokens.count import NOTHING, Count, exact, fitted, guess
from gpt_batch_api.tokens.models import Model
from gpt_batch_api.tokens.schemas_cost import SchemaText, response_schema
from gpt_batch_api.tokens.tools import Tools, count_tool_choice, read_tools

_LEADING = ("system", "developer")
_ANSWERS = ("tool", "function")


def count_chat(body: Mapping[str, Any], *, model: Model) -> Count:
    """Tokens of the prompt of the chat completion request *body*. `TypeError` if it has no list of messages."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise TypeError("messages is no list")
    tools = read_tools(body, model=model)
    schema = response_schema(body.get("response_format"))
    schema_extra = _schema_extra(schema, model=model)
    leading = messages[:1] if messages and _role(messages[0]) in _LEADING else []
    total = exact(model.dialect.chat_primer) + tools.others
    if leading or tools.rendered or schema:
        total += _leading_message(leading, tools, schema, schema_extra=schema_extra, model=model)
    if tools.rendered:
        total += count_tool_choice(body, tools, model=model, chat=True)
    answer_extra = model.dialect.earlier_assistant + schema_extra
    return total + _history(messages[len(leading) :], answer_extra=answer_extra, model=model)


def _schema_extra(schema: SchemaText | None, *, model: Model) -> int:
    """What a response schema costs beside its text, and again with each earlier answer."""
    if schema is None:
        return 0
    return model.dialect.chat_schema + (model.n_shared(schema.name) if model.dialect.chat_schema_named else 0)


def _leading_message(
    leading: Sequence[Any], tools: Tools, schema: SchemaText | None, *, schema_extra: int, model: Model
) -> Count:
    """The first message: system text, tools and response schema as one text."""
    dialect = model.dialect
    text, others = split_text(leading[0].get("content")) if leading else ("", [])
    sections = [text] if leading else []
    tokens, counted = dialect.message, exact
    if tools.rendered:
        sections.append(f"# Tools\n\n## functions\n\n{tools.rendered}")
        tokens, counted = tokens + dialect.chat_tools, fitted
    if schema:
        sections.append(schema.text)
        tokens += dialect.chat_tools_with_schema if tools.rendered else schema_extra
    header = dialect.instructions_header if leading and len(sections) > 1 else ""
    total = counted(tokens + model.n_shared(header + "\n\n".join(sections)))
    total += _name(leading[0], model=model) if leading else NOTHING
    return total + count_content(others, model=model, chat=True) if others else total


def _history(messages: Sequence[Any], *, answer_extra: int, model: Model) -> Count:
    """All messages after the leading one. *answer_extra*: what each earlier answer costs more than another message."""
    plain, total, place = 0, NOTHING, 0
    while place < len(messages):
        message = messages[place]
        place += 1
        tokens = _plain_tokens(message, answer_extra, model)
        if tokens is not None:
            plain += tokens
            continue
        calls = read_calls(message) if _role(message) == "assistant" else []
        if not calls:
            total += _message(message, answer_extra=answer_extra, model=model)
            continue
        end = place
        while end < len(messages) and _role(messages[end]) in _ANSWERS:
            end += 1
        total += _turn(message, messages[place:end], model=model) + count_chat_calls(
            calls, [split_text(answer.get("content"))[0] for answer in messages[place:end]], model=model
        )
        place = end
    return total + exact(plain)


def _plain_tokens(message: Any, answer_extra: int, model: Model) -> int | None:
    """Tokens of a message that is a role and a text and nothing else, as most are; None for any other."""
    if type(message) is not dict or len(message) != 2 or "role" not in message:
        return None
    content = message.get("content")
    if not isinstance(content, str):
        return None
    extra = answer_extra if message["role"] == "assistant" else 0
    return model.dialect.message + extra + model.n(content)


def _turn(message: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], *, model: Model) -> Count:
    """What stands beside the calls: the text of the calling message, a message of its own, and pictures in answers."""
    total = NOTHING
    if split_text(message.get("content"))[0]:
        total += _message(message, answer_extra=model.dialect.earlier_assistant, model=model)
    for answer in answers:
        _, others = split_text(answer.get("content"))
        total += count_content(others, model=model, chat=True)
    return total


def _message(message: Any, *, answer_extra: int, model: Model) -> Count:
    """One message of its own, whatever its role."""
    if not isinstance(message, Mapping):
        return count_unknown(message, "message that is no object", model=model)
    total = count_content(message.get("content"), model=model, chat=True) + exact(model.dialect.message)
    if message.get("role") == "assistant":
        total += exact(answer_extra) + _answer_parts(message, model=model)
    return total + _name(message, model=model)


def _answer_parts(message: Mapping[str, Any], *, model: Model) -> Count:
    """What an earlier answer carries beside its content."""
    total = NOTHING
    if isinstance(message.get("refusal"), str):
        total += exact(model.n(message["refusal"]))
    if message.get("audio"):
        total += guess(0, "earlier audio answer by id: its length is unknown, counted as 0 tokens")
    return total


def _name(message: Mapping[str, Any], *, model: Model) -> Count:
    name = message.get("name")
    return exact(model.n(f":{name}")) if isinstance(name, str) and name else NOTHING


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None
