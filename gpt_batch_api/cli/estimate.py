"""`gpt-batch-api estimate`."""

from __future__ import annotations

import argparse
import time

from gpt_batch_api.cli.options import add_chosen_settings, settings_from_args
from gpt_batch_api.cli.tasks import add_task_arguments, look_at_each, print_looks

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
    print_looks(looks, arguments, document=estimate_document, lines=estimate_lines)
    return looks.exit_code
