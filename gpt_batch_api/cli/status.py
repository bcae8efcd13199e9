"""`gpt-batch-api status`."""

from __future__ import annotations

import argparse

from gpt_batch_api.cli.tasks import add_task_arguments, print_documents, workplaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show how a task stands, also while it runs: requests, batches, what waits for what, tokens, money, limits (those of "
        "its last run), failures. Without --task_prefix: all tasks of the folder."
    )
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    import time

    from gpt_batch_api.monitor.facts import facts_of, settings_of
    from gpt_batch_api.monitor.report import status_document, status_lines, total_line
    from gpt_batch_api.store.snapshot import take_from

    snapshots = [
        (place.prefix, taken) for place in workplaces(arguments) if (taken := take_from(place.store)) is not None
    ]
    found = [(prefix, facts_of(taken, settings=settings_of(taken), now=time.time())) for prefix, taken in snapshots]
    if arguments.json:
        print_documents([status_document(facts, prefix=prefix) for prefix, facts in found], arguments)
        return 0
    for prefix, facts in found:
        print("\n".join(status_lines(facts, prefix=prefix)))
    if len(found) > 1:
        print(total_line([taken for _, taken in snapshots]))
    return 0
