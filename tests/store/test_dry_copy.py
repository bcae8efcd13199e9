"""A dry run's copy: the original's folder is as it was to the last byte, and the copy stands where it stands."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.domain.request import RequestKey
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import ledger, pushes, requests, responses, snapshot, tasks, wipe
from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.dry_copy import copy_for_dry_run
from gpt_batch_api.store.migrations import SCHEMA_VERSION
from tests.store.rig import CHAT, MODEL, NOW, Desk, body_of, desk_at, dump, fatal, folder_hashes, good, new_request

IMAGE = body_of("look", url="data:image/png;base64," + "A" * 3000)

WRITER = """
import os, signal, sys
from pathlib import Path
from tests.store.rig import Desk
desk = Desk.open(Path(sys.argv[1]))
desk.answered("a", "b")
desk.hand(rows=True)
desk.add("c")
with desk.store.transaction() as tx:
    tx.execute("INSERT INTO sample (key) VALUES ('never committed')")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def scene(desk: Desk) -> None:
    """Something of everything: finished, waiting, held, on the server, sealed, queued."""
    desk.answered("done", new_request("image", body=IMAGE))
    desk.hand(rows=True)
    desk.deliver()
    ids = desk.add("answered", "held")
    batch_id = desk.seal(ids)
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(ids[0]), fatal(ids[1])], failure="bad")
    desk.push(desk.seal(desk.add("remote")))
    desk.begin_push(desk.seal(desk.add("pushing")))
    desk.seal(desk.add("sealed"))
    desk.add("queued", new_request("queued image", body=IMAGE))
    with desk.store.transaction() as tx:
        tasks.learn_model_limit(tx, MODEL, enqueued_tokens=5, now=NOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the copy is made."""
    folder = tmp_path / "dry"
    folder.mkdir()
    return folder


@contextmanager
def copied(original: Path, folder: Path) -> Iterator[Desk]:
    """The copy, with a session of its own."""
    store = copy_for_dry_run(original, folder)
    with closing(store):
        with store.transaction() as tx:
            session_id = tasks.begin_session(tx, pid=2, host="dry", settings={}, now=NOW)
        yield Desk(store, session_id=session_id)


@pytest.fixture(params=["closed", "journal", "reader"])
def original(path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A store at rest, one that a kill left with its journal beside it, or one that somebody looks at."""
    with desk_at(path) as desk:
        scene(desk)
        if request.param == "journal":
            left = path.parent.parent / "left" / path.name
            left.parent.mkdir()
            for suffix in ("", "-wal"):
                shutil.copy2(f"{path}{suffix}", f"{left}{suffix}")
    if request.param == "journal":
        yield left
    elif request.param == "reader":
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("SELECT * FROM task").fetchall()
            yield path
    else:
        yield path


# ---------------------------------------------------------------- the original


def test_the_original_s_folder_is_as_before(original: Path, folder: Path) -> None:
    """Every byte and every file name, whatever is done with the copy."""
    before = folder_hashes(original.parent)
    with copied(original, folder) as dry:
        assert folder_hashes(original.parent) == before
        dry.hand()
        dry.add("new")
        dry.wipe("task")
    assert folder_hashes(original.parent) == before


def test_modification_times_stay(original: Path, folder: Path) -> None:
    """Backup programs see no change."""
    before = {path.name: path.stat().st_mtime_ns for path in original.parent.iterdir()}
    with copied(original, folder):
        pass
    assert {path.name: path.stat().st_mtime_ns for path in original.parent.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_no_trouble(original: Path, folder: Path) -> None:
    """Nothing is to be written there."""
    os.chmod(original.parent, 0o500)
    try:
        with copied(original, folder) as dry:
            assert dry.one("SELECT count(*) FROM request") == 9
    finally:
        os.chmod(original.parent, 0o700)


def test_what_a_killed_process_committed_is_in_the_copy(path: Path, folder: Path) -> None:
    """Killed in the middle of a transaction: what was committed is there, what was not is not, and nothing is touched."""
    killed = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    before = folder_hashes(path.parent)
    with copied(path, folder) as dry:
        assert [key for (key,) in dry.table("SELECT key FROM sample ORDER BY id")] == ["a", "b", "c"]
        assert snapshot.take(dry.db).asked == 3
    assert folder_hashes(path.parent) == before


def test_the_next_run_finds_what_a_killed_process_committed(path: Path) -> None:
    """The journal is taken in at the next opening, and every count is right."""
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False, cwd=Path(__file__).parents[2])
    with desk_at(path) as desk:
        assert desk.table("SELECT key, status FROM sample ORDER BY id") == [
            ("a", "succeeded"),
            ("b", "succeeded"),
            ("c", "pending"),
        ]
        assert len(desk.rows()) == 2
        assert desk.table("PRAGMA integrity_check") == [("ok",)]


def test_without_an_original_the_copy_is_new(path: Path, folder: Path) -> None:
    """And nothing is made where the original would be."""
    with closing(copy_for_dry_run(path, folder)) as store:
        assert tasks.load_task(store.db) is None
    assert list(path.parent.iterdir()) == []


def test_a_newer_original_is_refused_and_left_alone(path: Path, folder: Path) -> None:
    """As by a real run."""
    with closing(Store.open(path).db) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = folder_hashes(path.parent)
    with pytest.raises(StoreError, match="newer"):
        copy_for_dry_run(path, folder)
    assert folder_hashes(path.parent) == before


@pytest.mark.parametrize("content", [b"hello" * 5000, b"hello"])
def test_an_original_that_is_no_store_is_refused_and_left_alone(path: Path, folder: Path, content: bytes) -> None:
    """As by a real run."""
    path.write_bytes(content)
    before = folder_hashes(path.parent)
    with pytest.raises(StoreError, match=path.name):
        copy_for_dry_run(path, folder)
    assert folder_hashes(path.parent) == before


def test_an_sqlite_file_of_another_program_is_refused_and_left_alone(path: Path, folder: Path) -> None:
    """As by a real run."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipe (name TEXT)")
    before = folder_hashes(path.parent)
    with pytest.raises(StoreError, match="another program"):
        copy_for_dry_run(path, folder)
    assert folder_hashes(path.parent) == before


# ---------------------------------------------------------------- the copy


def test_the_copy_shows_what_the_original_shows(original: Path, folder: Path) -> None:
    """All figures of a snapshot, before the dry run's own session."""
    with closing(copy_for_dry_run(original, folder)) as store:
        dry = snapshot.take(store.db)
    with desk_at(original) as desk:
        desk.db.execute("DELETE FROM session WHERE id > 1")
        assert dry == snapshot.take(desk.db)


def test_what_is_alive_is_in_the_copy(original: Path, folder: Path) -> None:
    """Open payloads, answers to hand, held requests, batches under way: byte for byte."""
    with copied(original, folder) as dry, desk_at(original) as desk:
        queued = [item.id for item in requests.queued(desk.db, endpoint=CHAT, model=MODEL)]
        assert [item.id for item in requests.queued(dry.db, endpoint=CHAT, model=MODEL)] == queued
        assert list(requests.lines_of(dry.db, queued)) == list(requests.lines_of(desk.db, queued))
        assert dry.to_hand() == desk.to_hand()
        assert responses.held_of(dry.db, Source("batch", 2), limit=9) == responses.held_of(
            desk.db, Source("batch", 2), limit=9
        )
        assert pushes.open_pushes(dry.db) == pushes.open_pushes(desk.db)
        for batch_id in range(1, 6):
            assert dry.batch(batch_id) == desk.batch(batch_id)
            assert ledger.batch_total(dry.db, batch_id) == ledger.batch_total(desk.db, batch_id)


def test_finished_keys_are_known_to_the_copy(original: Path, folder: Path) -> None:
    """So that the generator's requests are compared with what is there."""
    asked = [RequestKey(key) for key in ("done", "image", "queued", "unknown")]
    with copied(original, folder) as dry, desk_at(original) as desk:
        assert requests.find_known(dry.db, asked) == requests.find_known(desk.db, asked)


def test_payloads_answers_and_rows_of_finished_samples_stay_behind(original: Path, folder: Path) -> None:
    """The copy of a nearly finished task is small. Rows are counted there, but their texts are not needed."""
    with copied(original, folder) as dry:
        finished = "(SELECT id FROM request WHERE state IN ('succeeded', 'failed'))"
        assert dry.one(f"SELECT count(*) FROM payload WHERE request_id IN {finished}") == 0
        answered = dry.table(
            "SELECT key FROM raw_response JOIN response ON response.id = response_id "
            "JOIN request ON request.id = request_id JOIN sample ON sample.id = sample_id"
        )
        assert sorted(answered) == [("answered",), ("held",)]
        assert dry.rows() == [None, None]


def test_answers_of_samples_that_a_wipe_would_reset_are_in_the_copy(path: Path, folder: Path) -> None:
    """Those with an open request or a failed one; the others have nothing to replay."""
    with desk_at(path) as desk:
        desk.answered("done", "open", "failed")
        failed = desk.request_id(RequestKey("failed"))
        desk.hand({failed: RequestState.FAILED})
        desk.hand(rows=True)
        desk.add(new_request("open", "more"))
        kept = dict(desk.table("SELECT key, sample.id FROM sample"))
    with copied(path, folder) as dry:
        assert {row[0] for row in dry.table(
            "SELECT sample_id FROM raw_response JOIN response ON response.id = response_id "
            "JOIN request ON request.id = request_id"
        )} == {kept["open"], kept["failed"]}  # fmt: skip


def test_images_stay_behind_where_nothing_needs_them(path: Path, folder: Path) -> None:
    """A finished task has none to send."""
    with desk_at(path) as desk:
        desk.answered(new_request("image", body=IMAGE))
        desk.hand()
    with copied(path, folder) as dry:
        assert dry.one("SELECT count(*) FROM content") == 0


def test_the_copy_is_a_store_like_any_other(original: Path, folder: Path) -> None:
    """References and counts hold, triggers work, and it can be used to the end."""
    with copied(original, folder) as dry, desk_at(original) as desk:
        names = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        assert dry.table(names) == desk.table(names)
        assert dry.one("PRAGMA foreign_keys") == 1
        assert dry.table("PRAGMA foreign_key_check") == []
        dry.hand(RequestState.FAILED, rows=True)
        dry.push(5)
        dry.add("new")
        assert dry.sample("answered")["status"] == "failed"
        assert dry.table("SELECT state, requests FROM tally WHERE requests > 0 ORDER BY 1") == dry.table(
            "SELECT state, count(*) FROM request GROUP BY 1 ORDER BY 1"
        )


def test_the_source_is_not_attached_any_more(original: Path, folder: Path) -> None:
    """Nothing done to the copy can reach the original."""
    with copied(original, folder) as dry:
        attached = [row[1] for row in dry.table("PRAGMA database_list")]
    assert "source" not in attached


@pytest.mark.parametrize("kind", ["requests", "failed", "task"])
def test_a_wipe_of_the_copy_tells_what_a_wipe_of_the_original_would_do(path: Path, folder: Path, kind: str) -> None:
    """A dry run with a wipe shows the true numbers: requests, samples, rows, answers to replay."""
    with desk_at(path) as desk:
        for key, state in (("a", RequestState.SUCCEEDED), ("b", RequestState.FAILED), ("c", RequestState.SUCCEEDED)):
            desk.answered(key)
            desk.hand(state, rows=True)
        desk.add(new_request("a", "more"), new_request("b", "more"))
        desk.answered("waiting")
        desk.deliver()
    with copied(path, folder) as dry:
        shown = dry.wipe(kind)
        generation = tasks.get_task(dry.db).generation
    with desk_at(path) as desk:
        assert shown == desk.wipe(kind)
        assert tasks.get_task(desk.db).generation == generation


def test_a_begun_wipe_is_begun_in_the_copy(path: Path, folder: Path) -> None:
    """The dry run of the next run shows that it will be finished."""
    with desk_at(path) as desk:
        desk.add("a")
        with desk.store.transaction() as tx:
            wipe.begin(tx, "requests")
    with copied(path, folder) as dry:
        assert tasks.get_task(dry.db).wiping == "requests"


def test_an_empty_store_can_be_copied(path: Path, folder: Path) -> None:
    """A run that was killed before its task was made."""
    Store.open(path).close()
    before = folder_hashes(path.parent)
    with closing(copy_for_dry_run(path, folder)) as store:
        assert dump(store.db)["task"] == []
    assert folder_hashes(path.parent) == before


# ---------------------------------------------------------------- while somebody writes

BUSY_WRITER = """
import sys
from pathlib import Path
from tests.store.rig import Desk, new_request
desk = Desk.open(Path(sys.argv[1]))
desk.db.execute("PRAGMA wal_autocheckpoint = 40")
desk.db.execute("PRAGMA synchronous = OFF")
desk.add(*(f"{number:0500}" for number in range(1000)))
desk.db.execute("UPDATE task SET epoch = 1000")
print("ready", flush=True)
for number in range(1_000_000):
    if number % 20 == 19:
        path = desk.store.path
        desk.store.close()
        desk = Desk.open(path)
    with desk.store.transaction() as tx:
        tx.execute("INSERT INTO sample (key, state) VALUES (?, ?)", (f"s{number}", '"' + "x" * 3000 + '"'))
        tx.execute("UPDATE sample SET state = json_quote(hex(randomblob(500))) WHERE id % 50 = ?", (number % 50,))
        tx.execute("UPDATE task SET epoch = (SELECT count(*) FROM sample)")
"""


@pytest.fixture
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that commits, takes its journal in, closes and opens all the time."""
    command = [sys.executable, "-c", BUSY_WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.usefixtures("writer")
def test_the_copy_is_whole_while_somebody_writes(path: Path, folder: Path) -> None:
    """Each copy is one moment of the store: what was committed together is there together, and no page is torn."""
    moments = []
    for number in range(12):
        place = folder / str(number)
        place.mkdir()
        with closing(copy_for_dry_run(path, place)) as store:
            assert [row[0] for row in store.db.execute("PRAGMA integrity_check")] == ["ok"]
            count = store.db.execute("SELECT count(*) FROM sample").fetchone()[0]
            assert tasks.get_task(store.db).epoch == count
            assert store.db.execute("SELECT sum(samples) FROM sample_tally").fetchone()[0] == count
            moments.append(count)
    assert moments == sorted(moments)
