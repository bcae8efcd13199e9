"""`gpt-batch-api reprocess`, and the flag `--reprocess` of a task's own script."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpt_batch_api.cli.asking import agreed
from gpt_batch_api.cli.options import add_chosen_settings, settings_from_args
from gpt_batch_api.cli.selecting import add_selection, selection_from
from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.selection import Selection

if TYPE_CHECKING:
    from gpt_batch_api.engine.session import RunResult
    from gpt_batch_api.task_manager import TaskManager

_SETTINGS: dict[str, tuple[str, ...]] = {
    "script": ("task_prefix", "task_dir", "model", "temperature", "top_p", "max_completion_tokens", "opinions_min",
               "opinions_max", "confidence"),
    "general": ("dryrun", "endpoint"),
    "task": ("postprocess_output",),
    "requester": ("autocreate_working_dir", "lock_timeout", "lock_poll_interval", "lock_status_interval",
                  "token_estimator_warn", "max_retries", "auto_parse"),
    "costs": (),
    "extra": ("strict_budget", "keep_responses", "price_file", "yes", "verbosity"),
}  # fmt: skip
"""What a reprocess depends on: groups of settings, all of a group or those named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show stored answers to the present code of a task once more: samples, rows and follow-ups are made anew, without "
        "a call and without cost. What would change is told first; it is done with --yes, or when you say so. The flag "
        "--reprocess of a task's own script does the same for all of its samples."
    )
    parser.add_argument(
        "code", metavar="CODE", help="the task's class: script.py, script.py:TaskClass or module:TaskClass"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of lines; never ask")
    add_selection(parser)
    add_chosen_settings(parser, _SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.cli.task_code import task_class
    from gpt_batch_api.utils import configure_logging

    settings = settings_from_args(arguments)
    selection = selection_from(arguments)
    with task_class(arguments.code) as kind:
        if arguments.json:
            return _as_json(kind(settings, verbosity="quiet"), selection)
        configure_logging()
        return show_and_apply(kind(settings), selection, tell=print).over.ending.exit_code


def show_and_apply(task: TaskManager, selection: Selection, *, tell: Callable[[str], object]) -> RunResult:
    """Tell what a reprocess of *task* would change, ask, and do it."""
    from gpt_batch_api.engine.session import RunResult
    from gpt_batch_api.monitor.reprocess import preview_lines

    found = task.preview_reprocess(selection)
    for line in preview_lines(found, prefix=task.workplace.prefix):
        tell(line)
    unchanged = RunResult(Over(Ending.DONE), None)
    if not found.changes_something:
        tell("Nothing would change.")
        return unchanged
    if task.settings.general.dryrun or not agreed("Apply this?", yes=task.settings.extra.yes, tell=tell):
        return unchanged
    result = task.reprocess(selection)
    tell("Stopped. The next run goes on." if result.over.ending is Ending.INTERRUPTED else "Done.")
    return result


def _as_json(task: TaskManager, selection: Selection) -> int:
    from gpt_batch_api.monitor.reprocess import preview_document

    found = task.preview_reprocess(selection)
    applies = task.settings.extra.yes and found.changes_something
    ending = task.reprocess(selection).over.ending if applies else Ending.DONE
    applied = applies and ending is Ending.DONE
    print(json.dumps(preview_document(found, prefix=task.workplace.prefix, applied=applied), indent=2))
    return ending.exit_code
