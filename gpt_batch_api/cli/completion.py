"""`gpt-batch-api completion`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gpt_batch_api.cli.main import COMMANDS, command
from gpt_batch_api.cli.options import SettingAction
from gpt_batch_api.domain.errors import MissingExtra

SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print a script that teaches a shell to complete the commands and flags of gpt-batch-api. "
        'bash, zsh: put eval "$(gpt-batch-api completion bash)" into ~/.bashrc (zsh into ~/.zshrc, after compinit). '
        "fish: gpt-batch-api completion fish > ~/.config/fish/completions/gpt-batch-api.fish"
    )
    parser.add_argument("shell", choices=SHELLS, help="whose script to print")


def run(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        raise MissingExtra("completion", "Shell completion") from error
    print(shtab.complete(whole_parser(), arguments.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """One parser of all commands with all their flags, files and choices marked for completion."""
    parser = argparse.ArgumentParser(prog="gpt-batch-api")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers()
    for name, line in COMMANDS.items():
        one = commands.add_parser(name, help=line, description=line)
        command(name).add_arguments(one)
        for action in one._actions:
            _mark(action)
    return parser


def _mark(action: Any) -> None:
    """Say which values fit, where the declaration says it in another way than argparse."""
    kind = action.type
    if isinstance(action, SettingAction):
        kind = action.option.kind
        action.choices = action.option.choices or None
    if (kind is Path or action.metavar == "CODE") and not action.choices:
        from shtab import DIRECTORY, FILE

        action.complete = DIRECTORY if action.metavar == "DIR" else FILE
