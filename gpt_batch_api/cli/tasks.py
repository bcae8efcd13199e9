"""What the commands that look at tasks have in common: which tasks, and how the answer is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.workplace import Workplace

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")


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
    """The task that is meant; in a folder the only one that has begun. Raises UserError if it could be none or several."""
    found = list(workplaces(arguments))
    found = found if len(found) == 1 else [place for place in found if _may_have_begun(place)] or found
    if len(found) > 1:
        names = ", ".join(place.prefix for place in found)
        raise UserError(f"There are several tasks in {arguments.task_dir}. Say which with --task_prefix: {names}.")
    return found[0]


def _may_have_begun(place: Workplace) -> bool:
    """Whether there is a task, or something that cannot be read."""
    from gpt_batch_api.store.connection import reading
    from gpt_batch_api.store.tasks import has_begun

    try:
        with reading(place.store) as db:
            return has_begun(db)
    except UserError:
        return True


@dataclass(frozen=True)
class Looks(Generic[T]):
    """What was found of each task that could be read; the exit code is 1 if there are others."""

    found: Sequence[tuple[Workplace, T]]
    exit_code: int


def look_at_each(arguments: argparse.Namespace, look: Callable[[Workplace], T]) -> Looks[T]:
    """Have a *look* at each task that is meant.

    One of a folder that cannot be read is told in a line on standard error, and hides none of the others. Raises UserError
    if it was named.
    """
    found, exit_code = [], 0
    for place in workplaces(arguments):
        try:
            found.append((place, look(place)))
        except UserError as error:
            if arguments.task_prefix is not None:
                raise
            print(f"error: task {place.prefix}: {error}", file=sys.stderr)
            exit_code = 1
    return Looks(found, exit_code)


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


def print_looks(
    looks: Looks[T | None],
    arguments: argparse.Namespace,
    *,
    document: Callable[..., dict[str, Any]],
    lines: Callable[..., Iterable[str]],
) -> None:
    """Print what was found of each task: by *document* or *lines*, which get it and the task's prefix. None: not begun."""
    if arguments.json:
        documents = [
            not_begun_document(place) if found is None else document(found, prefix=place.prefix)
            for place, found in looks.found
        ]
        print_documents(documents, arguments)
        return
    for place, found in looks.found:
        print(f"Task {place.prefix}: not begun" if found is None else "\n".join(lines(found, prefix=place.prefix)))


def not_begun_document(place: Workplace) -> dict[str, Any]:
    """A task of which only the files are there, for scripts."""
    return {"task": place.prefix, "begun": False}


def print_documents(documents: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print one document if one task was named, else a list of them."""
    print(json.dumps(documents if arguments.task_prefix is None else documents[0], indent=2))
