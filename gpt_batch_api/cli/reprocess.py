"""`gpt-batch-api reprocess`, and the flag `--reprocess` of a task's own script."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpt_batch_api.cli.asking import agreed
from gpt_batch_api.cli.options import SettingsHelp, add_settings, settings_from_args
from gpt_batch_api.cli.selecting import add_selection, selection_from
from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.selection import Selection

if TYPE_CHECKING:
    from gpt_batch_api.engine.session import RunResult
    from gpt_batch_api.task_manager import TaskManager

_NOT_HERE = (
    "task", "chat_endpoint", "wipe_failed", "run", "reprocess", "estimate", "once", "deadline", "dedupe", "list_lag_wait",
    "stuck_after", "max_expiries",
)  # fmt: skip
"""Settings that a reprocess has no use for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = SettingsHelp
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
    add_settings(parser, groups=("script", "task", "costs", "extra"), exclude=_NOT_HERE)
    add_settings(parser, groups=("requester",), exclude=_others("requester", "max_retries", "auto_parse"))
    add_settings(parser, groups=("general",), exclude=_others("general", "endpoint"))


def _others(section: str, *names: str) -> list[str]:
    from gpt_batch_api.domain.options import options
    from gpt_batch_api.domain.settings import Settings

    return [option.name for option in options(Settings) if option.section == section and option.name not in names]


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
