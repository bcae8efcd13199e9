"""Conditions compare cells, and nothing else can be done with them."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.where import Where

ROW: dict[str, Any] = {
    "stars": "4",
    "text": "A Refund, please",
    "language": "en",
    "review date": "2024-03",
    "empty": "",
    "n": 2,
}


@pytest.mark.parametrize(
    "text",
    [
        "stars >= 4",
        "stars == 4.0 and stars != 5",
        "3 < stars <= 4",
        "stars > -1",
        'language in ["en", "de"]',
        'language not in ("fr", "de")',
        '"refund" in lower(text)',
        '"refund" not in text',
        "len(text) > 5 and not empty",
        'empty == "" or missing',
        "missing == None and text != None",
        '`review date` < "2024-06"',
        '"`review date`" != text',
        "n in [1, 2] and n < 10",
        "n == '2'",
        "text",
    ],
)
def test_what_holds_is_kept(text: str) -> None:
    assert Where(text).keeps(ROW)
    assert not Where(f"not ({text})").keeps(ROW)


@pytest.mark.parametrize("text", ["text >= 4", "empty < 4", "missing < 4", "missing > 4", 'n < "x"', "n in 4"])
def test_a_cell_that_cannot_be_compared_fits_nothing(text: str) -> None:
    assert not Where(text).keeps(ROW)


def test_truth_values_are_compared_with_words_too() -> None:
    assert Where("flag == True").keeps({"flag": "TRUE"})
    assert Where("flag == False").keeps({"flag": False})
    assert not Where("flag == True").keeps({"flag": 1})


def test_cells_of_libraries_count_as_what_they_mean() -> None:
    cells = {"n": numpy.int64(4), "missing": pandas.NA, "when": pandas.Timestamp("2024-02-03")}
    assert Where('n >= 4 and n in [4] and not missing and missing == None and when < "2024-03"').keeps(cells)


def test_it_names_its_columns() -> None:
    assert Where('stars > 1 and `review date` < "2" or lower(text) == "x"').columns == ("stars", "review date", "text")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "text.__class__",
        "[x for x in text]",
        "(lambda: 1)()",
        "f'{text}'",
        "text[0]",
        "stars + 1 > 4",
        "open('x')",
        "len(text, text)",
        "stars is 4",
        "stars =",
        "stars = 4",
        "",
        "(" * 500 + "1" + ")" * 500,
        "not " * 5000 + "1",
        "b'x'",
        "1j",
        "...",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match="cannot be understood") as caught:
        Where(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_whatever_is_typed_is_understood_or_refused(text: str) -> None:
    try:
        where = Where(text)
    except UserError:
        return
    where.keeps(dict.fromkeys(where.columns, "x"))
