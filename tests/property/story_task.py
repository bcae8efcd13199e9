"""The task of the stories: a story chooses what its code does, and its log tells what only the process itself can see."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.clock import Clock
from gpt_batch_api.engine.session import Seams
from gpt_batch_api.task_manager import Result, Sample, exit_code
from gpt_batch_api.wire.connections import RawReply
from gpt_batch_api.wire.transport import Server, Transport
from tests.toy import QUICK, ToyTask

KEYS = tuple(f"word-{index:05}" for index in range(12))
QUESTIONS = 8
MISTAKE = "a mistake of the user"
AT_ONCE = "direct calls at once: "


def question_of(key: str) -> str:
    """The word that a sample asks about: its own key, but the last ones ask what the first ones ask."""
    return KEYS[KEYS.index(key) % QUESTIONS]


@dataclass(frozen=True)
class Code:
    """What the task's code does at present."""

    count: int = 0
    """So many samples there are."""
    breaks: str | None = None
    """It fails for the answer of this sample."""
    doubts: frozenset[str] = frozenset()
    """It sends the first answers of these samples back."""


class StoryTask(ToyTask):
    """Each question has a length of its own: by it the server's ledger shows what was asked."""

    code = Code()

    def payload(self, key: str) -> dict[str, Any]:
        word = question_of(key)
        again = " Again." * KEYS.index(word)
        return {**super().payload(word), "messages": [{"role": "user", "content": f'Tell me about "{word}".{again}'}]}

    def process_result(self, result: Result, sample: Sample) -> None:
        if sample.key == self.code.breaks:
            raise RuntimeError(MISTAKE)
        if result.ok and sample.key in self.code.doubts and result.attempt == 1:
            result.retry("not sure")
            return
        super().process_result(result, sample)


class Counted(Transport):
    """Says when more direct calls are on their way at once than ever before in this run."""

    _now = _most = 0

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> RawReply:
        self._now += 1
        if self._now > self._most:
            self._most = self._now
            print(f"{AT_ONCE}{self._most}", flush=True)  # noqa: T201 - into the log
        try:
            return await super().post(path, body, timeout_s=timeout_s)
        finally:
            self._now -= 1


def _counted(server: Server, clock: Clock) -> Transport:
    return Counted(server, clock=clock)


def play(folder: Path, url: str, *, code: Code, values: dict[str, Any]) -> int:
    """One run; its exit code. All that it tells goes into its log."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("gpt_batch_api").setLevel(logging.INFO)

    def job() -> int:
        quick = {**QUICK, "assumed_completion_ratio": 1.0}
        task = StoryTask(
            client_base_url=url, task_dir=folder, seams=Seams(make_transport=_counted), **{**quick, **values}
        )
        task.count, task.code = code.count, code
        return task.main()

    return exit_code(job)
