"""The tables of legal moves, against what their docstring promises."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from gpt_batch_api.domain.states import (
    BATCH_MOVES,
    FINAL_REQUEST_STATES,
    PUSH_MOVES,
    REPLAY_MOVES,
    REQUEST_MOVES,
    BatchState,
    PushState,
    RequestState,
    legal_moves,
)

Moves = Mapping[Any, frozenset[Any]]

TABLES = [
    pytest.param(REQUEST_MOVES, RequestState, RequestState.QUEUED, id="request"),
    pytest.param(BATCH_MOVES, BatchState, BatchState.SEALED, id="batch"),
    pytest.param(PUSH_MOVES, PushState, PushState.UPLOADING, id="push"),
]
FINAL = [
    pytest.param(REQUEST_MOVES, {RequestState.SUCCEEDED, RequestState.FAILED}, id="request"),
    pytest.param(BATCH_MOVES, {BatchState.CLOSED, BatchState.DISSOLVED}, id="batch"),
    pytest.param(PUSH_MOVES, {PushState.CREATED, PushState.REFUSED, PushState.LOST}, id="push"),
]


def reachable(moves: Moves, start: Any) -> set[Any]:
    """All states that moves lead to from *start*, itself included."""
    seen = {start}
    todo = [start]
    while todo:
        new = moves[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


@pytest.mark.parametrize(("moves", "kind", "start"), TABLES)
def test_every_state_has_a_row(moves: Moves, kind: type[StrEnum], start: StrEnum) -> None:
    """A state that the table forgets could never be left, without anybody having meant it."""
    assert set(moves) == set(kind)


@pytest.mark.parametrize(("moves", "kind", "start"), TABLES)
def test_every_state_can_be_reached(moves: Moves, kind: type[StrEnum], start: StrEnum) -> None:
    assert reachable(moves, start) == set(kind)


@pytest.mark.parametrize(("moves", "final"), FINAL)
def test_final_states_have_no_moves_and_all_others_have(moves: Moves, final: set[StrEnum]) -> None:
    assert {state for state, allowed in moves.items() if not allowed} == final


@pytest.mark.parametrize(("moves", "final"), FINAL)
def test_a_final_state_can_be_reached_from_everywhere(moves: Moves, final: set[StrEnum]) -> None:
    """Nothing gets stuck."""
    for state in moves:
        assert reachable(moves, state) & final


@pytest.mark.parametrize(("moves", "kind", "start"), TABLES)
def test_no_state_moves_to_itself(moves: Moves, kind: type[StrEnum], start: StrEnum) -> None:
    """An update that names the state it leaves can tell that it was done already."""
    assert all(state not in allowed for state, allowed in moves.items())


def test_a_request_ends_in_success_or_failure() -> None:
    assert {RequestState.SUCCEEDED, RequestState.FAILED} == FINAL_REQUEST_STATES


def test_only_a_request_that_is_answered_can_end() -> None:
    """Before its result is final, the task's code has seen an answer."""
    for state, allowed in REQUEST_MOVES.items():
        assert bool(allowed & FINAL_REQUEST_STATES) == (state is RequestState.ANSWERED)


def test_only_final_requests_are_replayed_and_only_as_answered() -> None:
    """A wipe or a reprocess shows a stored answer to the task's code again; it does nothing else."""
    assert set(REPLAY_MOVES) == FINAL_REQUEST_STATES
    assert all(allowed == {RequestState.ANSWERED} for allowed in REPLAY_MOVES.values())


def test_a_batch_that_may_be_on_the_server_cannot_be_dissolved() -> None:
    """Its requests would be asked, and paid, a second time."""
    leaving = {state for state, allowed in BATCH_MOVES.items() if BatchState.DISSOLVED in allowed}
    assert leaving == {BatchState.SEALED}


def test_no_push_counts_as_created_without_the_intent_to_create() -> None:
    """Commit the intent before the call that costs money."""
    assert {state for state, allowed in PUSH_MOVES.items() if PushState.CREATED in allowed} == {PushState.CREATING}


def test_legal_moves_lists_each_move_of_each_table_once() -> None:
    """As (kind, from, to) in plain text, sorted: the form in which the store keeps them."""
    expected = {
        (kind, before.value, after.value)
        for kind, moves in (
            ("request", REQUEST_MOVES),
            ("request", REPLAY_MOVES),
            ("batch", BATCH_MOVES),
            ("push", PUSH_MOVES),
        )
        for before, allowed in moves.items()
        for after in allowed
    }
    listed = legal_moves()
    assert listed == sorted(expected)
    assert all(type(word) is str for move in listed for word in move)
