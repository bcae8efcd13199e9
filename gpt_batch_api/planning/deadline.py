"""When the Batch API is no longer the way to be done in time.

Batches cost half and end within a day, nobody knows when. So they are used for as long as the deadline can still be met
without them, whatever they do until then. From that moment on the rest goes by calls that are answered at once:

    … batches …  |  flex calls: the price of batches, but the server may be slow or full  |  direct calls  |  deadline
                 2 · need + 30 min                                             need + 15 min               0  left

*need* is how long all that is not answered takes by direct calls at the rate that this task has seen, or at a careful
guess. The quarters of an hour are what a batch may take to be cancelled and what a flex call may take to be answered.
"""

from __future__ import annotations

from enum import StrEnum

SLACK_S = 900.0
GUESSED_CALLS_PER_S = 5.0
"""Before any is measured: less than the smallest paid accounts are allowed, 500 requests per minute."""
GUESSED_CALL_S = 10.0
"""How long a direct call may take, before any is measured."""


class Hurry(StrEnum):
    """How the rest of a job goes to the server."""

    NONE = "none"
    """As always: by batches."""
    FLEX = "flex"
    DIRECT = "direct"


def hurry(*, left_s: float, requests: int, calls_per_s: float) -> Hurry:
    """Say how *requests* that are not answered yet go to the server, with *left_s* seconds left."""
    need_s = requests / calls_per_s
    if left_s <= need_s + SLACK_S:
        return Hurry.DIRECT
    return Hurry.FLEX if left_s <= 2 * (need_s + SLACK_S) else Hurry.NONE


def calls_per_s(seen: float | None, *, ceiling: int | None) -> float:
    """The rate of direct calls to plan with: the one that was *seen*, or else a guess that *ceiling* calls in flight allow."""
    if seen:
        return seen
    return GUESSED_CALLS_PER_S if ceiling is None else min(GUESSED_CALLS_PER_S, ceiling / GUESSED_CALL_S)
