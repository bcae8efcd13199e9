"""Ask several times until a majority is sure: the same question, opinion by opinion.

Opinions on one sample are requests with the numbers 0, 1, 2 … The poll begins with `at_least` of them and asks one more
at a time while the leading opinion's share is below `confidence`, up to `at_most`. The votes live in the sample's
state, so a poll survives any restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.task.results import Result
from gpt_batch_api.task.samples import Sample

STATE = "opinions"


@dataclass(frozen=True)
class Majority:
    """The end of a poll. `opinion` is None if nobody gave one."""

    opinion: str | None
    confidence: float
    """Share of the votes that went to `opinion`, 0…1."""
    votes: dict[str, int]
    """Votes by opinion, most first."""
    failed: int
    """How many of those asked gave no opinion."""


@dataclass(frozen=True)
class OpinionPoll:
    """How many opinions are wanted. A sample's state must be a dict (the default)."""

    at_least: int = 1
    at_most: int = 1
    confidence: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.at_least <= self.at_most:
            raise SettingError(
                f"opinions_min is {self.at_least} and opinions_max is {self.at_most}: it must be 1 ≤ min ≤ max.",
                "opinions_min",
                "opinions_max",
            )
        if not 0 <= self.confidence <= 1:
            raise SettingError(f"confidence is {self.confidence:g}, but must be between 0 and 1.", "confidence")

    def requests(self, question: GPTRequest) -> Iterator[GPTRequest]:
        """The first opinions to ask for: *question* with the numbers 0 … at_least − 1."""
        return (replace(question, number=number) for number in range(self.at_least))

    def cast(self, sample: Sample, result: Result, opinion: str | None, *, question: GPTRequest) -> Majority | None:
        """Count one opinion (None: the request failed). The majority, once the poll is over; until then None.

        Asks for more opinions by itself. *question* is the same as in `requests`.
        """
        poll = sample.state.setdefault(STATE, {"asked": self.at_least, "votes": {}})
        poll["votes"][str(result.number)] = opinion
        if len(poll["votes"]) < poll["asked"]:
            return None
        majority = self._count(poll["votes"])
        if majority.confidence < self.confidence and poll["asked"] < self.at_most:
            sample.ask(replace(question, number=poll["asked"]))
            poll["asked"] += 1
            return None
        return majority

    def _count(self, votes: dict[str, Any]) -> Majority:
        given = Counter(vote for _, vote in sorted(votes.items(), key=lambda item: int(item[0])) if vote is not None)
        ranked = given.most_common()
        total = sum(given.values())
        return Majority(
            opinion=ranked[0][0] if ranked else None,
            confidence=ranked[0][1] / total if ranked else 0.0,
            votes=dict(ranked),
            failed=len(votes) - total,
        )
