"""`gpt-batch-api status`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gpt_batch_api.cli.tasks import add_task_arguments, print_documents, workplaces
from gpt_batch_api.domain.options import by_name
from gpt_batch_api.domain.settings import Settings, Source

if TYPE_CHECKING:
    from gpt_batch_api.store.snapshot import Snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show how a task stands, also while it runs: requests, batches, what waits for what, tokens, money, limits (those of "
        "its last run), failures. Without --task_prefix: all tasks of the folder."
    )
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.monitor.report import status_document, status_lines, total_line
    from gpt_batch_api.store.snapshot import take_from

    found = [(place.prefix, taken) for place in workplaces(arguments) if (taken := take_from(place.store)) is not None]
    if arguments.json:
        print_documents(
            [status_document(taken, settings=_settings(taken), prefix=prefix) for prefix, taken in found], arguments
        )
        return 0
    for prefix, taken in found:
        print("\n".join(status_lines(taken, settings=_settings(taken), prefix=prefix)))
    if len(found) > 1:
        print(total_line([taken for _, taken in found]))
    return 0


def _settings(taken: Snapshot) -> Settings:
    """The settings of the last run: its limits are those that batches wait for."""
    last = {} if taken.session is None else taken.session.settings
    known = {name: value for name, value in last.items() if name in by_name(Settings)}
    return Settings.from_layers({Source.FILE: known}, environ={})
