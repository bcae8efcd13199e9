"""The page about token estimates tells the truth."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from gpt_batch_api.tokens.estimate import Sureness
from gpt_batch_api.tokens.models import load_facts

PAGE = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", load_facts()["drifting"])
def test_every_drifting_number_is_explained(name: str) -> None:
    """Whoever has to change one finds it on the page."""
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("degree", list(Sureness))
def test_every_degree_of_sureness_is_explained(degree: Sureness) -> None:
    """All three."""
    assert f"`{degree}`" in PAGE


def test_the_example_prints_what_it_says() -> None:
    """It runs as it stands."""
    example = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, {})
    assert printed.getvalue().strip() == re.findall(r"# (\d+ .*)$", example, re.MULTILINE)[0]
