"""Show stored answers to a task's code once more, in another process, order or number of pieces; tell what it does.

Nothing is sent and nothing is changed: the answers are those of a run that is over. A request is shown its answers in
the order of its attempts, and a follow-up only after it was asked; within that any order is fair.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gpt_batch_api.domain.hooks import TaskHooks, ToHand
from gpt_batch_api.domain.request import GPTRequest
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.endpoints.base import Endpoint, encode
from gpt_batch_api.store import whole
from gpt_batch_api.testing.story import SampleStory, Story, label


@dataclass
class Journal:
    """How far a replay is; a next process can go on from it."""

    story: Story = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)
    """Answers that were shown."""

    def sample(self, key: str) -> SampleStory:
        """The story of a sample so far."""
        return self.story.setdefault(key, SampleStory())

    def as_json(self) -> dict[str, Any]:
        """A document for another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Journal:
        """What `as_json` made."""
        return cls({key: SampleStory(**told) for key, told in document["story"].items()}, document["seen"])


def stored_story(db: sqlite3.Connection) -> Story:
    """What the store says came of the task."""
    journal = Journal()
    for sample in whole.samples(db):
        told = journal.sample(sample.key)
        told.state, told.rows = sample.state, list(sample.rows)
    for request in whole.requests(db):
        told = journal.sample(request.key.sample_key)
        told.requests[label(request.key)] = json.loads(request.body)
        told.ends[label(request.key)] = request.state
    return journal.story


def replay(
    hooks: TaskHooks,
    answers: Sequence[ToHand],
    journal: Journal,
    *,
    endpoint: Endpoint,
    chance: random.Random | None,
    share: float,
) -> None:
    """Show *answers* until *journal* has *share* of them, oldest first or (with *chance*) in any fair order."""
    for request in hooks.requests():
        _note_asked(journal, request, endpoint)
    seen = set(journal.seen)
    left = [answer for answer in answers if answer.response_id not in seen]
    while len(journal.seen) < share * len(answers) and (open_now := _first_of_each_open_request(left, journal)):
        answer = chance.choice(open_now) if chance else open_now[0]
        left.remove(answer)
        _show(hooks, answer, journal, endpoint)


def _first_of_each_open_request(left: Sequence[ToHand], journal: Journal) -> list[ToHand]:
    first: dict[int, ToHand] = {}
    for answer in left:
        told, name = journal.sample(answer.key.sample_key), label(answer.key)
        if name in told.requests and told.ends.get(name, RequestState.QUEUED) == RequestState.QUEUED:
            first.setdefault(answer.request_id, answer)
    return list(first.values())


def _show(hooks: TaskHooks, answer: ToHand, journal: Journal, endpoint: Endpoint) -> None:
    told = journal.sample(answer.key.sample_key)
    handed = hooks.hand([answer], {answer.sample_id: told.state})
    told.state = handed.states.get(answer.sample_id, told.state)
    told.rows += (row for _, _, row in handed.rows)
    told.ends[label(answer.key)] = handed.ended[0].state
    for request in handed.asked:
        _note_asked(journal, request, endpoint)
    journal.seen.append(answer.response_id)


def _note_asked(journal: Journal, request: GPTRequest, endpoint: Endpoint) -> None:
    payload = request.payload() if callable(request.payload) else request.payload
    body = json.loads(encode(endpoint.prepare(payload).body))
    journal.sample(request.sample_key).requests[label(request.key)] = body
