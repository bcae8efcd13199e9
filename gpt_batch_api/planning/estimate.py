"""What is told about the part of a task that is not done."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from gpt_batch_api.planning.forecast import Rest
from gpt_batch_api.planning.schedule import Schedule


@dataclass(frozen=True)
class Estimate:
    """All that is not done yet: how much, what it costs, how it goes out, how long that takes."""

    rest: Rest
    generator_asked: bool
    """Whether requests that the generator has not yielded before are part of it."""
    in_local_batches: int
    on_server: int
    """Requests in batches there: what they cost is already reserved."""
    answered: int
    """Requests that are paid, and wait to be processed."""
    held: int
    """Requests that wait for the user; they are not part of `rest`."""
    spent_pico: int
    schedule: Schedule
    local_batches: int
    remote_batches: int
    round_s: float | None
    """How long batches took lately, in the median; None: none has ended yet."""
    longest_round_s: float | None
    """The longest of the same."""
    direct_per_s: float | None
    limits: tuple[str, ...]
    """Limits that the rest would pass, each in a sentence."""
    shutdowns: tuple[tuple[str, datetime.date], ...]
    """Models in use that end soon, with their last day."""
