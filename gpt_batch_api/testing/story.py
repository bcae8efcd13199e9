"""What came of a task, sample by sample, in a form that can be compared and passed from process to process.

Two stories of the same answers must be the same story. Rows of a sample are compared as a set (with repetitions): their
order is that of the answers, which is nobody's promise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt_batch_api.domain.request import RequestKey

MOST_CHARACTERS = 300
NOTHING = "nothing"


@dataclass
class SampleStory:
    """What came of one sample. Requests are known by (purpose, number) as text."""

    requests: dict[str, Any] = field(default_factory=dict)
    """Payload by request."""
    ends: dict[str, str] = field(default_factory=dict)
    """State by request."""
    rows: list[str] = field(default_factory=list)
    """Output rows as JSON text."""
    state: str | None = None
    """The task's own state as JSON text."""


Story = dict[str, SampleStory]
"""By sample key."""


@dataclass(frozen=True)
class Difference:
    """The first thing in which two stories differ."""

    sample_key: str
    what: str
    one: str
    other: str


def label(key: RequestKey) -> str:
    """What a request of a sample is called in its story."""
    return f"{key.purpose}#{key.number}"


def first_difference(one: Story, other: Story, *, states: bool = False) -> Difference | None:
    """Where two stories differ first: questions, then ends, then rows, then (if wanted) the task's own states."""
    looks = [_questions, _ends, _rows, *([_states] if states else [])]
    for look in looks:
        for key in sorted({*one, *other}):
            if found := look(one.get(key, SampleStory()), other.get(key, SampleStory())):
                return Difference(key, *found)
    return None


def _questions(one: SampleStory, other: SampleStory) -> tuple[str, str, str] | None:
    for name in sorted({*one.requests, *other.requests}):
        bodies = one.requests.get(name), other.requests.get(name)
        if bodies[0] == bodies[1]:
            continue
        what = f"request {_told(name)} is not the same"
        if None in bodies:
            return what, _short(bodies[0]), _short(bodies[1])
        place, first, second = next(_different_places(*bodies))
        return f"{what} at {place}", _short(first), _short(second)
    return None


def _ends(one: SampleStory, other: SampleStory) -> tuple[str, str, str] | None:
    for name in sorted({*one.ends, *other.ends}):
        ends = one.ends.get(name, "never answered"), other.ends.get(name, "never answered")
        if ends[0] != ends[1]:
            return f"the same answers let request {_told(name)} end otherwise", *ends
    return None


def _rows(one: SampleStory, other: SampleStory) -> tuple[str, str, str] | None:
    first, second = (Counter(_canonical(row) for row in story.rows) for story in (one, other))
    if first == second:
        return None
    return "the same answers give other rows", _listed(first - second), _listed(second - first)


def _states(one: SampleStory, other: SampleStory) -> tuple[str, str, str] | None:
    first, second = (None if story.state is None else _canonical(story.state) for story in (one, other))
    if first == second:
        return None
    return "the same answers give another state", _cut(first or NOTHING), _cut(second or NOTHING)


def _told(name: str) -> str:
    purpose, _, number = name.rpartition("#")
    return f"{purpose!r} #{number}" if purpose else f"#{number}"


def _different_places(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(place, value here, value there) of all that differs between two JSON documents."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted({*one, *other}):
            yield from _different_places(one.get(name), other.get(name), f"{path}.{name}" if path else name)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _different_places(first, second, f"{path}[{index}]")
    elif one != other:
        yield path or "its top", one, other


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True)


def _listed(rows: Counter[str]) -> str:
    return _cut(", ".join(rows.elements()) or NOTHING)


def _short(value: Any) -> str:
    return NOTHING if value is None else _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
