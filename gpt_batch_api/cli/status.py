"""`gpt-batch-api status`."""

from __future__ import annotations

import argparse

from gpt_batch_api.cli.tasks import add_task_arguments, print_documents, workplaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    import time

    from gpt_batch_api.monitor.facts import facts_of, settings_of
    from gpt_batch_api.monitor.report import status_document, status_lines
    from gpt_batch_api.store.snapshot import take_from

    documents = []
    for workplace in workplaces(arguments):
        taken = take_from(workplace.store)
        if taken is None:
            continue
        facts = facts_of(taken, settings=settings_of(taken), now=time.time())
        if arguments.json:
            documents.append(status_document(facts, prefix=workplace.prefix))
        else:
            print("\n".join(status_lines(facts, prefix=workplace.prefix)))
    if arguments.json:
        print_documents(documents, arguments)
    return 0
