"""Rate the reviews of a CSV file, configured by hydra.

    python app.py gpt.sandbox=true
    python app.py gpt.sandbox=true gpt.task_prefix=food 'question="How many stars, from 1 to 5, for the food alone?"'

The settings of gpt_batch_api are the node `gpt` of the app's own configuration (config/config.yaml). What is typed counts
as typed: it wins over the environment, which wins over the file.
"""

import csv
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import hydra
from omegaconf import DictConfig
from pydantic import BaseModel

from gpt_batch_api import GPTRequest, Result, Sample, Settings, TaskManager
from gpt_batch_api.utils import configure_logging, settings_from_config

HERE = Path(__file__).parent
logger = logging.getLogger("reviews")


class Rating(BaseModel):
    """What the model answers."""

    stars: Literal[1, 2, 3, 4, 5]
    reason: str


class Reviews(TaskManager):
    """Rate the rows of a table."""

    name = "reviews"
    defaults: ClassVar[Mapping[str, Any]] = {"model": "gpt-4o-mini", "max_completion_tokens": 100}

    def __init__(self, settings: Settings, *, table: Path, question: str) -> None:
        super().__init__(settings)
        self.table = table
        self.question = question

    def generate_requests(self) -> Iterable[GPTRequest]:
        with self.table.open(newline="", encoding="utf-8-sig") as stream:
            for row in csv.DictReader(stream):
                messages = [{"role": "user", "content": f"{self.question}\n\n{row['text']}"}]
                yield GPTRequest(row["id"], {**self.meta, "messages": messages, "response_format": Rating})

    def process_result(self, result: Result, sample: Sample) -> None:
        if result.ok:
            sample.emit({"id": sample.key, **result.value.model_dump()})


@hydra.main(version_base="1.3", config_path="config", config_name="config")
def main(config: DictConfig) -> None:
    """Run the task as far as it goes; the exit code tells how far that was."""
    configure_logging()
    settings = settings_from_config(config.gpt)
    for name in sorted(name for name in config.gpt if settings.given(name)):
        logger.info("%s is from the %s", name, settings.source(name))
    raise SystemExit(Reviews(settings, table=HERE / config.table, question=config.question).main())


if __name__ == "__main__":
    main()
