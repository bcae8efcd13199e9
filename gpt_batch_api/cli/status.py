"""`gpt-batch-api status`."""

from __future__ import annotations

import argparse

from gpt_batch_api.cli.tasks import add_task_arguments, print_documents, workplaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.domain.settings import Settings
    from gpt_batch_api.monitor.report import status_document, status_lines
    from gpt_batch_api.store.snapshot import take_from

    settings = Settings.from_values({})
    documents = []
    for workplace in workplaces(arguments):
        taken = take_from(workplace.store)
        if taken is None:
            continue
        if arguments.json:
            documents.append(status_document(taken, settings=settings, prefix=workplace.prefix))
        else:
            print("\n".join(status_lines(taken, settings=settings, prefix=workplace.prefix)))
    if arguments.json:
        print_documents(documents, arguments)
    return 0
