"""`gpt-batch-api export`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gpt_batch_api.cli.selecting import add_selection, selection_from
from gpt_batch_api.cli.tasks import add_task_arguments, looked_at, one_workplace
from gpt_batch_api.domain.errors import OutputError, UserError
from gpt_batch_api.domain.words import count
from gpt_batch_api.domain.workplace import Workplace

WHAT = ("rows", "responses", "requests", "samples", "ledger")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write what a task's store holds to a file: CSV, JSON lines or Parquet, by the file's ending. The file is put in "
        "its place when it is whole; memory does not grow with the task. Works while the task runs."
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="FILE.csv, FILE.jsonl or FILE.parquet; replaced if there"
    )
    parser.add_argument("--what", choices=WHAT, default="rows", help=f"{', '.join(WHAT)} (rows: the task's output)")
    add_task_arguments(parser, one=True)
    add_selection(parser)


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.store.tables import TABLES
    from gpt_batch_api.tables.writers import check_writable, write_table

    place, path, selection = one_workplace(arguments), arguments.file, selection_from(arguments)
    check_writable(path)
    _refuse_own_file(path, place)
    with looked_at(place) as db:
        table = TABLES[arguments.what]
        columns = table.columns_of(db, selection)
        try:
            written = write_table(path, columns, table.read(db, selection))
        except OSError as error:
            raise OutputError(f"The file {path} cannot be written: {error.strerror or error}.") from error
    if arguments.json:
        facts = {
            "task": place.prefix,
            "what": arguments.what,
            "file": str(path),
            "rows": written,
            "columns": list(columns),
            "size_bytes": path.stat().st_size,
        }
        print(json.dumps(facts, indent=2))
    else:
        print(f"{path}: {count(written, 'row')} of {count(len(columns), 'column')}, {arguments.what} of {place.prefix}")
    return 0


def _refuse_own_file(path: Path, place: Workplace) -> None:
    """Raise UserError if *path* is a file by which the task itself lives."""
    if path.absolute().parent.resolve() == place.folder.resolve() and path.name.startswith(f"{place.prefix}_"):
        raise UserError(f"{path} has the name of a file of the task itself. Choose another name or folder.")
