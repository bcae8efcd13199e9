"""Tokens of plain text, any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.tokens.estimate import TokenEstimator
from gpt_batch_api.tokens.text import compact_json, count_shared_tokens, count_tokens
from tests.tokens.helpers import n


def test_a_text_costs_what_the_tokeniser_says() -> None:
    """Five words and a full stop are six tokens."""
    assert count_tokens("You are a helpful assistant.", "o200k_base") == 6


def test_what_looks_like_a_special_token_is_ordinary_text() -> None:
    """Users' texts contain such strings; they are not control tokens and must not raise."""
    assert count_tokens("<|endoftext|>", "o200k_base") > 1


def test_a_lone_surrogate_does_not_raise() -> None:
    """JSON can hold half of a character."""
    assert count_tokens("\ud800 and more", "o200k_base") > 0


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
@pytest.mark.parametrize("blank", [" ", "\t", "\u3000", "\u2028"])
def test_a_million_blanks_are_counted(encoding: str, blank: str) -> None:
    """The tokeniser's matcher overflows on such a run; it is cut into pieces."""
    assert count_tokens("a" + blank * 1_100_000 + "b", encoding) > 2


def test_a_long_text_with_short_runs_is_not_cut() -> None:
    """Only runs of blanks are cut, so other long texts keep their exact count."""
    text = "The tide comes in. " * 30_000
    assert count_tokens(text, "o200k_base") == n(text)


@given(st.text())
@settings(max_examples=50)
def test_remembered_counts_are_the_same(text: str) -> None:
    """The memory changes the time, not the number."""
    assert count_shared_tokens(text, "o200k_base") == count_tokens(text, "o200k_base")


def test_count_text_reads_as_the_model_does() -> None:
    """The two encodings differ on this word."""
    estimator = TokenEstimator()
    word = "Überraschung"
    assert estimator.count_text(word, model="gpt-4o") == n(word)
    assert estimator.count_text(word, model="gpt-4") == n(word, "cl100k_base")
    assert n(word) != n(word, "cl100k_base")


def test_compact_json_has_no_blanks_and_keeps_letters() -> None:
    """As schemas are shown to the models."""
    assert compact_json({"a": [1, "é"]}) == '{"a":[1,"é"]}'
