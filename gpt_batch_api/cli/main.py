"""`gpt-batch-api`: commands that work on a task's folder, and the sandbox server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt_batch_api import __version__
from gpt_batch_api.domain.errors import GPTBatchError, InternalError, UserError

_ESTIMATE_SETTINGS: dict[str, tuple[str, ...]] = {"limits": (), "costs": (), "extra": ("price_file", "strict_budget")}
"""What an estimate depends on: groups of settings, all of a group or those named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 error, 3 work left, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["sandbox"]:  # the server has a parser of its own
        return _sandbox(argv[1:])
    parser = _parser(estimates=argv[:1] == ["estimate"])
    arguments = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] | None = getattr(arguments, "command", None)
    if command is None:
        parser.print_help()
        return 0
    try:
        return command(arguments)
    except InternalError:
        raise
    except GPTBatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _parser(*, estimates: bool) -> argparse.ArgumentParser:
    """All commands; settings are read only for the one that has them, so that help is instant."""
    parser = argparse.ArgumentParser(
        prog="gpt-batch-api",
        description="Run huge LLM jobs through the OpenAI Batch API, safely restartable at every moment.",
        epilog="Tasks themselves are run by their scripts; try: python -m gpt_batch_api.task_manager_demo --help",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gpt-batch-api {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_status(commands)
    _add_estimate(commands, complete=estimates)
    _add_doctor(commands)
    _add_sandbox(commands)
    return parser


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    status = commands.add_parser(
        "status", help="show how a task stands (all tasks of a folder if no prefix is given)", allow_abbrev=False
    )
    _add_task(status)
    status.set_defaults(command=_status)


def _add_task(command: argparse.ArgumentParser) -> None:
    """The arguments of a command that looks at tasks."""
    command.add_argument(
        "--task_dir", "--task-dir", metavar="DIR", type=Path, default=Path("tasks"), help="folder of the tasks"
    )
    command.add_argument(
        "--task_prefix", "--task-prefix", metavar="NAME", help="prefix of the task (default: all of them)"
    )
    command.add_argument("--json", action="store_true", help="print a JSON document instead of lines")


def _status(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.domain.settings import Settings
    from gpt_batch_api.monitor.report import status_document, status_lines
    from gpt_batch_api.store.snapshot import take_from

    settings = Settings.from_values({})
    documents = []
    for store in _stores(arguments.task_dir, arguments.task_prefix):
        prefix = store.name.removesuffix("_state.db")
        taken = take_from(store)
        if taken is None:
            continue
        if arguments.json:
            documents.append(status_document(taken, settings=settings, prefix=prefix))
        else:
            print("\n".join(status_lines(taken, settings=settings, prefix=prefix)))
    if arguments.json:
        print(json.dumps(documents[0] if arguments.task_prefix else documents, indent=2))
    return 0


def _add_estimate(commands: argparse._SubParsersAction[argparse.ArgumentParser], *, complete: bool) -> None:
    command = commands.add_parser(
        "estimate",
        help="tell tokens, cost and time of what is not done yet (all tasks of a folder if no prefix is given)",
        description="Tell requests, tokens, cost in batches and by direct calls, batches and time of what is not done yet. "
        "It knows what the store knows; the flag --estimate of a task's own command asks its generator too.",
        allow_abbrev=False,
    )
    if not complete:
        return
    from gpt_batch_api.cli.options import SettingsHelp, add_settings
    from gpt_batch_api.domain.options import options
    from gpt_batch_api.domain.settings import Settings

    command.formatter_class = SettingsHelp
    _add_task(command)
    for group, names in _ESTIMATE_SETTINGS.items():
        others = [option.name for option in options(Settings) if option.section == group and option.name not in names]
        add_settings(command, groups=(group,), exclude=others if names else ())
    command.set_defaults(command=_estimate)


def _estimate(arguments: argparse.Namespace) -> int:
    import time

    from gpt_batch_api.cli.options import settings_from_args
    from gpt_batch_api.engine.estimate import estimate_stored
    from gpt_batch_api.monitor.estimates import estimate_document, estimate_lines

    settings = settings_from_args(arguments, ignore=("task_dir", "task_prefix"))
    documents = []
    for store in _stores(arguments.task_dir, arguments.task_prefix):
        prefix = store.name.removesuffix("_state.db")
        found = estimate_stored(store, settings, now=time.time())
        if found is None:
            continue
        if arguments.json:
            documents.append(estimate_document(found, prefix=prefix))
        else:
            print("\n".join(estimate_lines(found, prefix=prefix)))
    if arguments.json:
        print(json.dumps(documents[0] if arguments.task_prefix and documents else documents, indent=2))
    return 0


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check a task's store and files without changing them: what is wrong, and what the next run will mend",
        epilog="Exit code: 0 if nothing is wrong, 1 if something is.",
        allow_abbrev=False,
    )
    _add_task(doctor)
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from gpt_batch_api.domain.workplace import Workplace
    from gpt_batch_api.engine.doctor import examine
    from gpt_batch_api.monitor.health import health_document, health_lines

    found = [
        examine(Workplace(store.parent, store.name.removesuffix("_state.db")))
        for store in _stores(arguments.task_dir, arguments.task_prefix)
    ]
    if arguments.json:
        documents = [health_document(diagnosis) for diagnosis in found]
        print(json.dumps(documents[0] if arguments.task_prefix else documents, indent=2))
    else:
        print("\n".join(line for diagnosis in found for line in health_lines(diagnosis)))
    return 0 if all(diagnosis.healthy for diagnosis in found) else 1


def _stores(folder: Path, prefix: str | None) -> list[Path]:
    if prefix is not None:
        path = folder / f"{prefix}_state.db"
        if not path.exists():
            raise UserError(f"There is no task {prefix!r} in {folder}.")
        return [path]
    found = sorted(folder.glob("*_state.db")) if folder.is_dir() else []
    if not found:
        raise UserError(f"There are no tasks in {folder}. Name their folder with --task_dir.")
    return found


def _add_sandbox(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    commands.add_parser(
        "sandbox",
        help="run a local server that speaks the provider's API: made-up answers, no cost, bad weather on demand",
    )


def _sandbox(arguments: Sequence[str]) -> int:
    from gpt_batch_api.sandbox.__main__ import main as run_sandbox

    return run_sandbox(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
