"""Names of models, and the family they count like."""

from __future__ import annotations

import pytest

from gpt_batch_api.data import VOCABULARIES
from gpt_batch_api.tokens.estimate import Sureness, TokenEstimator
from gpt_batch_api.tokens.models import load_facts, resolve
from tests.tokens.helpers import CHAT


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "gpt-4o-mini"),
        ("openai/gpt-4.1-mini", "gpt-4.1-mini"),
        ("GPT-4.1", "gpt-4.1"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4-0125-preview", "gpt-4-0125"),
        ("gpt-3.5-turbo-instruct:20230824-v2", "gpt-3.5"),
        ("o3-mini", "o3"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("gpt-5-chat-latest", "gpt-5-chat"),
        ("gpt-5.6-sol", "gpt-5.6"),
        ("gpt-6.1-terra", "gpt-6.1"),
        ("text-embedding-3-small", "text-embedding"),
    ],
)
def test_the_longest_family_prefix_wins(name: str, family: str) -> None:
    """Dates, fine-tuning and providers do not matter."""
    assert resolve(name).family == family


@pytest.mark.parametrize("name", ["gpt-4.9", "gpt-5.9", "gpt-50", "gpt-4ohm", "llama-4", "o9", ""])
def test_a_name_of_no_family_counts_like_the_newest(name: str) -> None:
    """A prefix ends at a joint of the name, so a new generation is not taken for an old one."""
    model = resolve(name)
    assert not model.known
    assert model.family == load_facts()["newest"]
    assert model.encoding == "o200k_base"


def test_an_unknown_model_is_a_guess_that_says_so() -> None:
    """Nobody should take the number for certain."""
    counted = TokenEstimator().count(endpoint=CHAT, body={"model": "gpt-77", "messages": []})
    assert counted.sureness is Sureness.GUESS
    assert "gpt-77" in counted.notes[0]


def test_every_row_of_the_facts_can_be_used() -> None:
    """A new model is a row: each one names an encoding, a dialect and image rules that exist."""
    for row in load_facts()["families"]:
        model = resolve(row["prefix"])
        assert model.family == row["prefix"]
        assert model.known
        assert model.encoding in VOCABULARIES
        assert bool(model.images.tile) != bool(model.images.per_patch)
