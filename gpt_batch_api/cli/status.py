"""`gpt-batch-api status`."""

from __future__ import annotations

import argparse

from gpt_batch_api.cli.tasks import add_task_arguments, look_at_each, print_looks
from gpt_batch_api.domain.workplace import Workplace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show how a task stands, also while it runs: requests, batches, what waits for what, tokens, money, limits (those of "
        "its last run), failures. Without --task_prefix: all tasks of the folder."
    )
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    import time

    from gpt_batch_api.monitor.facts import Facts, facts_of, settings_of
    from gpt_batch_api.monitor.report import status_document, status_lines, total_line
    from gpt_batch_api.store.snapshot import take_from

    def look(place: Workplace) -> Facts | None:
        taken = take_from(place.store)
        return None if taken is None else facts_of(taken, settings=settings_of(taken), now=time.time())

    looks = look_at_each(arguments, look)
    print_looks(looks, arguments, document=status_document, lines=status_lines)
    snapshots = [facts.snapshot for _, facts in looks.found if facts is not None]
    if len(snapshots) > 1 and not arguments.json:
        print(total_line(snapshots))
    return looks.exit_code
