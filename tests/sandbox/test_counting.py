"""Input tokens: the rules for text and structured outputs, on cases of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpt_batch_api.data import load_encoding
from gpt_batch_api.sandbox.counting import count_chat, count_embeddings, count_responses

SCHEMA = {
    "type": "object",
    "properties": {"default": {"type": "string", "maxLength": 3}, "n": {"type": "integer", "minimum": 1}},
    "required": ["default", "n"],
    "additionalProperties": False,
}
SHOWN = {"type": "object", "properties": {"default": {"type": "string"}, "n": {"type": "integer"}}}


def n(text: str, encoding: str = "o200k_base") -> int:
    return len(load_encoding(encoding).encode_ordinary(text))


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def layout() -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "Answer", "strict": True, "schema": SCHEMA}}


SHOWN_TEXT = f"# Response Formats\n\n## Answer\n\n{json.dumps(SHOWN, separators=(',', ':'))}"


@pytest.mark.parametrize(
    ("model", "primer"), [("gpt-4o-mini", 3), ("gpt-5-nano", 2), ("o3", 2), ("gpt-5-chat-latest", 3)]
)
def test_messages_are_framed_by_the_family(model: str, primer: int) -> None:
    """Four tokens a message, and a primer once."""
    body = {"model": model, "messages": [message("system", "Be brief."), message("user", "Hello there!")]}
    assert count_chat(body) == 4 + n("Be brief.") + 4 + n("Hello there!") + primer


def test_older_models_read_with_the_older_vocabulary() -> None:
    """A text that the two vocabularies cut differently."""
    text = "надежда und Übermut"
    assert n(text) != n(text, "cl100k_base")
    body = {"model": "gpt-3.5-turbo", "messages": [message("user", text)]}
    assert count_chat(body) == 4 + n(text, "cl100k_base") + 3


def test_adjacent_text_parts_are_joined() -> None:
    """Without a separator; something else between them ends the run."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,", "detail": "low"}}
    parts = [{"type": "text", "text": "un"}, {"type": "text", "text": "believable"}]
    joined = {"model": "gpt-4o", "messages": [message("user", parts)]}
    parted = {"model": "gpt-4o", "messages": [message("user", [parts[0], picture, parts[1]])]}
    assert count_chat(joined) == 4 + n("unbelievable") + 3
    assert count_chat(parted) == 4 + n("un") + 85 + n("believable") + 3


def test_a_name_costs_its_text_with_a_colon() -> None:
    """Not one more."""
    body = {"model": "gpt-4o", "messages": [message("user", "Hi", name="Anne-Marie")]}
    assert count_chat(body) == 4 + n("Hi") + n(":Anne-Marie") + 3


@pytest.mark.parametrize(("model", "more"), [("gpt-4o", 0), ("gpt-5", 2), ("o3", 0)])
def test_earlier_answers_cost_two_more_from_gpt_5_on(model: str, more: int) -> None:
    """Not in the o-series."""
    texts = [message("user", "Hi"), message("assistant", "Hello"), message("user", "Bye")]
    primer = 3 if model == "gpt-4o" else 2
    assert count_chat({"model": model, "messages": texts}) == 12 + n("Hi") + n("Hello") + n("Bye") + more + primer


def test_a_schema_joins_a_leading_system_message() -> None:
    """Without the keywords that the model does not see; a property of such a name stays."""
    body = {
        "model": "gpt-4o",
        "messages": [message("system", "Be brief."), message("user", "Hi")],
        "response_format": layout(),
    }
    wanted = 4 + n(f"Be brief.\n\n{SHOWN_TEXT}") + 4 + n("Hi") + 3 + 2 + n("Answer")
    assert count_chat(body) == wanted


def test_a_schema_without_a_system_message_is_a_message_of_its_own() -> None:
    """Four tokens more; reasoning models do not count the name."""
    body = {"model": "gpt-5", "messages": [message("user", "Hi")], "response_format": layout()}
    assert count_chat(body) == 4 + n("Hi") + 4 + n(SHOWN_TEXT) + 2


@pytest.mark.parametrize(("model", "frame"), [("gpt-4o", 3 + 1), ("gpt-5", 2)])
def test_responses_count_like_chat_but_for_the_schema(model: str, frame: int) -> None:
    """Instructions are a system message, a text is a user message."""
    text = {"format": {"type": "json_schema", "name": "Answer", "schema": SCHEMA}}
    body = {"model": model, "instructions": "Be brief.", "input": "Hi", "text": text}
    assert count_responses(body) == 8 + n("Be brief.") + n("Hi") + n(SHOWN_TEXT) + frame


def test_embeddings_count_their_texts_only() -> None:
    """Token arrays count by length."""
    model = "text-embedding-3-small"
    assert count_embeddings({"model": model, "input": "Hi there"}) == [n("Hi there", "cl100k_base")]
    assert count_embeddings({"model": model, "input": ["a", "b c"]}) == [1, 2]
    assert count_embeddings({"model": model, "input": [5, 6, 7]}) == [3]
    assert count_embeddings({"model": model, "input": [[5], [6, 7]]}) == [1, 2]


def test_special_tokens_are_ordinary_text() -> None:
    """They count as they are written."""
    text = "<|endoftext|>"
    assert count_chat({"model": "gpt-4o", "messages": [message("user", text)]}) == 4 + n(text) + 3


@pytest.mark.parametrize("body", [{}, {"messages": 5}, {"messages": [5, {"content": 7}], "model": None, "tools": {}}])
def test_malformed_bodies_count_without_raising(body: dict[str, Any]) -> None:
    """They are counted before they are judged."""
    assert count_chat(body) >= 0
    assert count_responses(body) >= 0
    assert count_embeddings(body) == []
