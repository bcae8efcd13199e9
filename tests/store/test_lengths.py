"""The store learns how long answers are, with every answer that is booked."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from gpt_batch_api.domain.outcome import Road, Usage
from gpt_batch_api.domain.request import Kind
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import direct, lengths, responses
from gpt_batch_api.store.batches import Settlement
from gpt_batch_api.store.checkup import broken_rules
from gpt_batch_api.store.connection import APPLICATION_ID, Store
from gpt_batch_api.store.direct import Call
from gpt_batch_api.store.migrations import packaged, statements
from gpt_batch_api.tokens.calibrate import Lengths
from tests.store import first_schema
from tests.store.rig import CHAT, MODEL, NOW, Desk, desk_at, fatal, good

KIND = Kind(CHAT, MODEL, 20, 20)


def learn(desk: Desk, *answers: lengths.Answered) -> int:
    with desk.store.transaction() as tx:
        return lengths.learn(tx, answers)


def test_what_is_learnt_adds_up(desk: Desk) -> None:
    learn(desk, (KIND, Usage(5, output_tokens=7), "ok"), (KIND, Usage(5, output_tokens=900), "cut_off"))
    learn(desk, (KIND, Usage(5, output_tokens=7), "refusal"))
    assert lengths.learnt(desk.db) == {KIND: Lengths.of([(7, False), (900, True), (7, False)])}


def test_answers_without_usage_do_not_count(desk: Desk) -> None:
    """What expired, was cancelled or failed without running says nothing about lengths."""
    assert learn(desk, (KIND, Usage(), "expired"), (KIND, Usage(5), "ok")) == 1
    assert lengths.learnt(desk.db)[KIND].answers == 1


def test_kinds_are_kept_apart(desk: Desk) -> None:
    """By endpoint, model, maximum, number of choices and schema; no maximum and no schema are kinds too."""
    kinds = [
        KIND,
        Kind("/v1/responses", MODEL, 20, 20),
        Kind(CHAT, "another", 20, 20),
        Kind(CHAT, MODEL, 20, 40),
        Kind(CHAT, MODEL, None, 2048),
        Kind(CHAT, MODEL, 20, 20, 1),
    ]
    for number, kind in enumerate(kinds, start=1):
        learn(desk, (kind, Usage(1, output_tokens=number), "ok"))
    found = lengths.learnt(desk.db)
    assert {kind: found[kind].output_tokens for kind in kinds} == dict(zip(kinds, range(1, 7), strict=True))


def test_nothing_is_learnt_of_what_is_rolled_back(desk: Desk) -> None:
    with suppress(ZeroDivisionError), desk.store.transaction() as tx:
        lengths.learn(tx, [(KIND, Usage(5, output_tokens=7), "ok")])
        1 / 0  # noqa: B018
    assert lengths.learnt(desk.db) == {}


def test_all_stored_answers_teach_the_same_as_one_after_the_other(desk: Desk) -> None:
    """As an older store is brought up to date."""
    desk.answered("a", "b", "c")
    with desk.store.transaction() as tx:
        lengths.learn_from_stored(tx)
    (found,) = lengths.learnt(desk.db).values()
    answers = desk.table("SELECT output_tokens FROM response")
    assert found == Lengths.of((tokens, False) for (tokens,) in answers)
    assert found.answers == 3


# ---------------------------------------------------------------- a store of schema 1


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """A store as the first version of the library left it, with answers in it."""
    path, twin = tmp_path / "old_state.db", tmp_path / "twin_state.db"
    with desk_at(twin) as desk:
        desk.answered("a", "b")
        desk.hand(rows=True)
        desk.answered("c")
    first_schema.make_from(twin, path)
    return path


def test_a_store_of_the_first_schema_learns_from_its_answers(old_store: Path, tmp_path: Path) -> None:
    """Lengths and spending are there as if they had been kept from the beginning."""
    with closing(Store.open(old_store)) as store, desk_at(tmp_path / "twin_state.db") as twin:
        assert [row[0] for row in store.db.execute("SELECT sum(answers) FROM answer_kind")] == [3]
        spending = "SELECT * FROM spending WHERE answers > 0 ORDER BY 1, 2, 3, 4, 5"
        assert [tuple(row) for row in store.db.execute(spending)] == twin.table(spending) != []
        costs = "SELECT cost_pico, expected_cost_pico FROM batch"
        assert all(row[0] == row[1] for row in store.db.execute(costs))


def test_a_store_of_an_earlier_schema_counts_what_only_the_present_one_keeps(tmp_path: Path) -> None:
    """Sums of settled batches and groups, and bad ends by reason, are there as if they had been kept from the beginning."""
    old, twin = tmp_path / "old_state.db", tmp_path / "twin_state.db"
    with desk_at(twin) as desk:
        ids = desk.answered("a", "b", "c")
        desk.hand({ids[0]: RequestState.SUCCEEDED, ids[1]: RequestState.FAILED})
        bad = desk.add("d")
        batch_id = desk.seal(bad)
        desk.push(batch_id)
        desk.end(batch_id)
        desk.settle(batch_id, [fatal(bad[0])], failure="one is bad")
        call = Call(desk.add("e")[0], Road.DIRECT, 7, 100)
        with desk.store.transaction() as tx:
            direct.begin(tx, [call], session_id=desk.session_id, now=NOW)
            group = direct.open_group(tx, session_id=desk.session_id, now=NOW)
            direct.settle(tx, [call], session_id=desk.session_id, cost_pico=30, unknown_pico=0, now=NOW)
            responses.record(tx, [good(call.request_id)], group_id=group.id, keep_raw=True, now=NOW)
            told = Settlement(1, 0, 0, 0, 0, 5, 3, 20, 3, 30)
            direct.add_to_group(
                tx, group.id, [call], told,
                expected_input_tokens=7, expected_output_tokens=10, expected_cost_pico=50, failure=None,
            )  # fmt: skip
    first_schema.make_from(twin, old)
    with closing(Store.open(old)) as migrated, desk_at(twin) as desk:
        for sums in ("SELECT * FROM settled ORDER BY 1", "SELECT * FROM bad_end WHERE requests > 0 ORDER BY 1"):
            kept = desk.table(sums)
            assert len(kept) == 2
            found = [tuple(row) for row in migrated.db.execute(sums)]
            assert [row[:2] for row in found] == [row[:2] for row in kept]
        assert list(broken_rules(migrated.db, "counts")) == list(broken_rules(desk.db, "counts")) == []


def test_a_migrated_store_has_the_present_schema(tmp_path: Path) -> None:
    """The same tables with the same columns, the same indexes and triggers."""
    old, new = tmp_path / "old_state.db", tmp_path / "new_state.db"
    first_schema.make_empty(old, application_id=APPLICATION_ID)
    with closing(Store.open(old)) as migrated, closing(Store.open(new)) as fresh:
        assert shape(migrated.db) == shape(fresh.db)


def shape(db: sqlite3.Connection) -> dict[str, object]:
    """Every table's columns, and the text of everything else."""
    found: dict[str, object] = {}
    for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_schema"):
        found[name] = (
            sorted(tuple(row)[1:] for row in db.execute(f"PRAGMA table_xinfo({name})")) if kind == "table" else sql
        )
    return found


def test_no_statement_of_the_migration_is_lost() -> None:
    """Comments and triggers with several statements are cut where they end."""
    found = list(statements(packaged("migration_1.sql")))
    assert sum("\nCREATE TRIGGER" in statement for statement in found) == 4
    assert sum("\nCREATE TABLE" in statement for statement in found) == 3
