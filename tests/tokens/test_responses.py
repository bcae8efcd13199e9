"""The prompt of a Responses request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.tokens.estimate import Sureness, TokenEstimator
from tests.tokens.helpers import assistant, chat, n, png, responses, system, user


@pytest.mark.parametrize(("model", "primer"), [("gpt-4o", 3), ("gpt-4", 2), ("gpt-5", 2), ("o3", 2)])
def test_an_input_text_is_one_user_message(model: str, primer: int) -> None:
    """Four, the text, the primer."""
    counted = responses("hello", model=model)
    assert counted.tokens == primer + 4 + 1
    assert counted.sureness is Sureness.EXACT
    assert responses([user("hello")], model=model) == counted


def test_instructions_are_a_leading_system_message() -> None:
    """Empty ones are no message."""
    assert responses("hello", instructions="Be kind.") == responses([system("Be kind."), user("hello")])
    assert responses("hello", instructions="") == responses("hello", instructions=None) == responses("hello")


@given(st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=4), st.text(max_size=30))
@settings(max_examples=40)
def test_messages_cost_the_same_as_in_chat(roles: list[str], text: str) -> None:
    """On both kinds of models."""
    messages = [{"role": role, "content": text} for role in roles]
    for model in ("gpt-4o", "gpt-5"):
        assert responses(messages, model=model).tokens == chat(*messages, model=model).tokens


def test_items_may_say_that_they_are_messages() -> None:
    """With ids, states, and parts in Responses' own spelling."""
    parts = [{"type": "output_text", "text": "hel", "annotations": []}, {"type": "output_text", "text": "lo"}]
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": parts}
    assert responses([item], model="gpt-5") == responses([assistant("hello")], model="gpt-5")


def test_reasoning_of_earlier_turns_costs_nothing() -> None:
    """A user message after it closes the turn."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" * 5000}
    talk = [user("hello"), reasoning, assistant("hello"), user("hello")]
    assert responses(talk, model="gpt-5") == responses([talk[0], *talk[2:]], model="gpt-5")


def test_reasoning_of_the_open_turn_is_a_guess_by_its_length() -> None:
    """Encrypted, 800 characters are packing, and 6.7 make a token."""
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "sunny"}
    hidden = {"type": "reasoning", "summary": [], "encrypted_content": "x" * (800 + 67)}
    counted = responses([user("hello"), hidden, call, result], model="gpt-5")
    assert counted.tokens == responses([user("hello"), call, result], model="gpt-5").tokens + 10
    assert counted.sureness is Sureness.GUESS
    kept = {"type": "reasoning", "id": "rs_1", "summary": []}
    counted = responses([user("hello"), kept, call, result], model="gpt-5")
    assert counted.tokens == responses([user("hello"), call, result], model="gpt-5").tokens
    assert "kept on the server" in counted.notes[0]


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "mcp_list_tools", "tools": []}]},
        {"input": [user([{"type": "input_file", "file_id": "file-1"}])]},
        {"tools": [{"type": "file_search", "vector_store_ids": []}]},
    ],
)
def test_what_only_the_server_knows_is_a_lower_bound_that_says_so(more: dict[str, Any]) -> None:
    """One sentence for each."""
    counted = TokenEstimator().count(endpoint="/v1/responses", body={"model": "gpt-4o", "input": "hello", **more})
    assert counted.sureness is Sureness.GUESS
    assert len(counted.notes) == 1
    assert counted.tokens >= 3


def test_pro_mode_costs_about_1515_more() -> None:
    """From gpt-5.6 on."""
    pro = {"reasoning": {"mode": "pro"}}
    assert responses("hello", model="gpt-5.6", **pro).tokens == responses("hello", model="gpt-5.6").tokens + 1515
    assert responses("hello", model="gpt-5", **pro) == responses("hello", model="gpt-5")


def test_pictures_alone_cost_one_more() -> None:
    """A message without any text."""
    image = {"type": "input_image", "image_url": png(100, 100)}
    alone = responses([user([image])])
    assert alone.tokens == 3 + 4 + 255 + 1
    assert responses([user([image, {"type": "input_text", "text": "hello"}])]).tokens == 3 + 4 + 255 + 1


def test_context_management_costs_one_token() -> None:
    """A line about compaction."""
    managed = responses("hello", context_management=[{"type": "compaction"}])
    assert managed.tokens == responses("hello").tokens + 1


def test_input_may_be_missing() -> None:
    """A stored prompt needs none."""
    assert TokenEstimator().count(endpoint="/v1/responses", body={"model": "gpt-4o"}).tokens == 3


def test_the_endpoint_that_counts_is_counted_the_same() -> None:
    """`/v1/responses/input_tokens` takes the same body."""
    body = {"model": "gpt-4o", "input": "hello"}
    counted = TokenEstimator().count(endpoint="/v1/responses/input_tokens", body=body)
    assert counted == responses("hello")


def test_bare_strings_in_the_input_list_are_messages() -> None:
    """Not documented, but seen."""
    assert responses(["hello"]).tokens == 3 + 4 + n("hello")
