"""Any story of rows, kills, and rows taken back ends with exactly the rows, once, in order."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gpt_batch_api.sinks.jsonl import JsonLines, Parts
from tests.sinks.rig import Store, deliver, deliver_until_killed, lines_of, row

FORMS = {
    "one file": Parts(),
    "by entries": Parts(max_entries=3),
    "single rows": Parts(max_entries=1),
    "by bytes": Parts(max_bytes=70),
    "by both": Parts(max_entries=4, max_bytes=90),
}

QUICK = settings(max_examples=80, phases=(Phase.explicit, Phase.reuse, Phase.generate))
"""Files are made durable all the time, so shrinking would take long."""


class Story:
    """A task that makes rows, delivers them, is killed at bad moments, and takes rows back."""

    def __init__(self, folder: Path, parts: Parts) -> None:
        self.base = folder / "out"
        self.parts = parts
        self.store = Store()

    @property
    def output(self) -> JsonLines:
        """As a new process sees it."""
        return JsonLines(self.base, parts=self.parts)

    def restart(self) -> None:
        """Another process looks at the files before anything else."""
        self.output.check(self.store.delivered)

    def finish(self) -> None:
        """All goes well now: the files hold the rows, and there are no others."""
        self.restart()
        deliver(self.output, self.store)
        assert lines_of(*self.output.files()) == self.store.rows
        assert sum(part.rows for part in self.store.delivered) == len(self.store.rows)
        assert {path.name for path in self.base.parent.iterdir()} == {part.file_name for part in self.store.delivered}


class Event(Protocol):
    """Something that happens to the task."""

    def happen(self, story: Story) -> None: ...


@dataclass(frozen=True)
class Add:
    """The task makes rows of these widths."""

    widths: list[int]

    def happen(self, story: Story) -> None:
        for width in self.widths:
            story.store.add(row(story.store.last + 1, width=width))


@dataclass(frozen=True)
class Deliver:
    """All goes well."""

    def happen(self, story: Story) -> None:
        deliver(story.output, story.store)
        assert lines_of(*story.output.files()) == story.store.rows


@dataclass(frozen=True)
class TakeOut:
    """Rows are gone: a wipe, or other code of the task."""

    places: frozenset[int]

    def happen(self, story: Story) -> None:
        story.store.take_out(self.places)


@dataclass(frozen=True)
class KilledBeforeCommit:
    """What was written is durable; so many positions are committed, and the next one is not."""

    commits: int

    def happen(self, story: Story) -> None:
        deliver_until_killed(story.output, story.store, commits=self.commits)
        story.restart()


@dataclass(frozen=True)
class KilledWhileWriting:
    """After so many rows."""

    rows: int

    def happen(self, story: Story) -> None:
        deliver_until_killed(story.output, story.store, commits=99, rows=self.rows)
        story.restart()


@dataclass(frozen=True)
class KilledInARow:
    """Some bytes of the next row stand where it will go."""

    torn: int

    def happen(self, story: Story) -> None:
        line = row(story.store.last + 1).encode() + b"\n"
        story.store.add(row(story.store.last + 1))
        written = [part for part in story.store.delivered if story.base.with_name(part.file_name).exists()]
        if not written or written[-1].last_output != story.store.last - 1:
            return  # other rows come before it
        full = story.parts.is_full(written[-1], line)
        with story.output.part_path(written[-1].part + full).open("ab") as stream:
            stream.write(line[: self.torn])
        story.restart()


@dataclass(frozen=True)
class MoveAway:
    """The user moves a file away."""

    which: int

    def happen(self, story: Story) -> None:
        for part in story.store.delivered[self.which : self.which + 1]:
            story.base.with_name(part.file_name).unlink(missing_ok=True)
        story.restart()


growing: st.SearchStrategy[Event] = st.builds(Add, st.lists(st.integers(0, 20), min_size=1, max_size=5))
kills: st.SearchStrategy[Event] = (
    st.builds(KilledBeforeCommit, st.integers(0, 3))
    | st.builds(KilledWhileWriting, st.integers(0, 6))
    | st.builds(KilledInARow, st.integers(1, 30))
)
rebuilds: st.SearchStrategy[Event] = st.builds(TakeOut, st.frozensets(st.integers(0, 7), max_size=4)) | st.builds(
    MoveAway, st.integers(0, 3)
)
steady: st.SearchStrategy[Event] = growing | st.just(Deliver()) | kills


def stories(event: st.SearchStrategy[Event], *, trouble: st.SearchStrategy[Event]) -> st.SearchStrategy[list[Event]]:
    """Events in any order, and now and then a whole chapter: rows are delivered, then there is trouble."""
    chapter = st.tuples(growing, st.just(Deliver()), trouble, event)
    alone = event.map(lambda one: (one,))
    return st.lists(alone | chapter, max_size=6).map(lambda chapters: list(chain.from_iterable(chapters)))


def play(events: list[Event], parts: Parts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder), parts)
        for event in events:
            event.happen(story)
        story.finish()


@pytest.mark.parametrize("form", FORMS)
@QUICK
@given(events=stories(steady, trouble=kills))
def test_whatever_kills_a_delivery_every_row_is_there_once_in_order(form: str, events: list[Event]) -> None:
    play(events, FORMS[form])


@pytest.mark.parametrize("form", FORMS)
@QUICK
@given(events=stories(steady | rebuilds, trouble=rebuilds))
def test_whatever_is_taken_back_or_moved_away_meanwhile_too(form: str, events: list[Event]) -> None:
    play(events, FORMS[form])
