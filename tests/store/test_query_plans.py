"""The queries of every step find their rows by an index, so a step costs the same in a big task as in a small one.

Told by SQLite's own query plans: no test here measures time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.store import batches, ledger, outbox, pushes, replay, requests, responses, samples, stories
from gpt_batch_api.store.tables import TABLES
from tests.store.rig import CHAT, MODEL, Desk, keys_of, statements

Query = Callable[[sqlite3.Connection], object]

HOT: dict[str, tuple[Query, tuple[str, ...]]] = {
    "find_known": (
        lambda db: requests.find_known(db, keys_of("ab")),
        ("SEARCH sample USING COVERING INDEX", "SEARCH request USING INDEX"),
    ),
    "queued": (
        lambda db: next(requests.queued(db, endpoint=CHAT, model=MODEL), None),
        ("SEARCH request USING INDEX request_queue",),
    ),
    "lines_of": (lambda db: list(requests.lines_of(db, [1])), ("SEARCH request", "SEARCH payload")),
    "ids_of_batch": (lambda db: requests.ids_of_batch(db, 1), ("SEARCH request USING COVERING INDEX request_batch",)),
    "describe": (lambda db: requests.describe(db, 1), ("SEARCH request", "SEARCH sample")),
    "awaiting": (lambda db: responses.awaiting(db, 1, [1, 2]), ("SEARCH request",)),
    "unanswered": (
        lambda db: responses.unanswered(db, 1, limit=5),
        ("SEARCH request USING INDEX request_batch",),
    ),
    "to_hand": (
        lambda db: responses.to_hand(db, limit=5, max_retries=1),
        ("SCAN response USING INDEX response_to_hand", "SEARCH request", "SEARCH sample", "SEARCH raw_response"),
    ),
    "any_to_hand": (responses.any_to_hand, ("SCAN response USING INDEX response_to_hand",)),
    "held_of": (lambda db: responses.held_of(db, Source("batch", 1), limit=5), ("INDEX",)),
    "succeeded_of": (
        lambda db: responses.succeeded_of(db, Source("batch", 1)),
        ("SEARCH response USING INDEX response_batch",),
    ),
    "in_states": (
        lambda db: batches.in_states(db, BatchState.REMOTE, BatchState.ENDED),
        ("SEARCH batch USING INDEX batch_state",),
    ),
    "with_open_failure": (batches.with_open_failure, ("SCAN batch USING INDEX batch_failure",)),
    "unweighed": (
        batches.unweighed,
        ("SCAN batch USING INDEX batch_unweighed", "SEARCH response USING INDEX response_to_hand_of_batch"),
    ),
    "closable": (batches.closable, ("SEARCH batch USING INDEX batch_state", "SEARCH server_file USING INDEX")),
    "files_to_delete": (
        batches.files_to_delete,
        ("SCAN server_file USING INDEX server_file_present", "SEARCH batch"),
    ),
    "superseded_files": (
        batches.superseded_files,
        ("SCAN server_file USING INDEX server_file_present", "SEARCH push USING INDEX push_of_batch"),
    ),
    "count_server_files": (batches.count_server_files, ("SCAN server_file USING INDEX server_file_present",)),
    "open_pushes": (pushes.open_pushes, ("SCAN push USING INDEX push_open",)),
    "orphans": (pushes.orphans, ("SCAN push USING INDEX push_orphan",)),
    "reusable_file": (lambda db: pushes.reusable_file(db, 1), ("SEARCH push USING INDEX push_of_batch",)),
    "batch_total": (lambda db: ledger.batch_total(db, 1), ("SEARCH ledger USING INDEX ledger_batch",)),
    "load_states": (lambda db: samples.load_states(db, [1, 2]), ("SEARCH sample",)),
    "rows_after": (lambda db: next(samples.rows_after(db, 0), None), ("SEARCH output",)),
    "show_asked": (
        lambda db: replay.show_asked(db, keys_of("ab")),
        ("SEARCH sample USING COVERING INDEX", "SEARCH request USING INDEX", "SEARCH response USING INDEX"),
    ),
    "is_behind": (outbox.is_behind, ("SEARCH output",)),
}

BIG = ("request", "response", "sample", "payload", "raw_response", "output", "ledger")
"""Tables that grow with the task."""
SORTED_BY_INDEX = ("queued", "ids_of_batch", "unanswered", "to_hand", "unweighed", "rows_after")
"""Queries that must come in order without sorting everything first."""


@pytest.fixture
def plans(desk: Desk) -> Callable[[str], list[str]]:
    """The lines of the plans of all statements that a query runs."""
    desk.answered("a")
    desk.add("b")

    def plans(name: str) -> list[str]:
        seen: list[str] = []
        statements(desk.db, seen)
        HOT[name][0](desk.db)
        desk.db.set_trace_callback(None)
        assert seen
        return [str(row["detail"]) for sql in seen for row in desk.db.execute(f"EXPLAIN QUERY PLAN {sql}")]

    return plans


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_uses_its_indexes(plans: Callable[[str], list[str]], name: str) -> None:
    """Those that were made for it."""
    found = plans(name)
    missing = [wanted for wanted in HOT[name][1] if not any(wanted in line for line in found)]
    assert missing == [], found


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_never_reads_a_big_table_through(plans: Callable[[str], list[str]], name: str) -> None:
    """A scan is fine only along an index of those few rows that wait for something."""
    scans = [line for line in plans(name) if line.startswith("SCAN") and line.split()[1] in BIG]
    assert [line for line in scans if "USING INDEX response_to_hand" not in line] == []


@pytest.mark.parametrize("name", SORTED_BY_INDEX)
def test_an_ordered_query_does_not_sort(plans: Callable[[str], list[str]], name: str) -> None:
    """Its index has the order already, so the first rows come at once."""
    assert [line for line in plans(name) if "TEMP B-TREE" in line] == []


def test_the_task_is_wiped_by_sample_with_indexes(desk: Desk) -> None:
    """The references to a request that is deleted are found by an index, so a wipe is not quadratic."""
    for table, column in (("response", "request_id"), ("output", "request_id"), ("request", "sample_id")):
        (plan,) = desk.table(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1")
        assert plan[-1].startswith(f"SEARCH {table} USING"), plan


@pytest.mark.parametrize(
    "selection", [Selection(), Selection(reason="refusal", since=0.0, until=9e9)], ids=["all", "some"]
)
@pytest.mark.parametrize("name", [*TABLES, "facts"])
def test_an_export_reads_as_it_writes(desk: Desk, name: str, selection: Selection) -> None:
    """Nothing is sorted first, so memory does not grow with what is exported."""
    if name == "ledger":
        selection = Selection(since=selection.since, until=selection.until)
    desk.answered("a")
    seen: list[str] = []
    statements(desk.db, seen)
    list(stories.facts(desk.db, selection) if name == "facts" else TABLES[name].read(desk.db, selection))
    desk.db.set_trace_callback(None)
    lines = [str(row["detail"]) for sql in seen for row in desk.db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert lines
    assert [line for line in lines if "TEMP B-TREE" in line] == []
