"""`gpt-batch-api doctor`."""

from __future__ import annotations

import argparse

from gpt_batch_api.cli.tasks import add_task_arguments, print_documents, workplaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code: 0 if nothing is wrong, 1 if something is."
    add_task_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.engine.doctor import examine
    from gpt_batch_api.monitor.health import health_document, health_lines

    found = [examine(workplace) for workplace in workplaces(arguments)]
    if arguments.json:
        print_documents([health_document(diagnosis) for diagnosis in found], arguments)
    else:
        print("\n".join(line for diagnosis in found for line in health_lines(diagnosis)))
    return 0 if all(diagnosis.healthy for diagnosis in found) else 1
