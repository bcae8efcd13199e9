"""Requests and answers as people read them: complete, safe for the terminal, sizes instead of bytes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.outcome import SUCCESS, Outcome, Usage, Verdict
from gpt_batch_api.monitor.exchange import answer_text, request_text

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
ANSI = re.compile(r"\033\[[0-9;]*m")
PNG = "data:image/png;base64," + base64.b64encode(bytes(12_345)).decode()


def request(body: Any, *, key: str = "char_é", endpoint: str = CHAT, colour: bool = False) -> str:
    return request_text(key, body, endpoint=endpoint, colour=colour)


def answer(
    body: Mapping[str, Any] | None,
    *,
    endpoint: str = CHAT,
    outcome: Outcome = SUCCESS,
    usage: Usage = Usage(),
    cost_pico: int = 0,
    took_s: float = 1.234,
    colour: bool = False,
) -> str:
    return answer_text(
        "char_é",
        body,
        endpoint=endpoint,
        outcome=outcome,
        usage=usage,
        cost_pico=cost_pico,
        took_s=took_s,
        colour=colour,
    )


def chat(content: Any, **more: Any) -> dict[str, Any]:
    """A chat body in which the user says *content*."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], **more}


def chat_reply(message: dict[str, Any], *, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat answer with one choice."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}, **more}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini-2024", "choices": [choice]}


# ------------------------------------------------------------ requests


def test_a_chat_request_reads_like_a_page() -> None:
    """Header, parameters, each message under its role."""
    body = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are brief.\nAnd kind."},
            {"role": "user", "name": "Ann", "content": "Hello\n\n  indented"},
        ],
        "temperature": 0.2,
        "max_completion_tokens": 100,
        "service_tier": "flex",
    }
    assert request(body).split("\n") == [
        "── Request char_é · gpt-4o-mini · /v1/chat/completions",
        "[parameters]  temperature=0.2, max_completion_tokens=100, service_tier=flex",
        "[system]",
        "  You are brief.",
        "  And kind.",
        "[user]  name Ann",
        "  Hello",
        "",
        "    indented",
    ]


def test_a_schema_and_tools_are_pretty_json() -> None:
    """After the messages, whole."""
    schema = {"type": "object", "properties": {"é": {"type": "string", "description": "A letter. " * 20}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "Answer", "strict": True, "schema": schema}}
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": schema}}]
    text = request(chat("x", response_format=wanted, tools=tools))
    for title, value in (("response_format", wanted), ("tools", tools)):
        shown = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        assert f"[{title}]\n  {shown}" in text


def test_tool_calls_and_their_results_are_shown() -> None:
    """Arguments as pretty JSON, results under the tool."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word":"é"}'}}
    messages = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "found"},
    ]
    text = request({"model": "m", "messages": messages})
    assert '[assistant]\n[calls look_up]  call_1\n  {\n    "word": "é"\n  }\n' in text
    assert "[tool]  tool_call_id call_1\n  found" in text


def test_a_responses_request_reads_the_same_way() -> None:
    """Instructions, a text or mixed items."""
    assert "[instructions]\n  Be brief.\n[user]\n  Hello" in request(
        {"model": "m", "instructions": "Be brief.", "input": "Hello"}, endpoint=RESPONSES
    )
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]},
        {"type": "function_call", "call_id": "call_9", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_9", "output": "seen"},
        {"type": "item_reference", "id": "rs_1"},
    ]
    text = request({"model": "m", "input": items, "text": {"verbosity": "low"}}, endpoint=RESPONSES)
    assert "[user]\n  one\n  two\n[calls look]  call_9\n  {}\n[tool]  call_9\n  seen\n[item_reference]\n" in text
    assert '[parameters]  text={"verbosity": "low"}' in text


def test_an_embeddings_request_shows_its_texts() -> None:
    """One, several, or tokens."""
    assert "[input]\n  Hello\n  you" in request({"model": "m", "input": "Hello\nyou"}, endpoint=EMBEDDINGS)
    text = request({"model": "m", "input": ["a", [1, 2]], "dimensions": 8}, endpoint=EMBEDDINGS)
    assert text.endswith("[parameters]  dimensions=8\n[input 1 of 2]\n  a\n[input 2 of 2]\n  [1, 2]")
    assert "[input]\n  [1, 2, 3]" in request({"model": "m", "input": [1, 2, 3]}, endpoint=EMBEDDINGS)


BYTES = base64.b64encode(b"x" * 1000).decode()


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"type": "image_url", "image_url": {"url": PNG}}, "image: <image/png, 12,345 bytes>"),
        (
            {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
            "image: <image/png, 12,345 bytes> (detail=high)",
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://host/a.png", "detail": "low"}},
            "image: https://host/a.png (detail=low)",
        ),
        ({"type": "input_image", "image_url": PNG, "detail": "low"}, "image: <image/png, 12,345 bytes> (detail=low)"),
        ({"type": "input_image", "file_id": "file-1"}, "image: (file_id=file-1)"),
        (
            {"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}},
            "audio: <audio/wav, 1,000 bytes> (format=wav)",
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{BYTES}"}},
            "file: <application/pdf, 1,000 bytes> (filename=a.pdf)",
        ),
        ({"type": "file", "file": {"file_data": BYTES}}, "file: <file, 1,000 bytes>"),
        (
            {"type": "input_file", "filename": "b.pdf", "file_data": f"data:application/pdf;base64,{BYTES}"},
            "file: <application/pdf, 1,000 bytes> (filename=b.pdf)",
        ),
        ({"type": "input_file", "file_url": "https://host/b.pdf"}, "file: https://host/b.pdf"),
        (
            {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg%2F%3E"}},
            "image: <image/svg+xml, 6 bytes>",
        ),
    ],
)
def test_bytes_are_shown_as_their_size(part: dict[str, Any], shown: str) -> None:
    """With everything that is said beside them."""
    lines = request(chat([{"type": "text", "text": "What is this?"}, part])).split("\n")
    assert lines[-2:] == ["  What is this?", f"  {shown}"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 999, 1000])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_size_is_that_of_the_bytes(size: int, wrapped: bool) -> None:
    """Whatever the padding, in lines or not."""
    packed = base64.encodebytes(bytes(size)) if wrapped else base64.b64encode(bytes(size))
    part = {"type": "input_image", "image_url": f"data:image/png;base64,{packed.decode()}"}
    noun = "byte" if size == 1 else "bytes"
    assert f"<image/png, {size:,} {noun}>" in request({"model": "m", "input": [{"role": "user", "content": [part]}]})


def test_bytes_are_found_in_unknown_forms_too() -> None:
    """Anywhere in the JSON that is shown in their place."""
    text = request(chat("x", made_up={"deep": [{"picture": PNG, "note": "kept " * 30}]}))
    assert "<image/png, 12,345 bytes>" in text
    assert "AAAA" not in text
    assert "kept " * 30 in text


def test_no_text_is_cut() -> None:
    """However long it is, even if it looks like something else."""
    words = " ".join(f"word{number}" for number in range(50_000))
    for text in (words, PNG, f"data: {words}", "data:a,b"):
        assert request(chat(text)).endswith(f"[user]\n  {text}")


# ------------------------------------------------------------ answers


def test_an_answer_says_what_it_is_and_what_it_took() -> None:
    """Verdict, words, tokens, cost, time."""
    text = answer(
        chat_reply({"content": "Hello\nyou", "refusal": None}),
        usage=Usage(input_tokens=2006, cached_tokens=1920, output_tokens=300, reasoning_tokens=128),
        cost_pico=12_500_000_000,
    )
    assert text.split("\n") == [
        "── Answer char_é · gpt-4o-mini-2024 · /v1/chat/completions",
        "[success]",
        "[reply]  id=chatcmpl-1",
        "[assistant]  finish_reason stop",
        "  Hello",
        "  you",
        "2,006 input tokens (1,920 cached), 300 output tokens (128 reasoning) · $0.013 · 1.23 s",
    ]


def test_a_json_answer_is_pretty() -> None:
    """With its characters written out."""
    assert '  {\n    "a": "é",\n    "b": [\n      1\n    ]\n  }\n' in answer(
        chat_reply({"content": '{"a":"\\u00e9","b":[1]}'})
    )


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": 0.1000000000000000055511151231257827}', '{"a": NaN}', '{"a": ', "[1] or [2]"]
)
def test_an_answer_that_pretty_json_would_change_is_left_as_it_is(text: str) -> None:
    """Doubled keys, more digits than a number keeps, no JSON at all."""
    assert f"  {text}\n" in answer(chat_reply({"content": text}))


def test_a_prompt_is_never_made_pretty() -> None:
    """It is shown as it is sent."""
    assert request(chat('{"a":1}')).endswith('  {"a":1}')


def test_refusals_and_cut_offs_are_shown() -> None:
    """In place of words, or beside them."""
    outcome = Outcome(Verdict.RETRYABLE, "refusal", "The model refused.\nTwice.")
    text = answer(chat_reply({"content": None, "refusal": "I can't."}), outcome=outcome)
    assert "[retryable: refusal]\n  The model refused.\n  Twice.\n" in text
    assert "[assistant]  finish_reason stop\n[refusal]\n  I can't.\n" in text
    assert "[assistant]  finish_reason length\n  (empty)\n" in answer(chat_reply({"content": ""}, finish="length"))


def test_several_choices_are_told_apart() -> None:
    """By their numbers."""
    body = chat_reply({"content": "one"})
    body["choices"].append({"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": "two"}})
    text = answer(body)
    assert "[assistant]  choice 1 of 2, finish_reason stop\n  one\n" in text
    assert "[assistant]  choice 2 of 2, finish_reason length\n  two\n" in text


def test_what_else_an_answer_has_is_shown() -> None:
    """Annotations, sound, unknown keys; of logprobs only how many."""
    message = {
        "content": "x",
        "annotations": [{"type": "url_citation", "url": "https://host"}],
        "audio": {"id": "audio_1", "data": BYTES, "transcript": "spoken words"},
        "mood": "cheerful",
    }
    text = answer(chat_reply(message, logprobs={"content": [{"token": "x"}] * 3}))
    for shown in (
        "https://host",
        "<audio, 1,000 bytes>",
        "spoken words",
        "[mood]\n  cheerful",
        "[logprobs]  of 3 tokens",
    ):
        assert shown in text
    assert BYTES not in text


def test_a_responses_answer_shows_all_items() -> None:
    """Thoughts, calls, words, refusals, and why it is incomplete."""
    body = {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5-nano",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "error": None,
        "output": [
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Thinking."}],
                "encrypted_content": BYTES,
            },
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'},
            {
                "type": "message",
                "role": "assistant",
                "phase": "commentary",
                "status": "incomplete",
                "content": [
                    {"type": "output_text", "text": '{"b":2}', "annotations": []},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
            {"type": "image_generation_call", "result": BYTES},
        ],
    }
    text = answer(body, endpoint=RESPONSES, outcome=Outcome(Verdict.RETRYABLE, "length", ""))
    assert "[reply]  id=resp_1, status=incomplete\n" in text
    assert '[incomplete_details]\n  {\n    "reason": "max_output_tokens"\n  }\n' in text
    assert "[reasoning]\n  Thinking.\n" in text
    assert '[calls look]  call_1\n  {\n    "a": 1\n  }\n' in text
    assert '[assistant]  phase commentary, status incomplete\n  {\n    "b": 2\n  }\n  refusal: No.\n' in text
    assert '"result": "<image, 1,000 bytes>"' in text


def test_vectors_are_shown_by_their_length() -> None:
    """As numbers or packed."""
    packed = base64.b64encode(bytes(4 * 256)).decode()
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.25] * 1536},
            {"object": "embedding", "index": 1, "embedding": packed},
        ],
    }
    text = answer(body, endpoint=EMBEDDINGS)
    assert "[embeddings]\n  0: <embedding of 1,536 numbers>\n  1: <embedding of 256 numbers>\n" in text


def test_an_error_is_shown_as_the_server_sent_it() -> None:
    """And no reply at all is said."""
    error = {"error": {"message": "Slow down.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
    text = answer(error, outcome=Outcome(Verdict.RETRYABLE, "rate_limited", "Slow down."))
    assert '[error]\n  {\n    "message": "Slow down.",\n' in text
    assert "[no reply]" in answer(None, outcome=Outcome(Verdict.RETRYABLE, "lost", "The connection broke."))


# ------------------------------------------------------------ colours and safety


def test_colours_add_nothing_but_colours() -> None:
    """Without them the text is the same."""
    body = chat([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PNG}}], temperature=1)
    coloured = request(body, colour=True)
    assert "\033" in coloured
    assert ANSI.sub("", coloured) == request(body)
    assert ANSI.sub("", answer(chat_reply({"content": "x"}), colour=True)) == answer(chat_reply({"content": "x"}))


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.SUCCESS, 32),
        (Verdict.RETRYABLE, 33),
        (Verdict.FREE, 33),
        (Verdict.FATAL, 31),
        (Verdict.ACCOUNT, 31),
    ],
)
def test_the_verdict_has_its_colour(verdict: Verdict, code: int) -> None:
    """Green, yellow, red."""
    assert f"\033[{code}m[{verdict}: why]\033[0m" in answer({}, outcome=Outcome(verdict, "why"), colour=True)


EVIL = "\x1b[2J\x07\r\x7f\x9b1m\u202e\ud800 end"
TAMED = "\\x1b[2J\\x07\\r\\x7f\\x9b1m\\u202e\\ud800 end"


def test_no_text_can_steer_the_terminal() -> None:
    """Control characters are shown as escapes; new lines and tabs are kept; the page can be printed."""
    body = {"model": EVIL, "messages": [{"role": EVIL, "name": EVIL, "content": f"\t{EVIL}\nx"}], EVIL: EVIL}
    text = request(body, key=EVIL)
    assert f"  \t{TAMED}\n  x" in text
    assert f"[{TAMED}]" in text
    assert text.startswith(f"── Request {TAMED} · {TAMED} ")
    text += answer(chat_reply({"content": EVIL, "refusal": EVIL}), outcome=Outcome(Verdict.FATAL, EVIL, EVIL))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    text.encode()


def test_nothing_in_a_heading_begins_a_line() -> None:
    """Keys and names come from outside too, and must not look like headings."""
    text = request(
        {"model": "m\n[system]", "messages": [{"role": "a\n[b]", "name": "c\n[d]", "content": "[user]\n[e]"}]}
    )
    assert [line for line in text.split("\n") if line.startswith("[")] == ["[a\\n[b]]  name c\\n[d]"]


# ------------------------------------------------------------ odd shapes

WORDS = st.text(st.characters(), max_size=8) | st.sampled_from([PNG[:60], "text", "image_url", EVIL])
NAMES = st.sampled_from(
    """type text role content messages input url image_url data format file file_data embedding choices message output
    error summary tool_calls function arguments name refusal logprobs finish_reason index model status audio
    call_id""".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | WORDS, inner, max_size=5),
    max_leaves=25,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "reasoning", "function_call", "function_call_output", "image_url", 5]),
        "role": JSON,
        "content": JSON,
        "message": st.dictionaries(NAMES, JSON, max_size=5),
        "tool_calls": JSON,
        "output": JSON,
        "name": JSON,
        "arguments": JSON,
    },
)
BODIES = JSON | st.dictionaries(
    st.sampled_from(["messages", "input", "choices", "output", "data", "error", "instructions", "tools", "model"]),
    JSON | st.lists(ITEMS | JSON, max_size=3),
    max_size=4,
)


@given(BODIES, st.sampled_from([CHAT, RESPONSES, EMBEDDINGS, ""]), st.booleans())
def test_every_shape_is_shown(body: Any, endpoint: str, colour: bool) -> None:
    """Nothing raises, and nothing steers the terminal."""
    for text in (request(body, endpoint=endpoint, colour=colour), answer(body, endpoint=endpoint, colour=colour)):
        plain = ANSI.sub("", text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", plain)
        plain.encode()


def test_what_is_no_json_or_nested_beyond_reason_is_shown_too() -> None:
    """By its name at least."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert "beyond reason" in request({"model": "m", "tools": deep})
    ring: dict[str, Any] = {}
    ring["again"] = ring
    assert "beyond reason" in request({"model": "m", "tools": ring})
    assert "beyond reason" in request(chat([deep]))
    assert "set()" in request({"model": "m", "messages": [{"role": "user", "content": {1: set()}}]})
    assert "[body]\n  oops" in answer("oops")  # type: ignore[arg-type]
    nested = "[" * 100_000
    assert nested in answer(chat_reply({"content": nested}))
