"""A task that keeps all promises, and tasks that break one each. Other processes import them from here."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from gpt_batch_api.task_manager import GPTRequest, OpinionPoll, Result, Sample, TaskManager, TaskOutputFile

WORDS = ("harbour", "thimble", "meadow", "lantern", "pebble")


class Definition(BaseModel):
    """What is asked about a word."""

    word: str
    meaning: str


class Glossary(TaskManager):
    """Two opinions on each word, then a follow-up; an answer about another word is asked again."""

    name = "glossary"
    defaults: ClassVar[dict[str, Any]] = {"model": "gpt-4o-mini", "max_completion_tokens": 100}
    poll = OpinionPoll(2, 3, 0.9)

    def question(self, word: str, text: str = "Define") -> GPTRequest:
        messages = [{"role": "user", "content": f'{text} the word "{word}".'}]
        return GPTRequest(word, {**self.meta, "messages": messages, "response_format": Definition})

    def generate_requests(self) -> Iterable[GPTRequest]:
        for word in WORDS:
            yield from self.poll.requests(self.question(word))

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.purpose == "example":
            example = result.value.meaning if result.ok else None
            sample.emit({"word": sample.key, "votes": sample.state["final"], "example": example})
            return
        if result.ok and result.value.word != sample.key:
            result.retry("it is about another word")
            return
        vote = result.value.meaning[:1] if result.ok else None
        majority = self.poll.cast(sample, result, vote, question=self.question(sample.key))
        if majority is not None:
            sample.state["final"] = dict(sorted(majority.votes.items()))
            follow_up = self.question(sample.key, "Use").payload
            sample.ask(GPTRequest(sample.key, follow_up, purpose="example"))


class Simple(TaskManager):
    """One request a word, one row an answer."""

    name = "simple"
    defaults: ClassVar[dict[str, Any]] = {"model": "gpt-4o-mini", "max_completion_tokens": 100}

    def prompt(self, word: str) -> str:
        return f'Define the word "{word}".'

    def generate_requests(self) -> Iterable[GPTRequest]:
        for word in WORDS:
            messages = [{"role": "user", "content": self.prompt(word)}]
            for number in range(2):
                yield GPTRequest(
                    word, {**self.meta, "messages": messages, "response_format": Definition}, number=number
                )

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok:
            sample.emit({"word": sample.key, "number": result.number, "meaning": result.value.meaning})


class RandomPrompt(Simple):
    def prompt(self, word: str) -> str:
        return f'Define the word "{word}" in {random.randrange(10**6)} words.'


class DatedPrompt(Simple):
    def prompt(self, word: str) -> str:
        return f'It is {datetime.now():%A, %B %d}. Define the word "{word}".'


class UnorderedPrompt(Simple):
    def prompt(self, word: str) -> str:
        return f'Define the word "{word}", not {", ".join(set(WORDS) - {word})}.'


class TimeInRow(Simple):
    def process_result(self, result: Result, sample: Sample) -> None:
        sample.emit({"word": sample.key, "at": time.time()})


class GlobalCounter(Simple):
    count = 0

    def process_result(self, result: Result, sample: Sample) -> None:
        type(self).count += 1
        sample.emit({"word": sample.key, "row": type(self).count})


class RemembersInItself(Simple):
    """Emits when it has seen both answers, and keeps them in the object instead of in the state."""

    def on_enter(self) -> None:
        self.seen: dict[str, list[str]] = {}

    def process_result(self, result: Result, sample: Sample) -> None:
        meanings = self.seen.setdefault(sample.key, [])
        meanings.append(result.value.meaning if result.ok else "")
        if len(meanings) == 2:
            sample.emit({"word": sample.key, "meanings": sorted(meanings)})


class FirstComeFirstServed(Simple):
    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok and not sample.state.get("done"):
            sample.state["done"] = True
            sample.emit({"word": sample.key, "number": result.number})


class BlindToFailure(Simple):
    def process_result(self, result: Result, sample: Sample) -> None:
        sample.emit({"word": sample.key, "meaning": result.value.meaning})


class KeepsItsOwnBooks(Simple):
    """Skips in the generator what a file of its own says is done; a wipe does not know of that file."""

    @property
    def books(self) -> Path:
        return self.settings.script.task_dir / "done.txt"

    def generate_requests(self) -> Iterable[GPTRequest]:
        done = self.books.read_text(encoding="utf-8").split() if self.books.exists() else []
        return (request for request in super().generate_requests() if request.sample_key not in done)

    def process_result(self, result: Result, sample: Sample) -> None:
        super().process_result(result, sample)
        with self.books.open("a", encoding="utf-8") as books:
            books.write(f"{sample.key}\n")


class LeavesALock(Simple):
    """Refuses to start while its own lock is there, which nobody removes after a kill."""

    @property
    def lock(self) -> Path:
        return self.settings.script.task_dir / "running"

    def on_enter(self) -> None:
        if self.lock.exists():
            raise RuntimeError("it is running already")
        self.lock.touch()

    def on_exit(self) -> None:
        self.lock.unlink()


class InsistsOnItsOutput(Simple):
    """Writes down when it is complete, and cannot believe later that its output was wiped."""

    def postprocess_output(self, output: TaskOutputFile) -> None:
        output.path.with_suffix(".complete").touch()

    def validate(self) -> None:
        assert self.output is not None
        if self.output.path.with_suffix(".complete").exists() and not self.output.path.exists():
            raise RuntimeError("the output is gone")


class AcceptsNothing(Simple):
    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok:
            result.fail("never good enough")


class AsksNothing(Simple):
    def generate_requests(self) -> Iterable[GPTRequest]:
        return ()


class WantsMore(Simple):
    def __init__(self, settings: Any, *, words: str) -> None:
        super().__init__(settings)
        self.words = words
