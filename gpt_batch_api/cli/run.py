"""`gpt-batch-api run`: a whole job in one line, from a table to a table."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_batch_api.cli.options import SettingsHelp, add_settings, settings_from_args
from gpt_batch_api.cli.tasks import not_begun_document
from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.domain.errors import SettingError, UserError
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.words import count

if TYPE_CHECKING:
    from gpt_batch_api.engine.session import RunResult
    from gpt_batch_api.table_task import TableTask
    from gpt_batch_api.tables.output import OutputTable, Summary
    from gpt_batch_api.tables.question import Question
    from gpt_batch_api.tables.selection import Selection

logger = logging.getLogger("gpt_batch_api")

_OWN = {
    "model": "model that answers, gpt-4o-mini for example",
    "temperature": "how freely the model chooses its words, 0 to 2 (default: the model's own)",
    "top_p": "share of the likeliest words that the model chooses from, 0 to 1 (default: the model's own)",
    "max_completion_tokens": "most output tokens of an answer; longer ones are cut off (default: the model's own)",
}
"""Settings that are part of the question here."""
_NOT_HERE = ("task", "chat_endpoint", "opinions_min", "opinions_max", "confidence")
"""Settings of tasks that are more than one question about each row."""

_DESCRIPTION = """\
Ask a model one question about each row of a table, and write its answers beside the rows.

  gpt-batch-api run reviews.csv --output rated.csv --model gpt-4o-mini \\
      --prompt "Rate this review from 1 to 5 stars: {text}" --schema rating.json --sandbox

Try it with --sandbox first: answers are made up, nothing is paid. Kill it whenever you like; the same line continues,
and rows that were added to the input are picked up. What is answered is never paid again."""

_EPILOG = """\
Answers are in OUTPUT, one row for each row of INPUT and in its order, whenever a run ends; rows that failed are also in
OUTPUT.failed.jsonl, with reason and payload. While it runs, answers are in TASK_DIR/TASK_PREFIX_output.jsonl as they come.
Exit code: 0 done, 3 work left, 1 stopped or error, 130 interrupted. More: docs/run.md"""


class _Help(SettingsHelp, argparse.RawDescriptionHelpFormatter):
    pass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = _Help
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    files = parser.add_argument_group("input and output")
    files.add_argument("input", metavar="INPUT", type=Path, help="table to read: .csv, .tsv, .jsonl or .parquet")
    files.add_argument(
        "--output", metavar="OUTPUT", type=Path, required=True, help="table to write: .csv, .tsv, .jsonl or .parquet"
    )
    files.add_argument(
        "--columns",
        metavar="NAMES",
        help="columns of the input that the output has too, with commas between (default: all)",
    )
    files.add_argument(
        "--delimiter", metavar="CHAR", help="what separates the cells of a CSV input (default: found out)"
    )
    files.add_argument("--encoding", metavar="NAME", help="encoding of a CSV or JSONL input (default: utf-8)")
    files.add_argument("--json", action="store_true", help="print a summary as JSON at the end; the log goes to stderr")
    files.add_argument(
        "--task_prefix",
        "--task-prefix",
        metavar="NAME",
        help="prefix of the files that the job keeps in task_dir (default: OUTPUT without its ending)",
    )
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--key", metavar="COLUMN", help="column by which a row is known again (default: its number and its content)"
    )
    rows.add_argument(
        "--where",
        metavar="CONDITION",
        help="ask only about these rows: columns, == != < <= > >= in, and or not, len() lower(); "
        'for example: stars >= 4 and "refund" in text',
    )
    rows.add_argument("--limit", metavar="NUM", type=int, help="ask only about the first NUM rows (that fit --where)")
    question = parser.add_argument_group("question")
    question.add_argument(
        "--prompt", metavar="TEXT", help="the prompt, with columns in braces: {text}; a literal brace: {{"
    )
    question.add_argument("--prompt_file", "--prompt-file", metavar="FILE", type=Path, help="the prompt from a file")
    question.add_argument("--system", metavar="TEXT", help="a system message before the prompt")
    question.add_argument(
        "--schema",
        metavar="SCHEMA",
        help="what answers look like: FILE.json (a JSON schema), module:Model or path.py:Model (pydantic); default: text",
    )
    question.add_argument(
        "--image",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column with pictures: path (from the input's folder), address or data URI; may be given several times",
    )
    for name, told in _OWN.items():
        flags = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        question.add_argument(*flags, metavar="NAME" if name == "model" else "NUM", help=told)
    add_settings(parser, exclude=(*_OWN, *_NOT_HERE, "task_prefix"))


def run(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.table_task import TableTask
    from gpt_batch_api.tables.selection import Selection
    from gpt_batch_api.tables.sources import open_file
    from gpt_batch_api.utils import configure_logging

    configure_logging(stream=sys.stderr if arguments.json else sys.stdout)
    settings = _settings(arguments)
    source = open_file(arguments.input, delimiter=arguments.delimiter, encoding=arguments.encoding)
    selection = Selection(source, _question(arguments), needed=_wanted_columns(arguments.columns) or ())
    task = TableTask(selection, settings)
    for_real = not (settings.general.dryrun or settings.extra.estimate)
    if for_real and settings.task.run:
        _check_output(arguments, task)
    result = task.run_to_end()
    output, summary = _output(arguments, selection), None
    if for_real and settings.task.run and result.over.ending is not Ending.INTERRUPTED:  # then there is no time for it
        summary = output.write(task.results(), payload_of=task.payload_of)
    elif for_real and settings.requester.wipe_task:
        output.remove()
    over = _with_latecomers(result.over, summary)
    if arguments.json:
        print(json.dumps({**_document(task, over), **_looked(task, result), **_written(summary)}, indent=2))
    elif summary is not None:
        _tell(summary)
    return over.ending.exit_code


def _with_latecomers(over: Over, summary: Summary | None) -> Over:
    """Rows that came into the input while it ran are work that is left, though all that was asked is done."""
    late = 0 if summary is None else summary.statuses.get("pending", 0)
    if over.ending is not Ending.DONE or not late:
        return over
    reason = f"the input has changed while it ran, {count(late, 'row')} not asked yet"
    logger.info("Work is left: %s. The same command continues.", reason)
    return Over(Ending.WORK_LEFT, (reason,))


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = settings_from_args(arguments)
    if settings.given("task_prefix"):
        return settings
    prefix = re.sub(r"[^\w.-]+", "_", arguments.output.stem).strip("._")[:100]
    return settings.replace(task_prefix=prefix or "run")


def _wanted_columns(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _question(arguments: argparse.Namespace) -> Question:
    from gpt_batch_api.cli.schema_argument import load_schema
    from gpt_batch_api.tables.question import Question
    from gpt_batch_api.tables.template import Template
    from gpt_batch_api.tables.where import Where

    return Question(
        prompt=Template(_prompt(arguments)),
        system=arguments.system,
        schema=None if arguments.schema is None else load_schema(arguments.schema),
        images=tuple(arguments.image),
        key=arguments.key,
        where=None if arguments.where is None else Where(arguments.where),
        limit=arguments.limit,
    )


def _prompt(arguments: argparse.Namespace) -> str:
    given, path = arguments.prompt, arguments.prompt_file
    if (given is None) == (path is None):
        what = (
            "Neither --prompt nor --prompt_file is given"
            if given is None
            else "Both --prompt and --prompt_file are given"
        )
        raise SettingError(f'{what}: give one. For example: --prompt "Rate this review: {{text}}"', "prompt")
    if path is None:
        return str(given)
    try:
        return str(path.read_text(encoding="utf-8-sig").rstrip("\n"))
    except (OSError, UnicodeError) as error:
        raise UserError(f"prompt_file is {str(path)!r}, which cannot be read: {error}.") from error


def _check_output(arguments: argparse.Namespace, task: TableTask) -> None:
    """Nothing that is not ours is overwritten, and nothing is paid for what cannot be written."""
    from gpt_batch_api.store.snapshot import take_from
    from gpt_batch_api.tables.writers import check_writable

    path: Path = arguments.output
    check_writable(path)
    if path.exists() and path.samefile(arguments.input):
        raise UserError(f"The output {path} is the input too. Name another file.")
    if path.exists() and take_from(task.workplace.store) is None:
        place = task.workplace
        raise UserError(
            f"The output {path} exists already, but the task {place.prefix!r} in {place.folder} is new. Move the file away, or "
            "name the task that made it with --task_prefix and --task_dir."
        )


def _output(arguments: argparse.Namespace, selection: Selection) -> OutputTable:
    from gpt_batch_api.tables.output import OutputTable, choose_columns

    schema = selection.question.response_schema
    return OutputTable(
        arguments.output,
        kept=choose_columns(selection.kinds, _wanted_columns(arguments.columns)),
        key_column=arguments.key,
        schema=None if schema is None else json.loads(schema.json),
    )


def _tell(summary: Summary) -> None:
    from gpt_batch_api.pricing.cost import dollars

    statuses = ", ".join(f"{number:,} {status}" for status, number in summary.statuses.items())
    print(f"{summary.output}: {summary.rows:,} rows ({statuses}), {dollars(summary.cost_pico)}")
    if summary.failed_file is not None:
        print(f"{summary.failed_file}: the rows that failed or are held, with reason and payload")


def _document(task: TableTask, over: Over) -> dict[str, Any]:
    """How the run ended."""
    place = task.workplace
    return {
        "ending": str(over.ending),
        "reasons": list(over.reasons),
        "exit_code": over.ending.exit_code,
        "task_dir": str(place.folder),
        "task_prefix": place.prefix,
    }


def _written(summary: Summary | None) -> dict[str, Any]:
    """What stands in the output; nothing if none was written."""
    if summary is None:
        return {}
    return {
        "output": str(summary.output),
        "failed_file": None if summary.failed_file is None else str(summary.failed_file),
        "rows": summary.rows,
        "statuses": dict(summary.statuses),
        "cost_pico": summary.cost_pico,
    }


def _looked(task: TableTask, result: RunResult) -> dict[str, Any]:
    """What was found by a run that has only looked, and that this is its ending; nothing for one that worked."""
    from gpt_batch_api.monitor.estimates import estimate_document

    prefix = task.workplace.prefix
    if result.over.ending is not Ending.DONE:
        return {}
    if result.estimate is not None:
        return {"ending": "estimated", "estimate": estimate_document(result.estimate, prefix=prefix)}
    if task.settings.general.dryrun:
        return {"ending": "dry run", "status": _status(task, result)}
    if task.only_looks:
        return {"ending": "looked", "status": _status(task, result)}
    return {}


def _status(task: TableTask, result: RunResult) -> dict[str, Any]:
    import time

    from gpt_batch_api.monitor.facts import facts_of
    from gpt_batch_api.monitor.report import status_document

    if result.snapshot is None:
        return not_begun_document(task.workplace)
    facts = facts_of(result.snapshot, settings=task.settings, now=time.time())
    return status_document(facts, prefix=task.workplace.prefix)
