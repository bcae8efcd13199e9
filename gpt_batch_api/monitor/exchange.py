"""A direct request and its answer as text for people, for `direct_verbose` and for dry runs.

No word of a text is left out. What nobody can read is replaced by its size: pictures, sound and files by
`<image/png, 12,345 bytes>`, vectors by `<embedding of 1,536 numbers>`. Whatever has no known form is shown as JSON, so
no payload or reply, however odd, is refused. Nothing that a text contains can steer the terminal.

A body is first read into sections (a heading and a text) and then painted, so reading knows nothing of colours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_to_bytes

from gpt_batch_api.domain.outcome import Outcome, Usage, Verdict
from gpt_batch_api.domain.words import count
from gpt_batch_api.pricing.cost import dollars

_INDENT = "  "
_INLINE = 60
"""A parameter that is longer gets lines of its own."""

_RESET, _BOLD, _DIM = "\033[0m", "\033[1m", "\033[2m"
_RED, _GREEN, _YELLOW, _CYAN = "\033[31m", "\033[32m", "\033[33m", "\033[1;36m"
_VERDICT_COLOURS = {
    Verdict.SUCCESS: _GREEN,
    Verdict.RETRYABLE: _YELLOW,
    Verdict.FREE: _YELLOW,
    Verdict.FATAL: _RED,
    Verdict.ACCOUNT: _RED,
}

# Control characters but newline and tab, marks that turn the direction of writing, halves of character pairs.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+=*\s*")

_TEXT_PARTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_MEDIA_PARTS = ("image_url", "input_image", "input_audio", "file", "input_file", "image", "audio")
_MEDIA_KEYS = ("url", "image_url", "file_url", "data", "file_data")
_SECTIONS_OF_A_REQUEST = ("model", "messages", "input", "instructions")


@dataclass(frozen=True)
class Section:
    """A heading, a note beside it, and the text below it; None where there is nothing to say below."""

    title: str
    text: str | None = None
    note: str = ""
    colour: str = _CYAN


def request_text(key: str, body: Mapping[str, Any], *, endpoint: str, colour: bool) -> str:
    """Show the payload *body* of request *key* as it goes to *endpoint*."""
    fields = _mapping(body)
    header = ("Request", key, _word(fields.get("model")), endpoint)
    return _paint(header, _request_sections(body, endpoint), footer="", colour=colour)


def answer_text(
    key: str,
    body: Mapping[str, Any] | None,
    *,
    endpoint: str,
    outcome: Outcome,
    usage: Usage,
    cost_pico: int | None,
    took_s: float | None,
    colour: bool,
) -> str:
    """Show what came back for request *key*: what is thought of it, its words, and what it took.

    *body* is the reply or the error as the server sent it, None where none came. *took_s* is None where nobody knows.
    """
    header = ("Answer", key, _word(_mapping(body).get("model")), endpoint)
    reason = "" if outcome.reason in ("", "ok") else f": {outcome.reason}"
    tone = _VERDICT_COLOURS.get(outcome.verdict, _YELLOW)
    verdict = Section(f"{outcome.verdict}{reason}", outcome.message or None, colour=tone)
    cost = "cost unknown" if cost_pico is None else dollars(cost_pico)
    took = "" if took_s is None else f" · {took_s:,.2f} s"
    footer = f"{_usage_words(usage)} · {cost}{took}"
    return _paint(header, [verdict, *_answer_sections(body)], footer=footer, colour=colour)


def without_bytes(value: Any) -> Any:
    """*value*, a JSON document, with sizes in the place of pictures, sound, files and vectors."""
    return _sized("", value, {})


# ------------------------------------------------------------ what a request says


def _request_sections(body: Any, endpoint: str) -> Iterator[Section]:
    if not isinstance(body, Mapping):
        yield Section("payload", _pretty(body))
        return
    short, long = _parameters(body)
    if short:
        yield Section("parameters", note=", ".join(short), colour=_DIM)
    if body.get("instructions") is not None:
        yield Section("instructions", _content(body["instructions"]))
    if "messages" in body:
        yield from _items(body["messages"], "messages")
    if "input" in body:
        yield from _inputs(body["input"]) if endpoint.endswith("/embeddings") else _items(body["input"], "input")
    yield from long


def _parameters(body: Mapping[str, Any]) -> tuple[list[str], list[Section]]:
    """Everything that is no message: short values in a row, long ones in sections of their own."""
    short, long = [], []
    for name, value in body.items():
        if name in _SECTIONS_OF_A_REQUEST:
            continue
        brief = _compact(value)
        if len(brief) <= _INLINE:
            short.append(f"{name}={brief}")
        else:
            long.append(Section(str(name), value if isinstance(value, str) else _pretty(value)))
    return short, long


def _inputs(given: Any) -> Iterator[Section]:
    """The texts of an embeddings request; numbers are one text in tokens."""
    if isinstance(given, str):
        yield Section("input", given)
        return
    numbers = isinstance(given, list) and all(isinstance(entry, int) for entry in given)
    if not isinstance(given, list) or numbers:
        yield Section("input", _compact(given))
        return
    for number, entry in enumerate(given, start=1):
        yield Section(f"input {number} of {len(given)}", entry if isinstance(entry, str) else _compact(entry))


# ------------------------------------------------------------ what an answer says


def _answer_sections(body: Any) -> Iterator[Section]:
    if body is None:
        yield Section("no reply", colour=_RED)
        return
    fields = _mapping(body)
    facts = {name: fields.get(name) for name in ("id", "status", "service_tier", "system_fingerprint")}
    told = [f"{name}={_compact(value)}" for name, value in facts.items() if value is not None]
    if told:
        yield Section("reply", note=", ".join(told), colour=_DIM)
    known = False
    for name, colour in (("error", _RED), ("incomplete_details", _YELLOW)):
        if fields.get(name):
            known = True
            yield Section(name, _pretty(fields[name]), colour=colour)
    if isinstance(fields.get("choices"), list):
        yield from _choices(fields["choices"])
    elif isinstance(fields.get("output"), list):
        yield from _items(fields["output"], "output", answer=True)
    elif isinstance(fields.get("data"), list):
        yield Section("embeddings", "\n".join(map(_vector, fields["data"])))
    elif not known:
        yield Section("body", body if isinstance(body, str) else _pretty(body))


def _choices(choices: list[Any]) -> Iterator[Section]:
    if not choices:
        yield Section("choices", "", colour=_RED)
    for number, choice in enumerate(choices, start=1):
        if not isinstance(choice, Mapping) or not isinstance(choice.get("message"), Mapping):
            yield Section(f"choice {number}", _pretty(choice))
            continue
        notes = [f"choice {number} of {len(choices)}"] if len(choices) > 1 else []
        if choice.get("finish_reason") is not None:
            notes.append(f"finish_reason {_word(choice['finish_reason'])}")
        yield from _message(choice["message"], answer=True, notes=notes)
        yield from _rest(choice, known=("index", "message", "finish_reason"))


def _vector(entry: Any) -> str:
    vector = _mapping(entry).get("embedding")
    if vector is None:
        return _pretty(entry)
    return f"{_word(entry.get('index'))}: {_size_of_vector(vector) or _compact(vector, key='embedding')}"


# ------------------------------------------------------------ messages and other items


def _items(items: Any, name: str, *, answer: bool = False) -> Iterator[Section]:
    """The messages of Chat Completions, or the mixed items of Responses; a plain text is what the user says."""
    if isinstance(items, str):
        yield Section("user", items)
    elif not isinstance(items, list | tuple):
        yield Section(name, _pretty(items))
    elif not items:
        yield Section(name, "", colour=_RED)
    else:
        for item in items:
            yield from _item(item, answer=answer)


def _item(item: Any, *, answer: bool) -> Iterator[Section]:
    kind = item.get("type", "message") if isinstance(item, Mapping) else None
    if kind == "function_call" or kind == "custom_tool_call":
        yield _call(item)
    elif kind == "function_call_output" or kind == "custom_tool_call_output":
        yield Section("tool", _content(item.get("output")), note=_word(item.get("call_id")))
    elif kind == "reasoning":
        yield Section("reasoning", _content([*_list(item.get("summary")), *_list(item.get("content"))]))
    elif kind == "message" and ("role" in item or "content" in item):
        yield from _message(item, answer=answer)
    else:
        yield Section(_word(kind) or "item", _pretty(item))


def _message(message: Mapping[str, Any], *, answer: bool, notes: Sequence[str] = ()) -> Iterator[Section]:
    """What somebody says, calls and refuses; keys that are not known follow."""
    names = ("name", "tool_call_id", "phase")
    told = [*notes, *(f"{name} {_word(message[name])}" for name in names if message.get(name) is not None)]
    if message.get("status") not in (None, "completed"):
        told.append(f"status {_word(message['status'])}")
    content = message.get("content")
    text = None if content is None else _content(content, answer=answer)
    yield Section(_word(message.get("role")) or "message", text, note=", ".join(told))
    for call in _list(message.get("tool_calls")):
        yield _call(call)
    if message.get("refusal"):
        refusal = message["refusal"]
        yield Section("refusal", refusal if isinstance(refusal, str) else _pretty(refusal), colour=_RED)
    listed = ("tool_calls",) if isinstance(message.get("tool_calls"), list) else ()
    known = ("id", "type", "role", "content", "refusal", "status", *names, *listed)
    yield from _rest(message, known=known)


def _call(call: Any) -> Section:
    """A call of a function, whose arguments are a JSON text, or of a custom tool, whose input is any text."""
    fields = _mapping(call)
    inner = next((fields[kind] for kind in ("function", "custom") if isinstance(fields.get(kind), Mapping)), fields)
    given = inner.get("arguments", inner.get("input"))
    if not isinstance(given, str) or not isinstance(inner.get("name"), str):
        return Section("calls", _pretty(call))
    return Section(f"calls {inner['name']}", _readable(given), note=_word(fields.get("call_id") or fields.get("id")))


def _rest(fields: Mapping[str, Any], *, known: Iterable[str]) -> Iterator[Section]:
    """What else is there: everything but what is known or empty."""
    for name, value in fields.items():
        if name in known or not value:
            continue
        tokens = value.get("content") if name == "logprobs" and isinstance(value, Mapping) else None
        if isinstance(tokens, list):
            yield Section("logprobs", note=f"of {count(len(tokens), 'token')}")
        else:
            yield Section(str(name), value if isinstance(value, str) else _pretty(value))


def _content(content: Any, *, answer: bool = False) -> str:
    """The text of a message, whose parts begin on lines of their own."""
    if isinstance(content, str):
        return _readable(content) if answer else content
    if isinstance(content, list | tuple):
        return "\n".join(_part(part, answer=answer) for part in content)
    return _pretty(content)


def _part(part: Any, *, answer: bool) -> str:
    fields = _mapping(part)
    kind = fields.get("type")
    others = {name for name, value in fields.items() if name not in ("type", "text", "refusal") and value}
    if kind in _TEXT_PARTS and isinstance(fields.get("text"), str):
        text = _readable(fields["text"]) if answer else str(fields["text"])
        return "\n".join([text, *(f"{name}: {_compact(fields[name])}" for name in sorted(others, key=str))])
    if kind == "refusal" and isinstance(fields.get("refusal"), str) and not others:
        return f"refusal: {fields['refusal']}"
    if kind in _MEDIA_PARTS:
        return _media(kind, fields)
    return part if isinstance(part, str) else _pretty(part)


def _media(kind: str, part: Mapping[str, Any]) -> str:
    """One line: what kind of thing it is, where or how large, and with which options."""
    inner = part.get(kind)
    fields = {name: value for name, value in part.items() if name != "type" and value is not None}
    if isinstance(inner, Mapping):
        fields = {**{name: value for name, value in fields.items() if name != kind}, **inner}
    things, options = [], []
    for name, value in fields.items():
        if name in _MEDIA_KEYS and isinstance(value, str):
            things.append(_size_of_text(name, value, fields))
        else:
            options.append(f"{name}={_compact(value, key=str(name))}")
    label = kind.removeprefix("input_").removesuffix("_url")
    return " ".join([f"{label}:", *things, *([f"({', '.join(options)})"] if options else [])])


# ------------------------------------------------------------ JSON and bytes


def _pretty(value: Any) -> str:
    """*value* as JSON on many lines, without bytes."""
    return _dump(value, key="", indent=2)


def _compact(value: Any, *, key: str = "") -> str:
    """*value* as JSON on one line, without bytes; short words need no quotes. *key* is the name it has."""
    if isinstance(value, str):
        shown = _size_of_text(key, value, {})
        if shown and not shown.isdigit() and not _UNSAFE_IN_LINE.search(shown):
            return shown
    return _dump(value, key=key, indent=None)


def _dump(value: Any, *, key: str, indent: int | None) -> str:
    try:
        return json.dumps(_sized(key, value, {}), ensure_ascii=False, indent=indent, default=repr)
    except (RecursionError, ValueError):
        return "<nested beyond reason>"


def _sized(key: str, value: Any, around: Mapping[Any, Any]) -> Any:
    """*value* with sizes in the place of bytes and vectors. *key* and the fields *around* it tell what it is."""
    if isinstance(value, str):
        return _size_of_text(key, value, around)
    if isinstance(value, Mapping):
        return {str(name): _sized(str(name), entry, value) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        size = _size_of_vector(value) if key == "embedding" else None
        return size or [_sized("", entry, {}) for entry in value]
    return value


def _size_of_vector(value: Any) -> str | None:
    """How long a vector *value* is; None if it is something else."""
    numbers = isinstance(value, list | tuple) and all(isinstance(entry, int | float) for entry in value)
    return f"<embedding of {count(len(value), 'number')}>" if numbers else None


def _size_of_text(key: str, text: str, around: Mapping[Any, Any]) -> str:
    head = _DATA_URL.match(text)
    if head is not None and head[2].lower().endswith(";base64"):
        return _size(head[1] or "text/plain", _decoded_bytes(text, head.end()))
    if head is not None and key in _MEDIA_KEYS:
        return _size(head[1] or "text/plain", len(unquote_to_bytes(text[head.end() :])))
    kind = _kind_of_bytes(key, around)
    if kind is None or not _BASE64.fullmatch(text):
        return text
    size_bytes = _decoded_bytes(text, 0)
    return f"<embedding of {count(size_bytes // 4, 'number')}>" if key == "embedding" else _size(kind, size_bytes)


def _kind_of_bytes(key: str, around: Mapping[Any, Any]) -> str | None:
    """What a base64 text is in the field *key*; None if such a field holds ordinary text."""
    if key == "data" and ("format" in around or "transcript" in around):
        return f"audio/{_word(around['format'])}" if around.get("format") else "audio"
    if key == "result" and around.get("type") == "image_generation_call":
        return "image"
    return {"file_data": "file", "b64_json": "image", "embedding": "embedding", "encrypted_content": "encrypted"}.get(
        key
    )


def _decoded_bytes(text: str, start: int) -> int:
    """How many bytes the base64 in *text* from *start* on stands for."""
    idle = sum(text.count(sign, start) for sign in "=\n\r\t ")
    return (len(text) - start - idle) * 3 // 4


def _size(kind: str, size_bytes: int) -> str:
    return f"<{kind}, {count(size_bytes, 'byte')}>"


def _readable(text: str) -> str:
    """*text* on many lines if it is a JSON document that keeps its meaning so, else as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        value = json.loads(text, object_pairs_hook=_no_doubles, parse_float=_exact, parse_constant=_no_constant)
        return json.dumps(value, ensure_ascii=False, indent=2)
    except (ValueError, ArithmeticError, RecursionError):
        return text


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key twice")
    return fields


def _exact(digits: str) -> float:
    value = float(digits)
    if Decimal(repr(value)) != Decimal(digits):
        raise ValueError("more digits than a number keeps")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _word(value: Any) -> str:
    """*value* within a line; nothing for None."""
    return "" if value is None else value if isinstance(value, str) else _compact(value)


def _usage_words(usage: Usage) -> str:
    given = {"cached": usage.cached_tokens, "written to the cache": usage.cache_write_tokens}
    parts = ", ".join(f"{number:,} {what}" for what, number in given.items() if number)
    words = count(usage.input_tokens, "input token") + (f" ({parts})" if parts else "")
    thought = f" ({usage.reasoning_tokens:,} reasoning)" if usage.reasoning_tokens else ""
    return f"{words}, {count(usage.output_tokens, 'output token')}{thought}"


# ------------------------------------------------------------ paint


def _paint(header: tuple[str, str, str, str], sections: Iterable[Section], *, footer: str, colour: bool) -> str:
    """Lay out a page: the header, each section with its text indented, the footer."""
    what, key, *others = header
    words = "".join(f" · {_line(other)}" for other in others if other)
    lines = [_coloured(f"── {what} {_line(key)}", _BOLD, colour) + _coloured(words, _DIM, colour)]
    for section in sections:
        note = _coloured(f"  {_line(section.note)}", _DIM, colour) if section.note else ""
        lines.append(_coloured(f"[{_line(section.title)}]", section.colour, colour) + note)
        if section.text is not None:
            lines.append(_indented(section.text) or _coloured(f"{_INDENT}(empty)", _DIM, colour))
    if footer:
        lines.append(_coloured(footer, _DIM, colour))
    return "\n".join(lines)


def _indented(text: str) -> str:
    """*text* with each of its lines indented, and nothing in it that a terminal would obey."""
    safe = _UNSAFE.sub(_escaped, text)
    return "\n".join(f"{_INDENT}{line}" if line else "" for line in safe.split("\n"))


def _line(text: str) -> str:
    """*text* within one line."""
    return _UNSAFE_IN_LINE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _coloured(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{_RESET}" if colour and text else text
