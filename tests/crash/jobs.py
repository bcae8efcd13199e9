"""Jobs for the crash tests; each is a function that a new process can find by name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gpt_batch_api.cli.main import main as command
from gpt_batch_api.domain.clock import Clock, HurriedClock, SystemClock
from gpt_batch_api.engine.session import Seams
from gpt_batch_api.task_manager import (
    DataclassListOutputFile,
    DataclassOutputFile,
    GPTRequest,
    OpinionPoll,
    Result,
    Sample,
    TaskOutputFile,
)
from tests.store import first_schema
from tests.toy import QUICK, ToyTask

LAG_SCALE = 20.0
"""Simulated seconds in a real one, where lists are behind: what the machine takes is little against the lag then."""


class Impatient(SystemClock):
    """The machine's clock, but nobody sleeps long: who waits looks twenty times as often."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / 20)


def run_toy(kind: type[ToyTask], folder: Path, url: str, *, clock: Clock | None = None, **settings: Any) -> int:
    """Run a toy task in *folder*; its exit code."""
    values = {**QUICK, **settings}
    return kind(client_base_url=url, task_dir=folder, seams=Seams(clock=clock or Impatient()), **values).main()


# ---------------------------------------------------------------- batches


def two_batches(folder: Path, url: str, **settings: Any) -> int:
    """8 requests in 2 batches, one row a line."""
    return run_toy(ToyTask, folder, url, **{"max_batch_requests": 4, **settings})


def two_batches_with_lagging_lists(folder: Path, url: str, **settings: Any) -> int:
    """The same against a server whose lists show new things late, but earlier than `list_lag_wait`."""
    clock = HurriedClock(time.time(), LAG_SCALE)
    return two_batches(folder, url, clock=clock, list_lag_wait=60.0, remote_update_interval=2.0, **settings)


def nothing_more_may_go(folder: Path, url: str) -> int:
    """No batch may be created any more."""
    return two_batches(folder, url, max_remote_batches=0)


def one_batch(folder: Path, url: str) -> int:
    """The first of the two batches, to the end."""
    return two_batches(folder, url, max_session_requests=4)


def wipe_requests(folder: Path, url: str) -> int:
    """Forget what is under way, then run to the end."""
    return two_batches(folder, url, wipe_requests=True)


def wipe_with_lagging_lists(folder: Path, url: str) -> int:
    """Forget what is under way where lists show new things late, then run to the end."""
    return two_batches_with_lagging_lists(folder, url, wipe_requests=True)


def wipe_by_command(folder: Path, url: str) -> int:
    """The same by a command that does not know the task's code."""
    words = ("--client_base_url", url, "--openai_api_key", "sk-test", "--list_lag_wait", "0.2", "--yes")
    return command(["wipe", "requests", "--task_dir", str(folder), *words]) or two_batches(folder, url)


def whole(folder: Path, url: str) -> int:
    """8 requests in one batch."""
    return run_toy(ToyTask, folder, url)


def wipe_task(folder: Path, url: str) -> int:
    """Begin from scratch and run to the end."""
    return run_toy(ToyTask, folder, url, wipe_task=True)


# ---------------------------------------------------------------- output classes


class FourWords(ToyTask):
    """4 requests, so one batch."""

    count = 4


class PartsFile(DataclassListOutputFile):
    """Three rows a part."""

    max_entries = 3


class PartsTask(FourWords):
    output_file = PartsFile


def parts(folder: Path, url: str) -> int:
    """4 requests in one batch, their rows in two parts."""
    return run_toy(PartsTask, folder, url)


class DocumentTask(FourWords):
    """Its output is one JSON document; after it is complete, its rows are counted into another file."""

    output_file = DataclassOutputFile

    def postprocess_output(self, output: TaskOutputFile) -> None:
        rows = json.loads(output.path.read_bytes())["rows"]
        (self.workplace.folder / "count.txt").write_text(str(len(rows)), encoding="utf-8")


def document(folder: Path, url: str) -> int:
    """4 requests in one batch into one document, and postprocessing."""
    return run_toy(DocumentTask, folder, url, postprocess_output="if_written")


class TableFile(TaskOutputFile):
    """A format of the task's own: tab-separated values."""

    suffix = ".tsv"

    def write(self, stream: BinaryIO, rows: Iterator[dict[str, Any]]) -> None:
        stream.writelines(f"{row['key']}\t{row['word']}\n".encode() for row in rows)


class TableTask(FourWords):
    output_file = TableFile


def custom(folder: Path, url: str) -> int:
    """4 requests in one batch, into a format of the task's own."""
    return run_toy(TableTask, folder, url)


# ---------------------------------------------------------------- direct calls, and both roads

DIRECT: dict[str, Any] = {"max_direct_concurrency": 3, "strict_budget": True}
"""Three calls in flight; each reserves its worst case, so that what is unknown counts as no less than it cost."""


def direct(folder: Path, url: str, **settings: Any) -> int:
    """8 requests by direct calls, three at a time."""
    return run_toy(ToyTask, folder, url, force_direct=True, **DIRECT, **settings)


def wipe_direct(folder: Path, url: str) -> int:
    """Forget the direct calls under way, then run to the end."""
    return direct(folder, url, wipe_requests=True)


def wipe_requests_then_direct(folder: Path, url: str) -> int:
    """Forget two batches that are under way, then ask by direct calls."""
    return two_batches(folder, url, force_direct=True, wipe_requests=True, **DIRECT)


def wipe_task_then_direct(folder: Path, url: str) -> int:
    """Begin from scratch while two batches are under way, then ask by direct calls."""
    return two_batches(folder, url, force_direct=True, wipe_task=True, **DIRECT)


class FiveWords(ToyTask):
    count = 5


def mixed(folder: Path, url: str) -> int:
    """3 of 5 requests in a batch, the remainder by direct calls."""
    return run_toy(FiveWords, folder, url, max_batch_requests=3, min_batch_requests=3, **DIRECT)


# ---------------------------------------------------------------- retries, expiry, failures


def retries(folder: Path, url: str) -> int:
    """A batch of 4, of which the server fails one and refuses another; both are asked again by direct calls."""
    return run_toy(FourWords, folder, url, min_batch_requests=3, **DIRECT)


class FussyTask(FourWords):
    """Sends each first answer about one of its words back."""

    def process_result(self, result: Result, sample: Sample) -> None:
        if sample.key.endswith("2") and result.attempt == 1:
            result.retry("once more, please")
        else:
            super().process_result(result, sample)


def task_retries(folder: Path, url: str) -> int:
    """A batch of 4, of which the task sends one back; it is asked again by a direct call."""
    return run_toy(FussyTask, folder, url, min_batch_requests=2, **DIRECT)


def expiry(folder: Path, url: str) -> int:
    """A batch of 4 that expires half done; the others are asked again by batch."""
    return run_toy(FourWords, folder, url)


def expiry_then_direct(folder: Path, url: str) -> int:
    """The same, but what expired once goes by direct calls."""
    return run_toy(FourWords, folder, url, max_expiries=1, **DIRECT)


def without_retries(folder: Path, url: str) -> int:
    """A batch of 4 in which one request fails for good."""
    return run_toy(FourWords, folder, url, max_retries=0)


def wipe_failed(folder: Path, url: str) -> int:
    """Try the failed sample again, and run to the end."""
    return run_toy(FourWords, folder, url, max_retries=0, wipe_failed=True)


class PairsTask(ToyTask):
    """Asks about each word twice; a row for the first three. A row is made by the first answer."""

    count = 4
    output_file = PartsFile

    def generate_requests(self) -> Iterable[GPTRequest]:
        for key in self.keys():
            yield from (GPTRequest(key, self.payload(key), number=number) for number in range(2))

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.number == 0 and sample.key < "word-00003":
            sample.emit({"key": sample.key, "word": result.value.word})


class ThreePairsTask(PairsTask):
    count = 3


class BuggyPairsTask(PairsTask):
    """Makes a row for the fourth word too, which then fails."""

    def process_result(self, result: Result, sample: Sample) -> None:
        if sample.key < "word-00003":
            super().process_result(result, sample)
        elif result.number == 0:
            sample.emit({"key": sample.key, "word": result.value.word})
        else:
            result.fail("not this one")


for kind in (ThreePairsTask, BuggyPairsTask):
    kind.__name__ = PairsTask.__name__


def three_pairs(folder: Path, url: str) -> int:
    """Two requests for each of three words, one row each: a full part."""
    return run_toy(ThreePairsTask, folder, url)


def wipe_pairs(folder: Path, url: str) -> int:
    """Ask about the failed word again, with corrected code."""
    return run_toy(PairsTask, folder, url, wipe_failed=True)


def take_back(folder: Path, url: str) -> int:
    """A row too much in a part of its own, which is taken back by a wipe: perhaps before it counted as delivered."""
    return run_toy(BuggyPairsTask, folder, url) or wipe_pairs(folder, url)


def wipe_failed_here(folder: Path, url: str) -> int:
    """Forget the failed sample by a command, for which nothing is on the server; then ask about it again."""
    command(["wipe", "failed", "--task_dir", str(folder), "--yes"])
    return without_retries(folder, url)


# ---------------------------------------------------------------- stored answers, corrected code


class ReasonsTask(ToyTask):
    """Asks about three words, then why; a row has both answers."""

    count = 3

    def process_result(self, result: Result, sample: Sample) -> None:
        if not result.purpose:
            sample.state["word"] = result.value.word
            sample.ask(GPTRequest(sample.key, self.payload(f"{sample.key}, why"), purpose="why"))
        else:
            sample.emit({"key": sample.key, "word": sample.state["word"], "why": result.value.word})


class BuggyReasonsTask(ReasonsTask):
    """Writes rows that should not be there."""

    def process_result(self, result: Result, sample: Sample) -> None:
        super().process_result(result, sample)
        sample.emit({"key": f"wrong {sample.key}"})


BuggyReasonsTask.__name__ = ReasonsTask.__name__


def with_a_mistake(folder: Path, url: str) -> int:
    """3 samples, a question and a follow-up each, made into wrong rows."""
    return run_toy(BuggyReasonsTask, folder, url)


def reprocess(folder: Path, url: str) -> int:
    """Show the stored answers to the corrected code."""
    return run_toy(ReasonsTask, folder, url, reprocess=True, yes=True)


def run_then_reprocess(folder: Path, url: str) -> int:
    """Go on with the job; whatever is still wrong is put right after it."""
    return run_toy(ReasonsTask, folder, url) or reprocess(folder, url)


# ---------------------------------------------------------------- deadline, identical requests, an older store


def begin_slowly(folder: Path, url: str) -> int:
    """8 requests in 2 batches that never end, left alone."""
    return two_batches(folder, url, once=True)


def deadline(folder: Path, url: str) -> int:
    """Batches that never end are cancelled because of a deadline; their 8 requests go by direct calls."""
    return two_batches(folder, url, deadline="10m", **DIRECT)


class RepeatingTask(FourWords):
    """Four samples that ask two questions."""

    def payload(self, key: str) -> dict[str, Any]:
        return super().payload(f"word {int(key[-1]) % 2}")


def dedupe(folder: Path, url: str) -> int:
    """4 requests of which two wait for the answers of the others, in one batch."""
    return run_toy(RepeatingTask, folder, url, dedupe=True)


def back_to_first_schema(folder: Path, url: str) -> int:
    """Make the store one of the first schema."""
    store, new = folder / "toy_state.db", folder / "new.db"
    first_schema.make_from(store, new)
    for name in (store.name, f"{store.name}-wal", f"{store.name}-shm"):
        (folder / name).unlink(missing_ok=True)
    new.rename(store)
    return 0


def migration(folder: Path, url: str) -> int:
    """A store of the first schema, half done, is brought up to date, and the job is finished."""
    return two_batches(folder, url)


# ---------------------------------------------------------------- opinions and follow-ups


@dataclass
class Verdict:
    """A row of the opinions task."""

    key: str
    opinion: str
    why: str


class VerdictFile(DataclassListOutputFile):
    Dataclass = Verdict


class OpinionsTask(ToyTask):
    """Asks for opinions until two of three agree, then why."""

    count = 2
    output_file = VerdictFile
    poll = OpinionPoll(at_least=2, at_most=3, confidence=0.6)

    def generate_requests(self) -> Iterable[GPTRequest]:
        for key in self.keys():
            yield from self.poll.requests(self.question(key))

    def question(self, key: str, *, purpose: str = "") -> GPTRequest:
        return GPTRequest(key, self.payload(key), purpose=purpose)

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.purpose == "why":
            sample.emit(Verdict(sample.key, sample.state["opinion"], result.value.word))
            return
        opinion = "no" if result.number == 1 else "yes"
        majority = self.poll.cast(sample, result, opinion, question=self.question(sample.key))
        if majority is not None:
            sample.state["opinion"] = majority.opinion
            sample.ask(self.question(sample.key, purpose="why"))


def opinions(folder: Path, url: str) -> int:
    """2 samples: two opinions each in a batch, a third and a follow-up by direct calls."""
    return run_toy(OpinionsTask, folder, url, min_batch_requests=3, **DIRECT)


# ---------------------------------------------------------------- storms


def in_a_storm(folder: Path, url: str, *, words: int, clock: HurriedClock) -> int:
    """Many requests in some seven batches, a remainder of a few by direct calls."""

    class ManyWords(ToyTask):
        count = words

    values: dict[str, Any] = {
        **QUICK,
        "max_batch_requests": max(2, words // 7 - 1),
        "min_batch_requests": 10 + words // 50,
        "max_direct_concurrency": STORM_IN_FLIGHT,
        "max_retries": 9,
        "strict_budget": True,
        "remote_update_interval": 2.0,
        "list_lag_wait": STORM_LAG_WAIT_S,
    }
    return ManyWords(client_base_url=url, task_dir=folder, seams=Seams(clock=clock), **values).main()


STORM_IN_FLIGHT = 8
STORM_LAG_WAIT_S = 100.0
