"""The estimator as a whole: it always answers."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.tokens.count import NOTHING, exact, fitted, guess
from gpt_batch_api.tokens.estimate import Count, Sureness, TokenEstimator
from tests.tokens.helpers import n

ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/videos", "")
KEYS = (
    "model messages input role content type text name tools function parameters properties items $ref anyOf enum "
    "response_format json_schema schema tool_calls arguments image_url url detail file file_data input_audio data "
    "tool_choice prompt instructions output call_id encrypted_content format grammar id description title default"
).split()
VALUES = (
    "gpt-4o gpt-5 gpt-4 o3 user assistant system tool function json_schema function_call reasoning message text "
    "input_image image_url input_audio file custom object array string # #/properties required data:image/png;base64,iVBORw0K"
).split()

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(VALUES))
json_like = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=6),
    ),
    max_leaves=25,
)
messages = st.lists(st.dictionaries(st.sampled_from(KEYS), json_like, max_size=5), max_size=4)
tools = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["function", "custom", "mcp"]), "function": json_like}), max_size=2
)
bodies = st.one_of(
    st.dictionaries(st.sampled_from(KEYS), json_like, max_size=6),
    st.fixed_dictionaries(
        {"model": st.sampled_from(VALUES[:4]), "messages": messages, "input": messages, "tools": tools},
        optional={"response_format": json_like, "text": json_like, "tool_choice": json_like},
    ),
)


@given(body=bodies, endpoint=st.sampled_from(ENDPOINTS))
@settings(max_examples=400)
def test_any_body_gets_an_answer(body: dict[str, Any], endpoint: str) -> None:
    """No exception, never less than nothing, and a note for every guess."""
    counted = TokenEstimator().count(endpoint=endpoint, body=body)
    assert counted.tokens >= 0
    assert bool(counted.notes) == (counted.sureness is Sureness.GUESS)


@given(body=bodies, endpoint=st.sampled_from(ENDPOINTS))
@settings(max_examples=60)
def test_the_same_body_gets_the_same_answer(body: dict[str, Any], endpoint: str) -> None:
    """Whatever was counted before, and without writing into the body."""
    before = repr(body)
    estimator = TokenEstimator()
    assert estimator.count(endpoint=endpoint, body=body) == TokenEstimator().count(endpoint=endpoint, body=body)
    assert repr(body) == before


def nested(depth: int) -> dict[str, Any]:
    body: dict[str, Any] = {"text": "deep"}
    for _ in range(depth):
        body = {"items": [body]}
    return body


@pytest.mark.parametrize("place", ["messages", "tools", "response_format", "input", "tool_choice", "text"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_deeper_than_the_stack_gets_an_answer(place: str, endpoint: str) -> None:
    """JSON can be nested further than Python can follow."""
    deep = nested(sys.getrecursionlimit() * 2)
    for value in (deep, [deep], {"type": "json_schema", "json_schema": {"schema": deep}, "format": deep}):
        body = {"model": "gpt-4o", "messages": [], "input": [], "prompt": "", place: value}
        assert TokenEstimator().count(endpoint=endpoint, body=body).tokens >= 0


def test_a_body_that_contains_itself_gets_an_answer() -> None:
    """Its texts are counted once."""
    body: dict[str, Any] = {"model": "gpt-4o", "messages": "hello, hello"}
    body["again"] = body
    counted = TokenEstimator().count(endpoint="/v1/chat/completions", body=body)
    assert 0 < counted.tokens < 20
    assert counted.sureness is Sureness.GUESS


@pytest.mark.parametrize("body", [None, [], "x", 5])
def test_what_is_no_body_at_all_gets_an_answer(body: Any) -> None:
    """Even against the types."""
    assert TokenEstimator().count(endpoint="/v1/chat/completions", body=body).sureness is Sureness.GUESS


def test_a_body_that_cannot_be_read_is_counted_as_its_compact_json() -> None:
    """The documented way out."""
    body = {"model": "gpt-4o", "messages": {"role": "user", "content": "hello"}}
    counted = TokenEstimator().count(endpoint="/v1/chat/completions", body=body)
    assert counted.tokens == n('{"model":"gpt-4o","messages":{"role":"user","content":"hello"}}')
    assert counted.sureness is Sureness.GUESS


@pytest.mark.parametrize(
    "endpoint",
    [
        "/v1/chat/completions",
        "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview",
        "chat/completions/",
    ],
)
def test_an_endpoint_is_known_by_its_end(endpoint: str) -> None:
    """Providers put it in different places."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    assert TokenEstimator().count(endpoint=endpoint, body=body) == Count(8, Sureness.EXACT)


def test_the_worst_part_decides_how_sure_the_sum_is() -> None:
    """And every note is kept once."""
    assert (exact(1) + fitted(2)) == Count(3, Sureness.FITTED)
    assert (guess(1, "a") + exact(2) + guess(3, "b") + guess(4, "a")) == Count(10, Sureness.GUESS, ("a", "b"))
    assert exact(1) + NOTHING == exact(1)
