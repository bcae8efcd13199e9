"""Lists, generators, frames and data sets give the same rows as files do."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, NamedTuple

import pandas
import polars
import pytest
from pydantic import BaseModel

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.sources import open_items
from gpt_batch_api.tables.values import as_plain, as_text

ROWS = [{"id": 1, "text": "x"}, {"id": 2, "text": "ü"}]


class Pair(NamedTuple):
    id: int
    text: str


@dataclasses.dataclass
class Record:
    id: int
    text: str


class Model(BaseModel):
    id: int
    text: str


def cells(items: Any) -> list[dict[str, Any]]:
    return [{name: as_plain(value) for name, value in row.cells.items()} for row in open_items(items).rows()]


@pytest.mark.parametrize("kind", [dict, Record, Model, Pair], ids=lambda kind: kind.__name__)
def test_items_with_fields_have_columns(kind: Any) -> None:
    items = [kind(**row) for row in ROWS]
    assert cells(items) == ROWS
    assert [row.item for row in open_items(items).rows()] == items


def test_items_without_fields_are_the_column_item() -> None:
    assert cells(["x", "y"]) == [{"item": "x"}, {"item": "y"}]


def test_only_what_can_be_read_again_says_so() -> None:
    assert open_items(ROWS).repeatable
    assert not open_items(iter(ROWS)).repeatable
    assert not open_items(row for row in ROWS).repeatable


def test_a_pandas_frame_has_rows_with_plain_values() -> None:
    frame = pandas.DataFrame({"id": [1, 2], "text": ["x", None], "when": pandas.to_datetime(["2024-02-03", None])})
    assert cells(frame) == [
        {"id": 1, "text": "x", "when": "2024-02-03T00:00:00"},
        {"id": 2, "text": None, "when": None},
    ]


def test_a_pandas_frame_with_a_doubled_column_is_refused() -> None:
    with pytest.raises(UserError, match="two columns 'a'"):
        open_items(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_a_polars_frame_has_rows() -> None:
    assert cells(polars.DataFrame(ROWS)) == ROWS
    with pytest.raises(UserError, match="a lazy frame has to be collected first"):
        open_items(polars.DataFrame(ROWS).lazy())


def test_a_hugging_face_data_set_has_rows() -> None:
    datasets = pytest.importorskip("datasets")
    found = open_items(datasets.Dataset.from_list(ROWS))
    assert found.repeatable
    assert cells(datasets.Dataset.from_list(ROWS)) == ROWS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (None, ""),
        (b"ab", "YWI="),
        (datetime.timedelta(hours=2), "2:00:00"),
        (float("nan"), ""),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
        ({"a": ["ü"]}, '{"a": ["ü"]}'),
    ],
)
def test_a_value_in_a_prompt_is_plain_text_or_json(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_a_value_without_a_form_in_json_is_named() -> None:
    with pytest.raises(TypeError, match="object"):
        as_text(object())
