"""Opening a store: made durable, and refused with one clear line where it cannot be ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.domain.states import legal_moves
from gpt_batch_api.store import requests, snapshot
from gpt_batch_api.store.connection import Store, connect, connect_readonly
from gpt_batch_api.store.migrations import SCHEMA_VERSION
from tests.store.rig import Desk, desk_at, dump, folder_hashes

PAGE = 4096


def refusal(path: Path) -> str:
    """The text with which the store at *path* is refused."""
    with pytest.raises(StoreError) as caught:
        Store.open(path).close()
    return str(caught.value)


def foreign(path: Path) -> Path:
    """An SQLite file of another program."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipe (name TEXT)")
        db.execute("INSERT INTO recipe VALUES ('soup')")
        db.commit()
    return path


@pytest.mark.parametrize(
    ("pragma", "value"), [("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)], ids=lambda item: str(item)
)
def test_the_writer_is_durable_and_strict(store: Store, pragma: str, value: object) -> None:
    """Every commit is on disk when it returns (synchronous=FULL is 2), and references are checked."""
    assert store.db.execute(f"PRAGMA {pragma}").fetchone()[0] == value


def test_a_reopened_store_is_as_durable_as_a_new_one(path: Path) -> None:
    """Settings of a connection are not kept in the file, so each opening must make them."""
    Store.open(path).close()
    with closing(Store.open(path).db) as db:
        found = [
            db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("synchronous", "journal_mode", "foreign_keys")
        ]
    assert found == [2, "wal", 1]


def test_a_closed_store_is_a_single_file(path: Path) -> None:
    """The last one to close takes the journal in."""
    with desk_at(path) as desk:
        desk.add("a", "b")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    """Every row of every table survives closing and opening."""
    with desk_at(path) as desk:
        desk.answered("a", "b")
        desk.hand(rows=True)
        before = dump(desk.db)
    with closing(Store.open(path).db) as db:
        assert dump(db) == before


def test_opening_a_store_again_changes_nothing(path: Path) -> None:
    """A second opening of a present store creates, migrates and refreshes nothing."""
    with desk_at(path) as desk:
        desk.add("a")
    before = folder_hashes(path.parent)
    Store.open(path).close()
    assert folder_hashes(path.parent) == before


def test_the_table_of_legal_moves_is_that_of_the_code(store: Store) -> None:
    """The store repeats the one table of `domain/states.py`."""
    found = store.db.execute("SELECT kind, before, after FROM legal_move ORDER BY 1, 2, 3")
    assert [tuple(row) for row in found] == legal_moves()


def test_a_store_with_other_legal_moves_learns_those_of_the_code(path: Path) -> None:
    """The table of moves is refreshed at opening, so that code and trigger cannot disagree."""
    with closing(Store.open(path).db) as db:
        db.execute("DELETE FROM legal_move WHERE kind = 'push'")
        db.execute("INSERT INTO legal_move VALUES ('batch', 'closed', 'sealed')")
    with closing(Store.open(path).db) as db:
        assert [tuple(row) for row in db.execute("SELECT * FROM legal_move ORDER BY 1, 2, 3")] == legal_moves()


def test_each_table_is_strict(store: Store) -> None:
    """A text can never stand where a number belongs."""
    lax = store.db.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    assert lax == []


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("content", [b"hello", b"hello" * 5000, b"SQLite format 3\x00" + b"junk" * 2000])
def test_a_file_that_is_not_sqlite_is_refused(path: Path, content: bytes) -> None:
    """One line names the file and what to do."""
    path.write_bytes(content)
    text = refusal(path)
    assert path.name in text
    assert "damaged" in text
    assert "\n" not in text


def test_a_file_that_is_not_sqlite_is_left_as_it_is(path: Path) -> None:
    """A refusal touches nothing."""
    path.write_bytes(b"hello" * 5000)
    before = folder_hashes(path.parent)
    refusal(path)
    assert folder_hashes(path.parent) == before


def test_an_sqlite_file_of_another_program_is_refused(path: Path) -> None:
    """Its name is in the text, and the way out."""
    text = refusal(foreign(path))
    assert path.name in text
    assert "another program" in text


def test_an_sqlite_file_of_another_program_is_left_as_it_is(path: Path) -> None:
    """Nothing that is not ours is ever touched: not a byte of it, and no file is left beside it."""
    foreign(path)
    before = folder_hashes(path.parent)
    refusal(path)
    assert folder_hashes(path.parent) == before


def test_a_killed_program_s_journal_is_left_as_it_is(path: Path) -> None:
    """To take in what another program has left beside its file is that program's business."""
    other = path.with_name("other.db")
    with closing(sqlite3.connect(foreign(other))) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO recipe VALUES ('stew')")
        db.commit()
        for suffix in ("", "-wal"):
            path.with_name(path.name + suffix).write_bytes(other.with_name(other.name + suffix).read_bytes())
    before = folder_hashes(path.parent)
    assert "another program" in refusal(path)
    assert folder_hashes(path.parent) == before


def test_a_store_whose_making_was_broken_off_is_made(path: Path) -> None:
    """A kill can leave an empty file, or one that has no tables yet."""
    path.touch()
    Store.open(path).close()
    path.unlink()
    connect(path).close()
    with closing(Store.open(path).db) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_a_reader_refuses_an_sqlite_file_of_another_program(path: Path) -> None:
    """Readers look before they read, too."""
    with pytest.raises(StoreError, match="another program"):
        connect_readonly(foreign(path))


@pytest.mark.parametrize("newer", [SCHEMA_VERSION + 1, SCHEMA_VERSION + 100])
@pytest.mark.parametrize("open_it", [Store.open, connect_readonly], ids=["writer", "reader"])
def test_a_store_of_a_newer_schema_is_refused(path: Path, newer: int, open_it: Callable[[Path], object]) -> None:
    """Who does not know the schema must not touch it; the text says to update."""
    with closing(Store.open(path).db) as db:
        db.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(StoreError, match=f"schema {newer}.*[Uu]pdate"):
        open_it(path)


def test_a_store_of_a_newer_schema_is_left_as_it_is(path: Path) -> None:
    """A refusal touches nothing."""
    with closing(Store.open(path).db) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = folder_hashes(path.parent)
    refusal(path)
    assert folder_hashes(path.parent) == before


def test_a_reader_of_an_older_store_says_how_to_migrate_it(path: Path) -> None:
    """Readers never migrate: they say who does."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA application_id = 0x67504241")
        db.execute("CREATE TABLE task (id INTEGER)")
    with pytest.raises(StoreError, match="Run the task once"):
        connect_readonly(path)


def test_a_folder_in_the_place_of_the_store_is_refused(path: Path) -> None:
    """What is no file cannot be opened, and that is said in one line."""
    path.mkdir()
    assert path.name in refusal(path)


def test_a_store_that_is_not_there_cannot_be_read(path: Path) -> None:
    """A reader creates nothing."""
    with pytest.raises(StoreError, match=path.name):
        connect_readonly(path)
    assert list(path.parent.iterdir()) == []


# ---------------------------------------------------------------- damaged


def filled(path: Path) -> bytes:
    """A store with a bit of everything; its bytes."""
    with desk_at(path) as desk:
        desk.add(*(f"waiting-{number}" for number in range(20)))
        desk.answered(*(f"done-{number}" for number in range(20)))
        desk.hand(rows=True)
    return path.read_bytes()


def read_all(path: Path) -> None:
    """Open the store and look at it, as every run does first."""
    store = Store.open(path)
    with closing(store):
        snapshot.take(store.db)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.95])
def test_a_store_that_was_cut_off_is_refused(path: Path, share: float) -> None:
    """Half a file is no store."""
    whole = filled(path)
    path.write_bytes(whole[: max(100, int(len(whole) * share))])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("offset", [0, 15, 16, 19, 21, 28, 47, 59, 63, 68, 71])
def test_a_flipped_byte_in_the_head_of_the_file_is_told_in_one_line(path: Path, offset: int) -> None:
    """Signature, page size, format, sizes, schema version and identity: whatever is wrong there is a StoreError."""
    damaged = bytearray(filled(path))
    damaged[offset] ^= 0xFF
    path.write_bytes(damaged)
    assert path.name in refusal(path)


def test_damage_anywhere_is_a_store_error_or_does_no_harm(path: Path, tmp_path: Path) -> None:
    """Whichever page is spoilt, opening and looking either works or says in one line that the store is damaged."""
    whole = filled(path)
    strange = {}
    for page in range(len(whole) // PAGE):
        spoilt = bytearray(whole)
        start = max(page * PAGE, 100)
        spoilt[start : (page + 1) * PAGE] = bytes(byte ^ 0x5A for byte in spoilt[start : (page + 1) * PAGE])
        copy = tmp_path / f"page{page}_state.db"
        copy.write_bytes(spoilt)
        try:
            read_all(copy)
        except StoreError:
            continue
        except Exception as error:
            strange[page] = repr(error)
    assert strange == {}


def test_damage_found_by_a_reader_is_a_store_error(path: Path) -> None:
    """The status command looks at a spoilt store: one line, no traceback."""
    whole = bytearray(filled(path))
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'batch'").fetchone()[0]
    whole[(root - 1) * PAGE : root * PAGE] = b"\x5a" * PAGE
    path.write_bytes(whole)

    def look() -> None:
        with closing(connect_readonly(path)) as db:
            snapshot.take(db)

    with pytest.raises(StoreError, match="damaged"):
        look()


READS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "fetchall": lambda db: db.execute("SELECT * FROM request").fetchall(),
    "fetchone": lambda db: [cursor.fetchone() for cursor in [db.execute("SELECT * FROM request")] for _ in range(99)],
    "iteration": lambda db: list(db.execute("SELECT * FROM request")),
    "a step's own query": lambda db: list(requests.lines_of(db, range(1, 40))),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("reader", [False, True], ids=["writer", "reader"])
def test_damage_found_outside_transactions_is_a_store_error(
    path: Path, read: Callable[[sqlite3.Connection], object], reader: bool
) -> None:
    """Wherever it shows first: one line that names the store and says what to do."""
    whole = bytearray(filled(path))
    leaves = [
        start for start in range(0, len(whole), PAGE) if b"sure" in whole[start : start + PAGE]  # a column of requests
        and b"CREATE" not in whole[start : start + PAGE]
    ]  # fmt: skip
    whole[leaves[-1] : leaves[-1] + PAGE] = b"\x5a" * PAGE
    path.write_bytes(whole)
    with closing(connect_readonly(path) if reader else Store.open(path).db) as db:
        with pytest.raises(StoreError, match=rf"{path.name} is damaged.*backup") as caught:
            read(db)
        assert "\n" not in str(caught.value)


def test_a_disk_that_is_full_is_a_store_error_and_loses_nothing(desk: Desk) -> None:
    """SQLite's own limit of pages stands for the disk: the text asks to make room, all that was committed stays."""
    desk.add("before")
    pages = desk.one("PRAGMA page_count")
    desk.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="make room"):
        desk.add(*(f"much-{number}" for number in range(5000)))
    assert not desk.db.in_transaction
    desk.db.execute("PRAGMA max_page_count = 1000000")
    assert [row[0] for row in desk.table("SELECT key FROM sample")] == ["before"]
    assert desk.add("after") == [2]
