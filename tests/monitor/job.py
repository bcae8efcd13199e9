"""A small job as a user's script has it, with log lines and prints of its own.

python -m tests.monitor.job [--ask] [settings]
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from gpt_batch_api.task_manager import GPTRequest, Result, Sample
from tests.toy import ToyTask

logger = logging.getLogger("my_script")


class Job(ToyTask):
    """Words, and what a user's own code says about them."""

    count = 60
    asks = False

    def generate_requests(self) -> Iterable[GPTRequest]:
        yield from super().generate_requests()
        if self.asks:
            print("You said", input("Shall I go on? "))  # noqa: T201

    def process_result(self, result: Result, sample: Sample) -> None:
        super().process_result(result, sample)
        if sample.key.endswith("0"):
            logger.info("my own line about %s", sample.key)
        if sample.key.endswith("5"):
            print("printed about", sample.key)  # noqa: T201


if __name__ == "__main__":
    Job.asks = "--ask" in sys.argv
    raise SystemExit(Job.run_command_line([argument for argument in sys.argv[1:] if argument != "--ask"]))
