"""Jobs for the crash tests; each is a function that a new process can find by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt_batch_api.task_manager import DataclassOutputFile, TaskOutputFile
from tests.toy import QUICK, ToyTask


def two_batches(folder: Path, url: str, **settings: Any) -> int:
    """8 requests in 2 batches."""
    values = {**QUICK, "max_batch_requests": 4, **settings}
    return ToyTask(client_base_url=url, task_dir=folder, **values).main()


def two_batches_with_lagging_lists(folder: Path, url: str) -> int:
    """The same against a server whose lists show new things late, but earlier than `list_lag_wait`."""
    return two_batches(folder, url, list_lag_wait=3.0)


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
    return two_batches(folder, url, wipe_requests=True, list_lag_wait=3.0)


def wipe_task(folder: Path, url: str) -> int:
    """Begin from scratch and run to the end."""
    return two_batches(folder, url, wipe_task=True)


class DocumentTask(ToyTask):
    """Its output is one JSON document; after it is complete, its rows are counted into another file."""

    output_file = DataclassOutputFile

    def postprocess_output(self, output: TaskOutputFile) -> None:
        rows = json.loads(output.path.read_bytes())["rows"]
        (self.workplace.folder / "count.txt").write_text(str(len(rows)), encoding="utf-8")


def document(folder: Path, url: str) -> int:
    """8 requests in 2 batches into one document, and postprocessing."""
    values = {**QUICK, "max_batch_requests": 4, "postprocess_output": "if_written"}
    return DocumentTask(client_base_url=url, task_dir=folder, **values).main()


def direct(folder: Path, url: str) -> int:
    """8 requests by direct calls, three at a time."""
    return two_batches(folder, url, force_direct=True, max_direct_concurrency=3)
