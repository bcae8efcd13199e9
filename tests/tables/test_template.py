"""A prompt names columns in braces; every other brace is the user's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.template import Template


def test_columns_are_filled_in() -> None:
    template = Template('Rate {review text} of {id}: {{"stars": 1}} {id}')
    assert template.columns == ("review text", "id")
    assert template.fill({"id": 7, "review text": "so {so}", "other": 1}) == 'Rate so {so} of 7: {"stars": 1} 7'


def test_a_missing_cell_is_empty() -> None:
    assert Template("[{a}{b}]").fill({"a": None}) == "[]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("open {", "single brace at 'open {'. Write a literal one twice: {{"),
        ("close }", "single brace at 'close }'. Write a literal one twice: }}"),
        ('{"a": {b}}', "single brace"),
        ("empty {}", "without a name"),
    ],
)
def test_a_brace_that_is_neither_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Template(text)
    assert message in str(caught.value)


@given(st.text(), st.text())
def test_any_text_can_be_written_literally(text: str, cell: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert Template(f"{escaped}{{a}}").fill({"a": cell}) == text + cell
