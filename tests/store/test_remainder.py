"""What an estimate is made of: what is done, with all its tries, and what is left."""

from __future__ import annotations

from gpt_batch_api.domain.request import Kind
from gpt_batch_api.planning.forecast import Left
from gpt_batch_api.store import remainder
from tests.store.rig import CHAT, MODEL, Desk, expired, good, retried

KIND = Kind(CHAT, MODEL, 20, 20)


def answered(desk: Desk) -> None:
    """One good answer, one that is asked again, one that expired; a fourth request was never asked."""
    ids = desk.add("good", "again", "expired", "new")
    batch_id = desk.seal(ids[:3])
    desk.push(batch_id)
    desk.end(batch_id)
    desk.settle(batch_id, [good(ids[0]), retried(ids[1]), expired(ids[2])])
    desk.hand(rows=True)


def test_what_was_asked_is_told_with_its_tries(desk: Desk) -> None:
    """Also of requests that must be asked again; what expired was not asked."""
    answered(desk)
    found = remainder.known(desk.db).asked
    assert [(one.kind, one.input_tokens, len(one.tries), one.final) for one in found] == [
        (KIND, 7, 1, True),
        (KIND, 7, 1, False),
    ]
    assert found[0].tries[0].output_tokens > 0


def test_what_is_left_is_told_by_kind(desk: Desk) -> None:
    answered(desk)
    assert remainder.known(desk.db).left == [Left(KIND, 3, 21)]


def test_of_very_many_samples_some_are_looked_at(desk: Desk) -> None:
    """Evenly taken, so that an estimate takes no longer for a million."""
    most, remainder.MOST_SAMPLES = remainder.MOST_SAMPLES, 10
    try:
        desk.answered(*(f"s{number}" for number in range(40)))
        desk.hand(rows=True)
        found = remainder.known(desk.db).asked
    finally:
        remainder.MOST_SAMPLES = most
    assert [one.sample_id for one in found] == list(range(4, 41, 4))


def test_where_requests_stand_is_told_by_model(desk: Desk) -> None:
    answered(desk)
    sealed = desk.seal(desk.add("sealed"))
    pushed = desk.seal(desk.add("pushed"))
    desk.push(pushed)
    found = remainder.standing(desk.db)
    assert {key: load.requests for key, load in found.queued.items()} == {(CHAT, MODEL): 3}
    assert found.local == {MODEL: [desk.batch(sealed).load]}
    assert found.on_server == {MODEL: [desk.batch(pushed).load]}
    assert (found.answered, found.held) == (0, 0)
