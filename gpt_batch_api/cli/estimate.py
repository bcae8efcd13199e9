"""`gpt-batch-api estimate`."""

from __future__ import annotations

import argparse
import time

from gpt_batch_api.cli.options import add_chosen_settings, settings_from_args
from gpt_batch_api.cli.tasks import (
    add_task_arguments,
    look_at_each,
    not_begun_document,
    not_begun_line,
    print_documents,
)

_SETTINGS: dict[str, tuple[str, ...]] = {"limits": (), "costs": (), "extra": ("price_file", "strict_budget")}
"""What an estimate depends on: groups of settings, all of a group or those named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tell requests, tokens, cost in batches and by direct calls, batches and time of what is not done yet. "
        "It knows what the store knows; the flag --estimate of a task's own command asks its generator too."
    )
    add_task_arguments(parser)
    add_chosen_settings(parser, _SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.engine.estimate import estimate_stored
    from gpt_batch_api.monitor.estimates import estimate_document, estimate_lines

    settings = settings_from_args(arguments, ignore=("task_dir", "task_prefix"))
    looks = look_at_each(arguments, lambda place: estimate_stored(place.store, settings, now=time.time()))
    if arguments.json:
        documents = [
            not_begun_document(place) if found is None else estimate_document(found, prefix=place.prefix)
            for place, found in looks.found
        ]
        print_documents(documents, arguments)
        return looks.exit_code
    for place, found in looks.found:
        print(not_begun_line(place) if found is None else "\n".join(estimate_lines(found, prefix=place.prefix)))
    return looks.exit_code
