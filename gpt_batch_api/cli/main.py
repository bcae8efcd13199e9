"""`gpt-batch-api`: the commands beside a task's own script.

Each command is a module in this folder with `add_arguments(parser)` and `run(arguments)`, which returns the exit code. Only
the module of the command that was typed is imported, and it imports what is heavy when it runs, so help is instant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from gpt_batch_api import __version__
from gpt_batch_api.cli import options
from gpt_batch_api.domain.ending import STOPPED_AT_ONCE
from gpt_batch_api.domain.errors import GPTBatchError, InternalError

COMMANDS = {
    "run": "ask one question about each row of a table: CSV, JSONL or Parquet in and out, no Python needed",
    "new": "write a task on one page, and its test: a beginning that runs at once",
    "status": "show how a task stands (all tasks of a folder if no prefix is given)",
    "watch": "show how a run goes in another process, live (all tasks of a folder if no prefix is given)",
    "estimate": "tell tokens, cost and time of what is not done yet (all tasks of a folder if no prefix is given)",
    "inspect": "show requests of a task one by one: what was asked, answered and thought of it, and what it cost",
    "export": "write rows, responses, requests, samples or the ledger of a task to a CSV, JSON lines or Parquet file",
    "reprocess": "show stored answers to the present task code once more, without a call: see what changes, then apply",
    "wipe": "CAUTION: forget what is under way, failed samples, or all of a task: see what is lost, then do it",
    "doctor": "check a task's store and files without changing them: what is wrong, and what the next run will mend",
    "completion": "print a script that lets bash, zsh or fish complete all commands and flags",
    "sandbox": "run a local server that speaks the provider's API: made-up answers, no cost, bad weather on demand",
}

_WORKING = ("run", "reprocess", "wipe")
"""Commands that change a task. Whoever breaks off another one has only looked, and needs no word about it."""


class Command(Protocol):
    """What a module of this folder has, if it is a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what may be typed."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it. Returns the exit code: 0 done, 1 error, 3 work left, 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        overview = make_overview()
        name = overview.parse_args(argv[:1]).name
        if name is None:
            overview.print_help()
            return 0
        return command(name).run(make_parser(name).parse_args(argv[1:]))
    except InternalError:
        raise
    except GPTBatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        if argv[:1] and argv[0] in _WORKING:
            print(STOPPED_AT_ONCE, file=sys.stderr)
        return 130


def make_overview() -> argparse.ArgumentParser:
    """The parser that knows which commands there are."""
    parser = options.make_parser(
        prog="gpt-batch-api",
        description="Run huge LLM jobs through the OpenAI Batch API, safely restartable at every moment.",
        epilog="Tasks themselves are run by their scripts. Write one: gpt-batch-api new my_task",
    )
    parser.add_argument("--version", action="version", version=f"gpt-batch-api {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="name")
    for name, line in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    return parser


def make_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = options.make_parser(prog=f"gpt-batch-api {name}", description=COMMANDS[name])
    command(name).add_arguments(parser)
    return parser


def command(name: str) -> Command:
    """The module of a command."""
    return cast(Command, import_module(f"gpt_batch_api.cli.{name}"))


if __name__ == "__main__":
    raise SystemExit(main())
