"""Pictures in cells, and by what a row is known again."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.images import image_url
from gpt_batch_api.tables.keys import row_key
from gpt_batch_api.tables.row import Row
from gpt_batch_api.tables.spool import Spool

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def row(number: int = 1, item: Any = None, **cells: Any) -> Row:
    return Row(number, cells, cells if item is None else item, f"row {number}")


class TestImages:
    @pytest.mark.parametrize("cell", ["https://example.org/a.png", "data:image/png;base64,AAAA"])
    def test_addresses_and_data_uris_go_as_they_are(self, cell: str, tmp_path: Path) -> None:
        assert image_url(cell, folder=tmp_path, where="row 1") == cell

    def test_a_file_becomes_a_data_uri_of_its_true_type(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(PNG)
        expected = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        assert image_url("a.jpg", folder=tmp_path, where="row 1") == expected
        assert image_url(str(tmp_path / "a.jpg"), folder=Path("elsewhere"), where="row 1") == expected

    def test_bytes_and_pictures_in_memory_become_data_uris(self) -> None:
        class Picture:
            """Behaves like a picture of Pillow."""

            def save(self, stream: BinaryIO, *, format: str) -> None:
                assert format == "PNG"
                stream.write(PNG)

        expected = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        assert image_url(PNG, folder=Path(), where="item 1") == expected
        assert image_url(Picture(), folder=Path(), where="item 1") == expected
        with pytest.raises(UserError, match="item 1: 7 is no picture"):
            image_url(7, folder=Path(), where="item 1")

    def test_what_is_not_there_or_no_picture_is_named_with_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("text")
        with pytest.raises(UserError, match=r"row 7: there is no picture .*b\.png"):
            image_url("b.png", folder=tmp_path, where="row 7")
        with pytest.raises(UserError, match=r"row 7: .*a\.png is no PNG"):
            image_url("a.png", folder=tmp_path, where="row 7")


class TestKeys:
    def test_without_a_key_number_and_content_count(self) -> None:
        first = row_key(row(a="x", b="1"), None, columns=("a",))
        assert first.startswith("1-")
        assert row_key(row(a="x", b="2"), None, columns=("a",)) == first, "another column was added or changed"
        assert row_key(row(a="y", b="1"), None, columns=("a",)) != first
        assert row_key(row(2, a="x"), None, columns=("a",)) != first

    def test_a_key_can_be_a_column_or_a_function(self) -> None:
        assert row_key(row(id=7), "id", columns=None) == "7"
        assert row_key(row(item="x"), lambda item: f"<{item}>", columns=None) == "<x>"

    @pytest.mark.parametrize("value", ["", None])
    def test_an_empty_key_is_refused(self, value: Any) -> None:
        with pytest.raises(UserError, match="The key column 'id' is empty for row 3"):
            row_key(row(3, id=value), "id", columns=None)

    def test_a_key_that_is_no_text_is_refused(self) -> None:
        with pytest.raises(UserError, match="The key column 'id' is no key for row 1"):
            row_key(row(id=object()), "id", columns=None)

    @pytest.mark.parametrize("value", ["a\0b", "\ud800"])
    def test_a_key_that_no_store_can_keep_is_refused(self, value: str) -> None:
        with pytest.raises(UserError, match="a text of whole characters"):
            row_key(row(id=value), "id", columns=None)

    def test_an_item_without_content_needs_a_key(self) -> None:
        with pytest.raises(UserError, match=r"cannot be told from others .* key="):
            row_key(row(item=object(), thing=object()), None, columns=None)


class TestSpool:
    def test_rows_come_back_in_order_and_again(self) -> None:
        spool = Spool()
        for number in range(3):
            spool.add(f"k{number}", row(number, a=number))
        passed = [(key, found.cells["a"]) for key, found in spool]
        assert passed == [(key, found.cells["a"]) for key, found in spool] == [("k0", 0), ("k1", 1), ("k2", 2)]

    def test_what_cannot_be_kept_says_what_to_do(self) -> None:
        with pytest.raises(UserError, match="Give the items as a list"):
            Spool().add("k", row(a=lambda: 1))
