"""Embeddings and the old completions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.tokens.estimate import Count, Sureness, TokenEstimator
from tests.tokens.helpers import n


def embed(input_: Any, model: str = "text-embedding-3-small") -> Count:
    return TokenEstimator().count(endpoint="/v1/embeddings", body={"model": model, "input": input_})


def complete(model: str = "gpt-3.5-turbo-instruct", **body: Any) -> Count:
    return TokenEstimator().count(endpoint="/v1/completions", body={"model": model, **body})


def test_a_text_costs_its_tokens() -> None:
    """No overhead."""
    assert embed("hello world") == Count(2, Sureness.EXACT)
    assert complete(prompt="hello world") == Count(2, Sureness.EXACT)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=5))
@settings(max_examples=40)
def test_a_list_costs_the_sum(texts: list[str]) -> None:
    """Text by text."""
    assert embed(texts).tokens == sum(n(text, "cl100k_base") for text in texts)


def test_an_empty_text_costs_one() -> None:
    """The server bills it."""
    assert embed("").tokens == 1
    assert embed(["", "hello"]).tokens == 2


def test_token_numbers_cost_their_number() -> None:
    """One array, or several."""
    assert embed([5, 6, 7]).tokens == 3
    assert embed([[5, 6, 7], [8]]).tokens == 4
    assert complete(prompt=[5, 6]).tokens == 2


def test_a_suffix_is_part_of_the_prompt() -> None:
    """The model has to read it."""
    assert complete(prompt="hello", suffix="world").tokens == 1 + n("world", "cl100k_base")


@pytest.mark.parametrize("model", ["text-davinci-003", "ada", "curie"])
def test_models_whose_encoding_is_not_packaged_are_guesses(model: str) -> None:
    """They are retired, but recordings of them are about."""
    counted = complete(model, prompt="hello")
    assert counted.sureness is Sureness.GUESS
    assert "not packaged" in counted.notes[0]


@pytest.mark.parametrize("input_", [None, 5, {"a": 1}, [None], ["a", {}]])
def test_what_is_no_text_is_counted_as_json(input_: Any) -> None:
    """The server will refuse it."""
    assert embed(input_).sureness is Sureness.GUESS
