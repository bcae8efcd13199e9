"""An older store is brought up to date in one transaction, with a copy of it kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import StoreError, UserError
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.migrations import MIGRATIONS, SCHEMA_VERSION, Migration
from tests.store.rig import desk_at, dump, folder_hashes

V = SCHEMA_VERSION
"""The present schema, which is the old one in most of these tests."""
GOOD = """
ALTER TABLE task ADD COLUMN colour TEXT;
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TRIGGER note_counts AFTER INSERT ON note BEGIN
    UPDATE task SET colour = 'red; or ''blue''';
    UPDATE task SET complete = 1;
END;
INSERT INTO note (text) VALUES ('half a sentence; and its other half'); -- a comment; with a semicolon
"""
BAD = "ALTER TABLE task ADD COLUMN colour TEXT; INSERT INTO nowhere VALUES (1);"


@pytest.fixture
def old(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """A store of the present schema, which is the old one here; its contents."""
    with desk_at(path) as desk:
        desk.answered("a", "b")
        desk.add("c")
        desk.hand(rows=True)
        return dump(desk.db)


def backup_of(path: Path, version: int = SCHEMA_VERSION) -> Path:
    return path.with_name(f"{path.stem}.schema{version}{path.suffix}")


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        return dump(db)


def migrate(path: Path, migrations: dict[int, Migration]) -> None:
    Store.open(path, migrations=migrations).close()


def test_there_is_a_migration_for_every_step(path: Path) -> None:
    """From each schema version that was ever released one can get to the present one."""
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


@pytest.mark.usefixtures("old")
def test_an_older_store_is_migrated(path: Path) -> None:
    """All statements are carried out, a trigger's body and texts with semicolons stay whole, the version is raised."""
    migrate(path, {V: GOOD})
    assert version_of(path) == V + 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT text FROM note").fetchall() == [("half a sentence; and its other half",)]
        assert db.execute("SELECT colour, complete FROM task").fetchall() == [("red; or 'blue'", 1)]


def test_a_copy_of_the_older_store_is_kept(path: Path, old: dict[str, list[tuple[Any, ...]]]) -> None:
    """The copy is complete and opens as a store of the older version."""
    migrate(path, {V: GOOD})
    assert version_of(backup_of(path)) == V
    assert contents(backup_of(path)) == old
    Store.open(backup_of(path)).close()


def test_the_copy_holds_what_was_still_in_the_journal(path: Path) -> None:
    """A store that a killed run left with a journal beside it is copied with all that was committed."""
    with desk_at(path) as desk:
        desk.add("a", "b", "c")
        twin = path.with_name("twin_state.db")
        twin.write_bytes(path.read_bytes())
        twin.with_name(twin.name + "-wal").write_bytes(path.with_name(path.name + "-wal").read_bytes())
        expected = dump(desk.db)
    migrate(twin, {V: GOOD})
    assert contents(backup_of(twin)) == expected


@pytest.mark.usefixtures("old")
def test_nothing_but_the_copy_is_left_beside_the_store(path: Path) -> None:
    """No half-written copy, no journal."""
    migrate(path, {V: GOOD})
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([path.name, backup_of(path).name])


def test_a_present_store_is_not_copied(path: Path, old: dict[str, list[tuple[Any, ...]]]) -> None:
    """Only a migration makes a copy."""
    Store.open(path).close()
    migrate(path, {V - 1: ""})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert contents(path) == old


@pytest.mark.parametrize("bad", [BAD, "CREATE TABLE half (id INTEGER); nonsense;"], ids=["second", "syntax"])
def test_a_failed_migration_changes_nothing(path: Path, old: dict[str, list[tuple[Any, ...]]], bad: str) -> None:
    """The second statement fails, so the first has not happened either; the error says so in one line."""
    with pytest.raises(StoreError, match=rf"schema {V} to {V + 1}.*unchanged"):
        migrate(path, {V: bad})
    assert version_of(path) == V
    assert contents(path) == old


def test_a_later_step_that_fails_takes_back_the_earlier_ones(path: Path, old: dict[str, list[tuple[Any, ...]]]) -> None:
    """All steps together are one transaction: a store is never left in between."""
    with pytest.raises(StoreError, match=f"schema {V} to {V + 2}"):
        migrate(path, {V: GOOD, V + 1: BAD})
    assert version_of(path) == V
    assert contents(path) == old


def test_a_missing_step_changes_nothing(path: Path, old: dict[str, list[tuple[Any, ...]]]) -> None:
    """Without a way from one version to the next the store stays as it is, no copy is made, and it is said clearly."""
    with pytest.raises(StoreError, match=f"no way from schema {V} to {V + 1}"):
        migrate(path, {V + 1: GOOD})
    assert version_of(path) == V
    assert contents(path) == old
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.usefixtures("old")
def test_a_failed_migration_can_be_tried_again(path: Path) -> None:
    """With a corrected version of the library."""
    with pytest.raises(StoreError):
        migrate(path, {V: BAD})
    migrate(path, {V: GOOD})
    assert version_of(path) == V + 1


def test_a_store_is_migrated_over_several_versions(path: Path, old: dict[str, list[tuple[Any, ...]]]) -> None:
    """One step after the other; the copy is of the version that was found."""
    migrate(path, {V: GOOD, V + 1: "ALTER TABLE note ADD COLUMN more TEXT;", V + 2: "DROP TABLE note;"})
    assert version_of(path) == V + 3
    assert contents(backup_of(path)) == old
    assert not backup_of(path, V + 1).exists()


@pytest.mark.usefixtures("old")
def test_a_migration_may_be_a_function(path: Path) -> None:
    """Where SQL is not enough; it runs within the same transaction."""

    def paint(db: sqlite3.Connection) -> None:
        assert db.in_transaction
        db.execute("ALTER TABLE task ADD COLUMN colour TEXT")
        db.execute("UPDATE task SET colour = 'green'")

    migrate(path, {V: paint})
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT colour FROM task").fetchone() == ("green",)


@pytest.mark.parametrize("error", [ValueError("cannot"), KeyboardInterrupt(), UserError("not this one")])
def test_a_migration_function_that_raises_changes_nothing(
    path: Path, old: dict[str, list[tuple[Any, ...]]], error: BaseException
) -> None:
    """Ctrl+C and errors for the user go on as they are; a mistake of ours says that the store is unchanged."""

    def fail(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM raw_response")
        raise error

    expected = StoreError if isinstance(error, ValueError) else type(error)
    with pytest.raises(expected):
        migrate(path, {V: fail})
    assert version_of(path) == V
    assert contents(path) == old


@pytest.mark.usefixtures("old")
def test_a_last_statement_without_a_semicolon_is_carried_out(path: Path) -> None:
    """A store must never claim a version whose statements it has not seen."""
    migrate(path, {V: "ALTER TABLE task ADD COLUMN colour TEXT"})
    with closing(sqlite3.connect(path)) as db:
        assert "colour" in [row[1] for row in db.execute("PRAGMA table_info(task)")]


@pytest.mark.parametrize("cut", ["CREATE TABLE half (id", "SELECT 'half a text", "UPDATE task SET complete = 1; DROP"])
def test_a_statement_that_was_cut_off_is_refused(path: Path, old: dict[str, list[tuple[Any, ...]]], cut: str) -> None:
    """Loudly, rather than left out."""
    with pytest.raises(StoreError, match=rf"schema {V} to {V + 1}.*unchanged"):
        migrate(path, {V: cut})
    assert version_of(path) == V
    assert contents(path) == old


@pytest.mark.usefixtures("old")
def test_blanks_and_comments_at_the_end_are_no_statement(path: Path) -> None:
    """Nothing is left of them to be carried out."""
    migrate(path, {V: GOOD + "\n\n  -- the end\n"})
    assert version_of(path) == V + 1


@pytest.mark.usefixtures("old")
def test_a_half_written_copy_of_an_earlier_attempt_is_no_trouble(path: Path) -> None:
    """The process was killed while it copied; the next one begins anew."""
    backup_of(path).with_name(backup_of(path).name + ".part").write_bytes(b"SQLite format 3\0 half")
    migrate(path, {V: GOOD})
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([path.name, backup_of(path).name])


@pytest.mark.usefixtures("old")
def test_the_copy_is_of_this_migration_not_of_an_earlier_attempt(path: Path) -> None:
    """A migration failed, the older version was used for some days more, and then it works: the days are in the copy."""
    with pytest.raises(StoreError):
        migrate(path, {V: BAD})
    with desk_at(path) as desk:
        desk.add("made later")
        expected = dump(desk.db)
    migrate(path, {V: GOOD})
    assert contents(backup_of(path)) == expected


def test_the_copy_is_complete_while_somebody_reads(path: Path) -> None:
    """A dashboard that holds an old view keeps the journal from being taken in; the copy must not miss what is in it."""
    with desk_at(path) as desk:
        desk.add("a")
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM request").fetchone()
            desk.add("b", "c")
            expected = dump(desk.db)
            desk.store.close()
            migrate(path, {V: GOOD})
            reader.execute("COMMIT")
    assert contents(backup_of(path)) == expected


@pytest.mark.usefixtures("old")
def test_a_new_store_needs_no_migration(tmp_path: Path) -> None:
    """It is made with the present schema at once."""
    path = tmp_path / "new_state.db"
    Store.open(path).close()
    assert version_of(path) == SCHEMA_VERSION
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [path.name]


@pytest.mark.usefixtures("old")
def test_a_migrated_store_is_opened_without_another_migration(path: Path) -> None:
    """The second opening finds the version there and leaves every byte."""
    migrations: dict[int, Migration] = {V: GOOD}
    migrate(path, migrations)
    before = folder_hashes(path.parent)
    migrate(path, migrations)
    assert folder_hashes(path.parent) == before


def test_a_migrated_store_is_refused_by_the_older_version(path: Path) -> None:
    """Who knows only the older schema must not touch it."""
    Store.open(path).close()
    migrate(path, {V: GOOD})
    with pytest.raises(StoreError, match="newer"):
        Store.open(path)
