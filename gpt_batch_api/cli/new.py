"""`gpt-batch-api new`: a page of Python that is a whole task, and its test. Both run at once; what is yours is marked."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import keyword
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from gpt_batch_api.domain.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
DESCRIPTION = """\
Writes NAME.py, a task on one page (a schema, a prompt, and what to do with an answer), and test_NAME.py, which checks that
it can be killed, restarted and wiped. Both run at once, without a key.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be typed."""
    parser.description = DESCRIPTION
    parser.add_argument("task_name", metavar="NAME", help="name of the task, of its file and of its output: my_reviews")
    parser.add_argument(
        "--from",
        dest="table",
        metavar="FILE",
        type=Path,
        help="ask about each row of this CSV or TSV file (default: about three sentences in the page)",
    )
    parser.add_argument(
        "--key",
        metavar="COLUMN",
        help="column of FILE that names a row (default: the first column if it does, else the number of the row)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write both files into the present folder, and say what to do next."""
    name = check_name(arguments.task_name)
    page, test = Path(f"{name}.py"), Path(f"test_{name}.py")
    for path in (page, test):
        if path.exists():
            raise UserError(f"{path} exists already, and is not overwritten. Choose another name, or move it away.")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"There is a module {name!r} already, which {page} would hide. Choose another name.")
    if arguments.table is not None:
        parts = table_parts(read_table(arguments.table, key=arguments.key))
    elif arguments.key is not None:
        raise UserError("--key names a column of the file that --from names, which is not given.")
    else:
        parts = SENTENCES
    class_name = "".join(word.capitalize() for word in name.split("_"))
    words = {"name": name, "class_name": class_name, **parts}
    page.write_text(PAGE.substitute(words), encoding="utf-8")
    test.write_text(TEST.substitute(words), encoding="utf-8")
    print(f"Written: {page}, your task, and {test}, its test. Try them now, without a key:")
    python = _python()
    print(f"  {python} {page} --sandbox")
    print(f"  {python} -m pytest {test}" + ("" if importlib.util.find_spec("pytest") else "    (pip install pytest)"))
    return 0


def check_name(name: str) -> str:
    """*name* if a task, its file and its module can be called so. Raises UserError."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name.startswith("test_"):
        raise UserError(
            f"The name is {name!r}, but must be small letters, digits and underscores, like my_reviews; "
            "no word of Python, and not begin with test_."
        )
    return name


@dataclass(frozen=True)
class Table:
    """What a page has to know of a file of rows."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    key: str | None
    """The column that names a row; None: its number does."""


def read_table(path: Path, *, key: str | None) -> Table:
    """Look at the header of *path*, and at all rows for what names them. Raises UserError if it is no good table."""
    delimiter = DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        raise UserError(f"--from names {path}, but reads only files that end in {' or '.join(DELIMITERS)}.")
    with _explained(path), path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
        columns = tuple(next(rows, ()))
        for column in columns:
            if not column.strip() or columns.count(column) > 1:
                raise UserError(
                    f"{path} has a column {column!r} that is empty or there twice. Rename it in the first line."
                )
        if not columns:
            raise UserError(f"{path} is empty. Its first line must name the columns.")
        if key is not None and key not in columns:
            raise UserError(f"{path} has no column {key!r}. There are {', '.join(columns)}.")
        index = columns.index(key or columns[0])
        seen: set[str] = set()
        for row in filter(None, rows):
            value = row[index] if index < len(row) else ""
            if value.strip() and value not in seen:
                seen.add(value)
            elif key is None:
                return Table(path, delimiter, columns, None)
            else:
                what = f"is {value!r} again" if value.strip() else "is empty"
                raise UserError(f"Column {key!r} does not name the rows of {path}: in line {rows.line_num} it {what}.")
    return Table(path, delimiter, columns, key or columns[0])


def table_parts(table: Table) -> Mapping[str, str]:
    """The parts of a page that asks about the rows of *table*."""
    key = 'f"{number:07}"' if table.key is None else f"row[{_literal(table.key)}]"
    steady = "" if table.key is not None else " More may follow at the end, but none may move."
    delimiter = "" if table.delimiter == "," else f", delimiter={json.dumps(table.delimiter)}"
    loop = "for row in rows:" if table.key is not None else "for number, row in enumerate(rows, start=1):"
    asked = [column for column in table.columns if column != table.key] or list(table.columns)
    return {
        "imports": "import csv\n",
        "path_import": "from pathlib import Path\n",
        "items": (
            f"TABLE = Path(__file__).parent / {_literal(os.path.relpath(table.path))}\n"
            f'"""The rows that are asked about.{steady}"""\n'
            "COLUMNS = (\n" + "".join(f"    {_literal(column)},\n" for column in asked) + ")\n"
            '"""What of a row the model is told."""'
        ),
        "loop": (
            '        with TABLE.open(newline="", encoding="utf-8-sig") as stream:\n'
            f"            rows = csv.DictReader(stream{delimiter})\n"
            f"            {loop}\n"
            '                text = "\\n".join(f"{name}: {row[name]}" for name in COLUMNS)\n'
            f"                yield GPTRequest({key}, self.question(text))"
        ),
    }


SENTENCES: Mapping[str, str] = {
    "imports": "",
    "path_import": "",
    "items": """\
SENTENCES = {
    "coffee": "Great coffee, friendly staff.",
    "soup": "Waited an hour for a cold soup.",
    "train": "The train stops here every twenty minutes.",
}
\"\"\"What is asked about, by key. A key is the same in every run.\"\"\"""",
    "loop": """\
        for key, text in SENTENCES.items():
            yield GPTRequest(key, self.question(text))""",
}

PAGE = Template('''\
"""A task for gpt_batch_api. Try it without a key: python $name.py --sandbox"""

${imports}from collections.abc import Iterable, Mapping
${path_import}from typing import Any, ClassVar, Literal

from gpt_batch_api import GPTRequest, Result, Sample, TaskManager
from pydantic import BaseModel, Field

$items
PROMPT = "Is this positive, negative or neutral? Say why in one sentence."
"""Yours to change, like the schema; --wipe_task asks anew what was asked before."""


class Answer(BaseModel):
    """What the model has to answer."""

    label: Literal["positive", "negative", "neutral"]
    reason: str = Field(description="Why, in one sentence.")


class $class_name(TaskManager):
    """Tell whether texts are positive, negative or neutral."""

    name = "$name"
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "gpt-4o-mini",
        "temperature": 0.0,
        "max_completion_tokens": 200,
    }

    def generate_requests(self) -> Iterable[GPTRequest]:
        """Yield everything, every time: what is known already is passed by."""
$loop

    def question(self, text: str) -> Mapping[str, Any]:
        """The body of the call to the model."""
        messages = [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": text},
        ]
        return {**self.meta, "messages": messages, "response_format": Answer}

    def process_result(self, result: Result, sample: Sample) -> None:
        """Make a row of each good answer. One that is no good: result.retry("why")."""
        if result.ok:
            sample.emit({"key": sample.key, **result.value.model_dump()})


if __name__ == "__main__":
    raise SystemExit($class_name.run_command_line())
''')

TEST = Template('''\
"""$class_name can be killed, restarted and wiped: run with pytest, needs no key."""

from gpt_batch_api.testing import check_task

from $name import $class_name


def test_$name() -> None:
    print(check_task($class_name))
''')


def _python() -> str:
    """What to type for the Python that runs now: its environment may not be the one that is active."""
    found, this = shutil.which("python"), Path(sys.executable)
    if found and Path(found).parent == this.parent:
        return "python"
    return os.path.relpath(this) if this.is_relative_to(Path.cwd()) else str(this)


def _literal(text: str) -> str:
    """*text* as Python source, the way formatters like it."""
    return repr(text) if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Tell in one line what is wrong with a file of rows."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8: {error.reason} at byte {error.start}.") from error
    except csv.Error as error:
        raise UserError(f"{path} is no table: {error}.") from error
