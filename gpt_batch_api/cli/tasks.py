"""What the commands that look at tasks have in common: which tasks, and how the answer is printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.workplace import Workplace


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Which tasks, and in which form to tell."""
    parser.add_argument(
        "--task_dir", "--task-dir", metavar="DIR", type=Path, default=Path("tasks"), help="folder of the tasks"
    )
    parser.add_argument(
        "--task_prefix", "--task-prefix", metavar="NAME", help="prefix of the task (default: all of them)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of lines")


def workplaces(arguments: argparse.Namespace) -> Iterator[Workplace]:
    """The tasks that are meant, one or all of the folder. Raises UserError if there is none."""
    folder, prefix = arguments.task_dir, arguments.task_prefix
    if prefix is not None:
        found = [Workplace(folder, prefix)]
        if not found[0].store.exists():
            raise UserError(f"There is no task {prefix!r} in {folder}.")
    else:
        stores = sorted(folder.glob("*_state.db")) if folder.is_dir() else []
        found = [Workplace(folder, store.name.removesuffix("_state.db")) for store in stores]
        if not found:
            raise UserError(f"There are no tasks in {folder}. Name their folder with --task_dir.")
    return iter(found)


def print_documents(documents: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print one document if one task was named, else a list of them."""
    print(json.dumps(documents[0] if arguments.task_prefix and documents else documents, indent=2))
