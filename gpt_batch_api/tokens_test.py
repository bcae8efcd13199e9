"""Are the token counts right? `python -m gpt_batch_api.tokens_test`

Sends a set of small requests to the configured server (an environment's OPENAI_API_KEY and OPENAI_BASE_URL,
`--client_base_url`, or `--sandbox`) and shows each prediction beside the number of input tokens that the server reports:
green where they are equal, yellow where they are close, red where they are off. All of it costs well under a cent.

The exit code is 1 if a prediction is off or the server does not answer. A prediction that says itself that it is a guess
is shown like the others, but does not count. The sandbox counts tools and pictures only roughly, and says so in its
documentation: there they do not count either.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gpt_batch_api.domain.clock import SystemClock
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.task_manager import exit_code
from gpt_batch_api.tokens.estimate import Sureness, TokenEstimator
from gpt_batch_api.utils import add_settings, make_parser, settings_from_args, wants_color

if TYPE_CHECKING:
    from gpt_batch_api.wire.transport import Transport

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
MODELS = ("gpt-4o-mini", "gpt-5.4-nano")
EMBEDDING_MODEL = "text-embedding-3-small"
CLOSE_SHARE = 0.03
CLOSE_TOKENS = 3
"""A prediction is close if it is off by no more than this share, or by no more than these tokens."""
OUTPUT_TOKENS = 16
TIMEOUT_S = 120.0


class Match(StrEnum):
    """How a prediction fits."""

    EQUAL = "equal"
    CLOSE = "close"
    OFF = "off"
    FAILED = "failed"


COLORS = {Match.EQUAL: "\033[32m", Match.CLOSE: "\033[33m", Match.OFF: "\033[31m", Match.FAILED: "\033[31m"}


@dataclass(frozen=True)
class Case:
    """One request to ask. `rough`: the sandbox counts it roughly."""

    name: str
    endpoint: str
    body: Mapping[str, Any]
    rough: bool = False


@dataclass(frozen=True)
class Finding:
    """What was predicted, and what the server said."""

    case: str
    endpoint: str
    model: str
    predicted: int
    sureness: str
    true: int | None
    match: Match
    counts: bool
    """Whether the exit code depends on it."""
    note: str = ""


# ---------------------------------------------------------------- the requests


def cases(models: Sequence[str], embedding_model: str | None) -> Iterator[Case]:
    """All requests, for each model."""
    for model in models:
        yield from _chat_cases(model)
        yield from _responses_cases(model)
    if embedding_model:
        for name, value in _EMBEDDED.items():
            yield Case(name, EMBEDDINGS, {"model": embedding_model, "input": value})


_TEXT = "The quick brown fox jumps over the lazy dog."
_ODD_TEXT = "Größe, 東京, naïve café — 🦊🏳️‍🌈\n\n\t1234567890  <|endoftext|>"
_PARTS = ["First part of a question.", "And the second: what follows?"]
_EMBEDDED: dict[str, Any] = {
    "one text": _TEXT,
    "several texts": [_TEXT, _ODD_TEXT, "a"],
    "tokens": [101, 2023, 2003, 1037, 3231],
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "emotion": {"type": "string", "enum": ["joy", "anger", "neutral"], "description": "what is felt"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "score": {"type": ["number", "null"]},
    },
    "required": ["emotion", "reasons", "score"],
    "additionalProperties": False,
}
_FUNCTION = {
    "name": "get_weather",
    "description": "Tell the weather of a place.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string", "description": "a town"}, "days": {"type": "integer"}},
        "required": ["place"],
    },
}
_ARGUMENTS = '{"place":"Paris"}'


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _chat_cases(model: str) -> Iterator[Case]:
    def case(name: str, messages: list[dict[str, Any]], *, rough: bool = False, **more: Any) -> Case:
        body = {"model": model, "messages": messages, "max_completion_tokens": OUTPUT_TOKENS, **more}
        return Case(name, CHAT, body, rough)

    yield case("text", _user(_TEXT))
    yield case("odd characters", _user(_ODD_TEXT))
    yield case("system and user", [{"role": "system", "content": "Answer in one word."}, *_user(_TEXT)])
    yield case(
        "developer and name", [{"role": "developer", "content": "Be brief."}, {"name": "ann", **_user(_TEXT)[0]}]
    )
    yield case("parts", _user([{"type": "text", "text": text} for text in _PARTS]))
    turns = [*_user(_TEXT), {"role": "assistant", "content": "And then?"}, *_user("It sleeps.")]
    yield case("several turns", turns)
    wanted = {"type": "json_schema", "json_schema": {"name": "Feeling", "strict": True, "schema": _SCHEMA}}
    yield case("response schema", _user(_TEXT), response_format=wanted)
    yield case("JSON mode", _user("Answer as JSON."), response_format={"type": "json_object"})
    tools = [{"type": "function", "function": _FUNCTION}]
    yield case("tool", _user("What is the weather in Paris?"), rough=True, tools=tools)
    called = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": _ARGUMENTS}}
    talk = [
        *_user("What is the weather in Paris?"),
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny, 21 degrees"},
    ]
    yield case("tool result", talk, rough=True, tools=tools)
    for name, width, height, detail in _PICTURES:
        picture = {"type": "image_url", "image_url": {"url": png_uri(width, height), "detail": detail}}
        yield case(name, _user([{"type": "text", "text": _TEXT}, picture]), rough=True)


def _responses_cases(model: str) -> Iterator[Case]:
    def case(name: str, given: Any, *, rough: bool = False, **more: Any) -> Case:
        body = {"model": model, "input": given, "max_output_tokens": OUTPUT_TOKENS, "store": False, **more}
        return Case(name, RESPONSES, body, rough)

    yield case("text", _TEXT)
    yield case("instructions", _TEXT, instructions="Answer in one word.")
    yield case("several turns", [*_user(_TEXT), {"role": "assistant", "content": "And then?"}, *_user("It sleeps.")])
    wanted = {"format": {"type": "json_schema", "name": "Feeling", "strict": True, "schema": _SCHEMA}}
    yield case("response schema", _TEXT, text=wanted)
    yield case(
        "tool", "What is the weather in Paris?", rough=True, tools=[{"type": "function", "strict": False, **_FUNCTION}]
    )
    for name, width, height, detail in _PICTURES[:2]:
        picture = {"type": "input_image", "image_url": png_uri(width, height), "detail": detail}
        yield case(name, _user([{"type": "input_text", "text": _TEXT}, picture]), rough=True)


_PICTURES = (
    ("small picture", 64, 64, "high"),
    ("low detail", 800, 600, "low"),
    ("large picture", 1500, 900, "high"),
    ("detail by itself", 1024, 1024, "auto"),
)


def png_uri(width: int, height: int) -> str:
    """A blank grey picture of that size as a data URI."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height, 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


# ---------------------------------------------------------------- asking


async def compare(settings: Settings, asked: Sequence[Case]) -> list[Finding]:
    """Ask all of *asked*, one after the other. Raises GPTBatchError if the server refuses the key or cannot be reached."""
    estimator = TokenEstimator()
    async with _server(settings) as (transport, is_sandbox):
        return [await _compare(transport, case, estimator, is_sandbox=is_sandbox) for case in asked]


@asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[tuple[Transport, bool]]:
    """The way to the configured server, and whether it is a sandbox."""
    from gpt_batch_api.sandbox.child import SandboxProcess
    from gpt_batch_api.wire.batches import sandbox_there
    from gpt_batch_api.wire.transport import Server, Transport

    general = settings.general
    with tempfile.TemporaryDirectory() as folder:
        if general.sandbox:
            with SandboxProcess.start(Path(folder) / "sandbox.db") as sandbox:
                transport = Transport(Server("sandbox", sandbox.url), clock=SystemClock())
                yield transport, True
                await transport.close()
            return
        server = Server(
            general.openai_api_key or "", general.client_base_url, general.openai_organization, general.openai_project
        )
        transport = Transport(server, clock=SystemClock())
        try:
            yield transport, bool(await sandbox_there(transport)) if general.client_base_url else False
        finally:
            await transport.close()


async def _compare(transport: Transport, case: Case, estimator: TokenEstimator, *, is_sandbox: bool) -> Finding:
    from gpt_batch_api.domain.errors import Unreachable
    from gpt_batch_api.wire.direct import ask
    from gpt_batch_api.wire.trouble import Lost, NotSent

    counted = estimator.count(endpoint=case.endpoint, body=case.body)
    try:
        reply = await ask(transport, endpoint=case.endpoint, body=json.dumps(case.body).encode(), timeout_s=TIMEOUT_S)
    except (NotSent, Lost) as trouble:
        raise Unreachable(f"The server does not answer: {trouble}") from trouble
    true = _input_tokens(reply.body) if reply.status == 200 else None
    is_guess = counted.sureness is Sureness.GUESS
    note = counted.notes[0] if counted.notes else ""
    if true is None:
        note = f"HTTP {reply.status}: {reply.error}" if reply.status != 200 else "the reply tells no usage"
    elif is_sandbox and case.rough:
        note = "the sandbox counts this roughly"
    return Finding(
        case=case.name,
        endpoint=case.endpoint,
        model=str(case.body["model"]),
        predicted=counted.tokens,
        sureness=str(counted.sureness),
        true=true,
        match=match(counted.tokens, true),
        counts=true is None or not (is_guess or (is_sandbox and case.rough)),
        note=note,
    )


def _input_tokens(body: Mapping[str, Any] | None) -> int | None:
    usage = (body or {}).get("usage")
    found = usage.get("prompt_tokens", usage.get("input_tokens")) if isinstance(usage, dict) else None
    return found if isinstance(found, int) else None


def match(predicted: int, true: int | None) -> Match:
    """How a prediction fits the truth."""
    if true is None:
        return Match.FAILED
    if predicted == true:
        return Match.EQUAL
    near = abs(predicted - true) <= max(CLOSE_TOKENS, CLOSE_SHARE * true)
    return Match.CLOSE if near else Match.OFF


# ---------------------------------------------------------------- showing


def show(found: Sequence[Finding], *, stream: TextIO) -> None:
    """One line for each request, then a sum."""
    color = wants_color(stream)
    print(f"{'endpoint':22}{'model':24}{'request':22}{'predicted':>10}{'true':>8}  ", file=stream)
    for one in found:
        true = "–" if one.true is None else f"{one.true:,}"
        fits = str(one.match) if one.counts else "not judged"
        words = f"{fits} ({one.note})" if one.note else fits
        line = f"{one.endpoint:22}{one.model:24}{one.case:22}{one.predicted:>10,}{true:>8}  "
        shade = COLORS[one.match if one.counts or one.match is Match.EQUAL else Match.CLOSE]
        print(f"{line}{shade}{words}\033[0m" if color else line + words, file=stream)
    sums = {kind: sum(one.match is kind and one.counts for one in found) for kind in Match}
    told = [f"{number} {kind}" for kind, number in sums.items() if number]
    unjudged = sum(not one.counts for one in found)
    print(f"{len(found)} requests: {', '.join(told + [f'{unjudged} not judged'] * bool(unjudged))}", file=stream)


def is_good(found: Sequence[Finding]) -> bool:
    """Whether nothing that counts is off."""
    return not any(one.counts and one.match in (Match.OFF, Match.FAILED) for one in found)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask and show. Returns the exit code."""

    def run() -> int:
        parser = make_parser(
            prog="python -m gpt_batch_api.tokens_test",
            description="Show predicted token counts beside those that the server reports.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--model",
            action="append",
            metavar="NAME",
            help=f"model to ask, may be repeated (default: {', '.join(MODELS)})",
        )
        parser.add_argument(
            "--embedding_model", default=EMBEDDING_MODEL, metavar="NAME", help="model for embeddings; empty: none"
        )
        parser.add_argument("--json", action="store_true", help="print a JSON document instead of lines")
        add_settings(parser, groups=("general",), exclude=("dryrun", "endpoint", "sandbox_plan"))
        arguments = parser.parse_args(argv)
        settings = settings_from_args(arguments, ignore=("model",))
        asked = list(cases(arguments.model or MODELS, arguments.embedding_model))
        found = asyncio.run(compare(settings, asked))
        if arguments.json:
            json.dump([asdict(one) for one in found], sys.stdout, indent=1)
        else:
            show(found, stream=sys.stdout)
        return 0 if is_good(found) else 1

    return exit_code(run)


if __name__ == "__main__":
    raise SystemExit(main())
