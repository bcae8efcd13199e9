"""Whether a run has kept the limits that its story set: by what the server got, and by the store's own timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from tests.property.seen import ALIVE, Line, Seen
from tests.property.story_task import AT_ONCE

PICO = 10**12


def limits_are_kept(before: Seen, after: Seen, *, values: Mapping[str, Any], log: str) -> None:
    """Look at all that came to the server between two looks."""
    for name, most, found in _found(before, after, values=values, log=log):
        assert found <= most, f"{name} is {most}, but it was {found}"


def _found(before: Seen, after: Seen, *, values: Mapping[str, Any], log: str) -> Iterator[tuple[str, int, int]]:
    """(limit, what it allows, what there was at most)"""
    lines = [line for line in after.stored.ledger if line.session > before.stored.sessions]
    if (most := values.get("max_session_requests")) is not None:
        yield "max_session_requests", most, max(_sums(lines, "requests"), default=0)
        yield "max_session_requests", most, _sent(before, after)
    if (most := values.get("max_session_cost")) is not None:
        yield "max_session_cost", round(most * PICO), max(_sums(lines, "cost_pico"), default=0)
    if (most := values.get("max_remote_batches")) is not None:
        yield "max_remote_batches", most, _most_on_server(before, after)
        yield "max_remote_batches", max(most, _alive(before)), _alive(after)
    if (most := values.get("max_batch_requests")) is not None:
        sizes = (batch.requests for batch in after.remote if batch.id in _new_batches(before, after))
        yield "max_batch_requests", most, max(sizes, default=0)
    if (most := values.get("max_direct_requests")) is not None:
        groups = (size for session, size in after.stored.groups if session > before.stored.sessions)
        yield "max_direct_requests", most, max(groups, default=0)
    if (most := values.get("max_direct_concurrency")) is not None:
        yield "max_direct_concurrency", most, log.count(AT_ONCE)


def _sums(lines: list[Line], name: str) -> Iterator[int]:
    """The sum after each line, counted anew after a wipe of the whole task."""
    for era in {line.era for line in lines}:
        yield from accumulate(getattr(line, name) for line in lines if line.era == era)


def _sent(before: Seen, after: Seen) -> int:
    """How many requests have come to the server, not counting those that did not run there."""
    charged = after.charged_to_batches()
    new = _new_batches(before, after)
    in_batches = sum(
        batch.requests if batch.status in ALIVE else charged[batch.id] for batch in after.remote if batch.id in new
    )
    known = {charge.id for charge in before.charges}
    return in_batches + sum(charge.batch is None and charge.id not in known for charge in after.charges)


def _new_batches(before: Seen, after: Seen) -> set[str]:
    """Batches that came to the server, but for those whose way there had begun before."""
    on_their_way = {str(batch.id) for batch in before.stored.batches if batch.state == "pushing"}
    new = {batch.id for batch in after.remote} - {batch.id for batch in before.remote}
    return {batch.id for batch in after.remote if batch.id in new and batch.number not in on_their_way}


def _alive(seen: Seen) -> int:
    return Counter(batch.status in ALIVE for batch in seen.remote)[True]


def _most_on_server(before: Seen, after: Seen) -> int:
    """How many batches there were on the server at most when one was added to them."""
    there = {batch.id for batch in before.stored.batches if batch.state == "remote"}
    most = 0
    for session, kind, facts in after.stored.moves:
        if session <= before.stored.sessions:
            continue
        if kind == "Wiped":
            there.clear()
        elif kind == "BatchEnded":
            there.discard(facts["batch"])
        else:
            there.add(facts["batch"])
            most = max(most, 0 if facts["adopted"] else len(there))
    return most
