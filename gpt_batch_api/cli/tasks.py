"""What the commands that look at tasks have in common: which tasks, and how the answer is printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.workplace import Workplace

if TYPE_CHECKING:
    import sqlite3


def add_task_arguments(parser: argparse.ArgumentParser, *, one: bool = False) -> None:
    """Which tasks, or which *one*, and in which form to tell."""
    default = "not needed if the folder has one only" if one else "default: all of them"
    parser.add_argument(
        "--task_dir", "--task-dir", metavar="DIR", type=Path, default=Path("tasks"), help="folder of the tasks"
    )
    parser.add_argument("--task_prefix", "--task-prefix", metavar="NAME", help=f"prefix of the task ({default})")
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


def one_workplace(arguments: argparse.Namespace) -> Workplace:
    """The task that is meant. Raises UserError if there is none, or if it could be several."""
    found = list(workplaces(arguments))
    if len(found) > 1:
        names = ", ".join(place.prefix for place in found)
        raise UserError(f"There are several tasks in {arguments.task_dir}. Say which with --task_prefix: {names}.")
    return found[0]


@contextmanager
def looked_at(place: Workplace) -> Iterator[sqlite3.Connection]:
    """The store of a task at one moment, to be read while somebody may be writing. Raises UserError if it is empty."""
    from gpt_batch_api.store.connection import reading
    from gpt_batch_api.store.tasks import has_begun

    with reading(place.store) as db:
        if not has_begun(db):
            raise UserError(f"The task {place.prefix!r} in {place.folder} has not begun.")
        db.execute("BEGIN")
        yield db


def print_documents(documents: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print one document if one task was named, else a list of them."""
    print(json.dumps(documents[0] if arguments.task_prefix and documents else documents, indent=2))
