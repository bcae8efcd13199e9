"""Rows as one document: streamed, atomically replaced, and only if something changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.domain.delivery import Progress
from gpt_batch_api.domain.errors import OutputError
from gpt_batch_api.sinks.document import Document, write_json
from tests.sinks.rig import Store, deliver, deliver_until_killed, row, rows

HEADER = {"name": "words", "rows": [], "version": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "words_output.json"


def document(path: Path, header: dict[str, Any] | None = None) -> Document:
    return Document(path, write=write_json(HEADER if header is None else header, "rows"))


def all_files(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def read(path: Path) -> Any:
    """The document, read as strictly as other languages do."""
    return json.loads(path.read_bytes(), parse_constant=no_constant)


class TestJson:
    """A header, and the rows streamed into one of its fields."""

    @pytest.mark.parametrize("number", [0, 1, 2, 1000])
    def test_it_is_valid_json_for_any_number_of_rows(self, path: Path, number: int) -> None:
        """Fields in the header's order, rows in the order of the samples."""
        deliver(document(path), Store().add(*rows(1, number)))
        found = read(path)
        assert found == {"name": "words", "rows": [json.loads(one) for one in rows(1, number)], "version": 3}
        assert list(found) == ["name", "rows", "version"]

    def test_it_can_be_read_by_people(self, path: Path) -> None:
        """One row a line, characters as they are."""
        deliver(document(path, {"title": "é 漢"}), Store().add('{"a":"é"}', '{"a":2}'))
        assert path.read_text(encoding="utf-8") == (
            '{\n  "title": "é 漢",\n  "rows": [\n    {"a":"é"},\n    {"a":2}\n  ]\n}\n'
        )

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ({}, ["rows"]),
            ({"rows": None}, ["rows"]),
            ({"a": 1}, ["a", "rows"]),
            ({"rows": "placeholder", "a": 1}, ["rows", "a"]),
        ],
    )
    def test_the_rows_stand_where_the_header_has_them_or_last(
        self, path: Path, header: dict[str, Any], expected: list[str]
    ) -> None:
        deliver(document(path, header), Store().add(*rows(1, 2)))
        assert list(read(path)) == expected
        assert len(read(path)["rows"]) == 2

    @settings(max_examples=50)
    @given(
        header=st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=4),
        texts=st.lists(st.text(max_size=8), max_size=4),
        ascii_only=st.booleans(),
    )
    def test_any_header_and_rows_can_be_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], texts: list[str], ascii_only: bool
    ) -> None:
        path = tmp_path_factory.mktemp("document") / "out.json"
        found_rows = [json.dumps({"t": text}, ensure_ascii=ascii_only) for text in texts]
        deliver(document(path, header), Store().add(*found_rows))
        assert read(path) == {**header, "rows": [{"t": text} for text in texts]}

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_header_that_is_no_json_leaves_no_broken_document(self, path: Path, value: float) -> None:
        """Refused, or written in a way that can be read."""
        try:
            deliver(document(path, {"share": value}), Store().add(*rows(1, 2)))
        except (ValueError, OutputError):
            assert all_files(path) == []
        else:
            read(path)


class TestReplaced:
    """Nobody ever sees half of a document."""

    @pytest.mark.parametrize("error", [OSError("disk full"), ValueError("the format's own"), KeyError("a field")])
    def test_the_old_document_stays_if_writing_fails_midway(self, path: Path, error: Exception) -> None:
        """Whatever fails: the disk, or the code of a user's own format. Nothing half-written is left behind."""
        store = Store().add(*rows(1, 3))
        deliver(document(path), store)
        before = path.read_bytes()

        def failing(stream: BinaryIO, found: Iterator[str]) -> None:
            stream.write(next(found).encode())
            raise error

        with pytest.raises(type(error)):
            deliver(Document(path, write=failing), store.add(row(4)))
        assert path.read_bytes() == before
        assert all_files(path) == [path.name]

    @pytest.mark.parametrize("number", range(4))
    def test_a_kill_while_it_is_written_leaves_the_old_document(self, path: Path, number: int) -> None:
        store = Store().add(*rows(1, 3))
        deliver(document(path), store)
        before = path.read_bytes()
        deliver_until_killed(document(path), store.add(row(4)), rows=number)
        assert path.read_bytes() == before
        document(path).check(store.delivered)
        deliver(document(path), store)
        assert len(read(path)["rows"]) == 4
        assert all_files(path) == [path.name]

    def test_the_position_tells_what_the_document_holds(self, path: Path) -> None:
        store = Store(last=41).add(*rows(1, 3))
        (progress,) = deliver(document(path), store)
        (part,) = progress.parts
        assert progress == Progress((part,), replaces_all=True)
        assert (part.part, part.generation, part.file_name, part.rows) == (1, 1, path.name, 3)
        assert (part.size_bytes, part.last_output) == (path.stat().st_size, 44)

    def test_a_kill_after_it_was_replaced_is_no_edit_by_hand(self, path: Path) -> None:
        """The document is new already, the committed position is still the old one: the next run finishes it."""
        store = Store().add(*rows(1, 3))
        deliver(document(path), store)
        deliver_until_killed(document(path), store.add(row(4)))
        document(path).check(store.delivered)
        deliver(document(path), store)
        assert len(read(path)["rows"]) == 4


class TestOnlyIfSomethingChanged:
    """It is written anew for new rows, for rows taken back, and if it is gone."""

    @pytest.fixture
    def store(self, path: Path) -> Store:
        store = Store().add(*rows(1, 3))
        deliver(document(path), store)
        return store

    @pytest.mark.parametrize("number", [0, 3])
    def test_nothing_is_written_when_nothing_is_new(self, path: Path, number: int) -> None:
        store = Store().add(*rows(1, number))
        assert len(deliver(document(path), store)) == 1
        before = path.stat().st_mtime_ns, path.stat().st_ino
        assert deliver(document(path), store) == []
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == before

    def test_new_rows_are_written(self, path: Path, store: Store) -> None:
        deliver(document(path), store.add(row(4)))
        assert [one["i"] for one in read(path)["rows"]] == [1, 2, 3, 4]
        assert store.delivered[0].rows == 4

    @pytest.mark.parametrize("keep", [0, 2])
    def test_rows_taken_back_are_gone(self, path: Path, store: Store, keep: int) -> None:
        """Also where the newest row has the number of the old newest one."""
        store.take_back(keep)
        deliver(document(path), store)
        assert [one["i"] for one in read(path)["rows"]] == [1, 2, 3][:keep]
        assert store.delivered[0].generation == 2

    def test_a_missing_document_is_written_anew(self, path: Path, store: Store) -> None:
        path.unlink()
        document(path).check(store.delivered)
        deliver(document(path), store)
        assert len(read(path)["rows"]) == 3

    def test_a_document_of_another_name_is_written_anew(self, path: Path, store: Store) -> None:
        """The format was changed: the old one does not count."""
        other = path.with_suffix(".txt")
        deliver(document(other), store)
        assert len(read(other)["rows"]) == 3


class TestEditedByHand:
    @pytest.mark.parametrize(
        "edit",
        [
            lambda text: text.replace(b'"i":1', b'"i":7'),
            lambda text: text + b"\n",
            lambda text: text[:-1],
            lambda text: b"",
        ],
        ids=["changed", "longer", "shorter", "emptied"],
    )
    def test_a_changed_document_is_refused(self, path: Path, edit: object) -> None:
        """What the user wrote into it would be lost."""
        assert callable(edit)
        store = Store().add(*rows(1, 3))
        deliver(document(path), store)
        path.write_bytes(edit(path.read_bytes()))
        with pytest.raises(OutputError) as caught:
            document(path).check(store.delivered)
        assert str(caught.value) == (
            "The output file words_output.json was changed by hand after it was delivered. "
            "Move it away: it will be written anew from the store."
        )

    def test_a_document_that_is_as_it_was_passes(self, path: Path) -> None:
        store = Store().add(*rows(1, 3))
        deliver(document(path), store)
        document(path).check(store.delivered)
        document(path).check([])


class TestFiles:
    def test_files_are_those_that_are_there(self, path: Path) -> None:
        output = document(path)
        assert output.files() == []
        deliver(output, Store())
        assert output.files() == [path]
        output.remove()
        output.remove()
        assert output.files() == []

    def test_it_is_written_when_a_run_ends_and_not_before(self, path: Path) -> None:
        """Writing it whole for each chunk of answers would take ever longer."""
        assert not document(path).continuous
