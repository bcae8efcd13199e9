"""A small job as a user's script has it, with log lines and prints of its own: python -m tests.monitor.job [settings]"""

from __future__ import annotations

import logging

from gpt_batch_api.task_manager import Result, Sample
from tests.toy import ToyTask

logger = logging.getLogger("my_script")


class Job(ToyTask):
    """Words, and what a user's own code says about them."""

    count = 60

    def process_result(self, result: Result, sample: Sample) -> None:
        super().process_result(result, sample)
        if sample.key.endswith("0"):
            logger.info("my own line about %s", sample.key)
        if sample.key.endswith("5"):
            print("printed about", sample.key)  # noqa: T201


if __name__ == "__main__":
    raise SystemExit(Job.run_command_line())
