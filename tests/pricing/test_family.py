"""What a name decides, and that the packaged catalogue agrees."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gpt_batch_api.data import load_prices
from gpt_batch_api.pricing.exact import Place
from gpt_batch_api.pricing.family import family_of
from gpt_batch_api.pricing.rows import read_rows

MODELS = load_prices()["models"]


@pytest.mark.parametrize("model", MODELS)
def test_the_catalogue_and_the_families_agree(model: str) -> None:
    """Bare prices of a catalogue model, completed by its family, are the catalogue's line (its shutdown aside)."""
    bare = {key: MODELS[model][key] for key in ("input", "cached", "output")}
    dated = {key: value for key, value in MODELS[model].items() if key == "shutdown"}
    place = Place("test", "price_file")
    assert read_rows(model, bare | dated, place) == read_rows(model, MODELS[model], place)


@pytest.mark.parametrize(
    ("model", "halves", "step", "write"),
    [
        ("gpt-5", True, False, "1"),
        ("gpt-5-mini", True, False, "1"),
        ("gpt-5.3-codex", True, False, "1"),
        ("gpt-5.4", True, True, "1"),
        ("gpt-5.5-mini", True, True, "1"),
        ("gpt-5.6", True, True, "1.25"),
        ("gpt-5.10-sol", True, True, "1.25"),
        ("gpt-6", True, True, "1.25"),
        ("gpt-12.3-nano", True, True, "1.25"),
        ("gpt-4o", False, False, "1"),
        ("gpt-4.1-mini", False, False, "1"),
        ("gpt-4.9", False, False, "1"),
        ("gpt-3.5-turbo", False, False, "1"),
        ("gpt-35-turbo", False, False, "1"),
        ("gpt-oss-120b", False, False, "1"),
        ("gpt-5o", False, False, "1"),
        ("o3", False, False, "1"),
        ("o4-mini", False, False, "1"),
        ("my-gpt-5", False, False, "1"),
        ("ft:gpt-5-mini:us", False, False, "1"),
        ("", False, False, "1"),
    ],
)
def test_the_generation_in_the_name_decides(model: str, halves: bool, step: bool, write: str) -> None:
    """gpt-5 halves cached input in a batch, 5.4 has the long-context step, 5.6 charges cache writes."""
    family = family_of(model)
    assert (family.halves_cached, family.long_context is not None) == (halves, step)
    assert family.cache_write_factor == Fraction(write)
