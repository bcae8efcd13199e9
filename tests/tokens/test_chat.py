"""Chat completions without tools: messages, names, instructions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.tokens.estimate import Sureness
from tests.tokens.helpers import assistant, chat, n, system, user

HELPFUL = "You are a helpful assistant."  # 6 tokens in both encodings


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o", 4 + 1 + 3),
        ("gpt-4", 4 + 1 + 3),
        ("gpt-3.5-turbo", 4 + 1 + 3),
        ("gpt-4.1-mini", 4 + 1 + 3),
        ("gpt-5-chat-latest", 4 + 1 + 3),
        ("o3", 4 + 1 + 2),
        ("gpt-5", 4 + 1 + 2),
        ("gpt-6-luna", 4 + 1 + 2),
    ],
)
def test_a_message_costs_four_and_the_reply_is_primed_once(model: str, tokens: int) -> None:
    """The primer is three, two for reasoning models."""
    counted = chat(user("hello"), model=model)
    assert counted.tokens == tokens
    assert counted.sureness is Sureness.EXACT
    assert counted.notes == ()


def test_every_message_costs_four_more() -> None:
    """System, user and answer alike."""
    assert chat(system(HELPFUL), user("hello"), assistant("hello"), user("hello")).tokens == 3 + 4 * 4 + 6 + 1 + 1 + 1


@pytest.mark.parametrize(("model", "more"), [("gpt-4o", 0), ("o3", 0), ("gpt-5", 2), ("gpt-5.6", 2)])
def test_earlier_answers_cost_two_more_from_gpt_5_on(model: str, more: int) -> None:
    """Against a user message of the same length."""
    answered = chat(user("hello"), assistant("hello"), user("hello"), model=model)
    asked = chat(user("hello"), user("hello"), user("hello"), model=model)
    assert answered.tokens - asked.tokens == more


def test_a_name_costs_itself_with_a_colon() -> None:
    """Not one more than the name."""
    assert chat(user("hello") | {"name": "Alice"}).tokens == 4 + 1 + 3 + n(":Alice")


def test_a_name_on_the_leading_message_costs_too() -> None:
    """Wherever the message stands."""
    assert chat(system(HELPFUL) | {"name": "Alice"}).tokens == 4 + 6 + 3 + n(":Alice")


def test_parts_of_text_are_joined_without_a_separator() -> None:
    """A word cut in two costs one token, as it does in one piece."""
    assert n("hel") + n("lo") == 2
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert chat(user(parts)).tokens == chat(user("hello")).tokens


@given(st.lists(st.text(max_size=20), max_size=6))
@settings(max_examples=60)
def test_text_counts_the_same_however_it_is_cut(pieces: list[str]) -> None:
    """Adjacent text parts are one text."""
    parts = [{"type": "text", "text": piece} for piece in pieces]
    assert chat(user(parts)).tokens == chat(user("".join(pieces))).tokens
    assert chat(system(parts)).tokens == chat(system("".join(pieces))).tokens


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60)
def test_a_further_message_never_makes_it_cheaper(first: str, second: str) -> None:
    """Each message is counted by itself."""
    assert chat(user(first), user(second)).tokens >= chat(user(first)).tokens + 4


@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
@settings(max_examples=60)
def test_text_on_a_new_line_never_makes_it_cheaper(text: str, more: str) -> None:
    """Text after a blank line cannot merge with what stood before it."""
    assert chat(user(f"{text}x\n\nx{more}")).tokens >= chat(user(f"{text}x")).tokens


def test_a_message_without_content_costs_its_overhead() -> None:
    """Answers that only call a tool have null content."""
    assert chat(user(None)).tokens == 3 + 4
    assert chat(user([])).tokens == 3 + 4


def test_parts_may_be_bare_strings() -> None:
    """Some libraries send them."""
    assert chat(user(["hel", "lo"])).tokens == chat(user("hello")).tokens


def test_a_refusal_is_text() -> None:
    """As a part, or as a field of an earlier answer."""
    assert chat(assistant([{"type": "refusal", "refusal": "No."}])).tokens == 3 + 4 + n("No.")
    assert chat(assistant(None, refusal="No.")).tokens == 3 + 4 + n("No.")


@pytest.mark.parametrize(
    "setting",
    [
        {"n": 3},
        {"temperature": 0.5},
        {"stop": ["\n"]},
        {"logprobs": True},
        {"reasoning_effort": "high"},
        {"verbosity": "low"},
        {"service_tier": "flex"},
        {"response_format": {"type": "json_object"}},
        {"parallel_tool_calls": False},
        {"prediction": {"type": "content", "content": "hello hello hello"}},
        {"max_completion_tokens": 5000},
    ],
)
def test_settings_of_the_answer_cost_nothing(setting: dict[str, Any]) -> None:
    """They are not part of the prompt."""
    assert chat(user("hello"), **setting) == chat(user("hello"))


def test_content_of_an_unknown_kind_is_counted_as_its_json() -> None:
    """And said to be a guess."""
    part = {"type": "hologram", "text": "hello"}
    counted = chat(user([part]))
    assert counted.tokens == 3 + 4 + n('{"type":"hologram","text":"hello"}')
    assert counted.sureness is Sureness.GUESS


def test_data_of_an_unknown_kind_is_not_taken_for_text() -> None:
    """Megabytes of base64 would drown the estimate."""
    counted = chat(user([{"type": "hologram", "data": "A" * 100_000}]))
    assert counted.tokens == 3 + 4
    assert "too long" in counted.notes[0]


def test_an_earlier_audio_answer_is_a_guess() -> None:
    """Only its id is sent."""
    counted = chat(user("hello"), assistant(None, audio={"id": "audio_1"}))
    assert counted.sureness is Sureness.GUESS
    assert "audio" in counted.notes[0]
