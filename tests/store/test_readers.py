"""Readers see what is committed, never block the writer, and can change nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.store import requests, snapshot
from gpt_batch_api.store.connection import connect_readonly
from gpt_batch_api.store.migrations import SCHEMA_VERSION
from gpt_batch_api.store.quiet import immutable_address, quietly
from tests.store.rig import Desk, dump, new_request

MANY = [new_request(f"sample-{number}") for number in range(3000)]


@pytest.fixture
def reader(desk: Desk) -> Iterator[sqlite3.Connection]:
    with closing(connect_readonly(desk.store.path)) as db:
        yield db


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM request").fetchone()[0])


def test_a_reader_sees_nothing_of_an_open_transaction(desk: Desk, reader: sqlite3.Connection) -> None:
    """What is not committed has not happened; a snapshot tells of the state before."""
    with desk.store.transaction() as tx:
        requests.add_requests(tx, MANY)
        assert count(reader) == 0
        assert snapshot.take(reader).asked == 0
    assert count(reader) == len(MANY)
    assert snapshot.take(reader).asked == len(MANY)


def test_a_reader_never_sees_what_was_rolled_back(desk: Desk, reader: sqlite3.Connection) -> None:
    """Neither during the transaction nor after it."""
    with suppress(KeyboardInterrupt), desk.store.transaction() as tx:
        requests.add_requests(tx, MANY)
        assert count(reader) == 0
        raise KeyboardInterrupt
    assert count(reader) == 0


def test_a_writer_commits_while_a_reader_is_in_the_middle(desk: Desk, reader: sqlite3.Connection) -> None:
    """A long look holds its one consistent view and blocks nobody: the writer must not wait a moment."""
    desk.add("a")
    desk.db.execute("PRAGMA busy_timeout = 0")
    reader.execute("BEGIN")
    assert count(reader) == 1
    with desk.store.transaction() as tx:
        requests.add_requests(tx, MANY)
    desk.add("b")
    assert count(reader) == 1
    reader.execute("COMMIT")
    assert count(reader) == len(MANY) + 2


def test_a_reader_never_waits_for_a_big_transaction(desk: Desk, reader: sqlite3.Connection) -> None:
    """A transaction larger than the page cache spills into the journal, and readers still go on."""
    reader.execute("PRAGMA busy_timeout = 0")
    desk.db.execute("PRAGMA cache_size = 10")
    with desk.store.transaction() as tx:
        requests.add_requests(tx, MANY)
        assert dump(reader)["request"] == []
        with closing(connect_readonly(desk.store.path)) as late:
            assert count(late) == 0


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO sample (key) VALUES ('x')",
        "UPDATE task SET epoch = 2",
        "DELETE FROM task",
        "DROP TABLE ledger",
        "CREATE TABLE extra (id INTEGER)",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = DELETE",
    ],
)
def test_a_reader_can_change_nothing(desk: Desk, reader: sqlite3.Connection, sql: str) -> None:
    """Whatever a reader tries, the store is the same afterwards."""
    desk.add("a")
    before = dump(desk.db)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute(sql)
    assert dump(desk.db) == before
    assert desk.one("PRAGMA user_version") == SCHEMA_VERSION
    assert desk.one("PRAGMA journal_mode") == "wal"


def test_a_reader_can_look_at_a_store_that_nobody_has_open(path: Path, desk: Desk) -> None:
    """The status of a task is there after its run, too, and the next run finds everything as it was."""
    desk.add("a", "b")
    before = dump(desk.db)
    desk.store.close()
    with closing(connect_readonly(path)) as db:
        assert count(db) == 2
    with closing(sqlite3.connect(path)) as db:
        assert dump(db) == before


def test_a_reader_outlives_the_writer(path: Path, desk: Desk, reader: sqlite3.Connection) -> None:
    """A dashboard stays open while the run ends and another one begins."""
    desk.add("a")
    assert count(reader) == 1
    desk.store.close()
    assert count(reader) == 1
    again = Desk.open(path)
    with closing(again.store):
        again.add("b")
        assert count(reader) == 2


def test_a_name_with_odd_characters_is_no_trouble(tmp_path: Path) -> None:
    """Question marks, percent signs and hashes mean something in a URI, not in a file name."""
    folder = tmp_path / "what? 100%25 #1 & ünï"
    folder.mkdir()
    desk = Desk.open(folder / "a?b#c%d_state.db")
    with closing(desk.store):
        desk.add("a")
        with closing(connect_readonly(desk.store.path)) as db:
            assert count(db) == 1
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]


def first_number(store: Path) -> object:
    with closing(sqlite3.connect(immutable_address(store), uri=True)) as db:
        return db.execute("PRAGMA user_version").fetchone()


LOOKS = (snapshot.take_from, lambda path: quietly(path, path.parent, first_number))


@pytest.mark.parametrize("look", LOOKS, ids=["at once", "quietly"])
def test_what_cannot_be_read_is_not_told_as_a_refused_write(tmp_path: Path, look: Callable[[Path], object]) -> None:
    path = tmp_path / "t_state.db"
    path.mkdir()
    with pytest.raises(StoreError, match=r"t_state.db cannot be read \(it is a folder\)") as caught:
        look(path)
    assert "writ" not in str(caught.value)
