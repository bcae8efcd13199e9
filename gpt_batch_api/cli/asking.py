"""Ask a person before something is done that cannot be taken back."""

from __future__ import annotations

import sys
from collections.abc import Callable

NOT_DONE = "Nothing was changed."


def agreed(question: str, *, yes: bool, tell: Callable[[str], object]) -> bool:
    """Whether it may be done: `--yes` was given, or a person at a terminal says so. Nobody there means no."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        tell(f"{NOT_DONE} To do it, add --yes.")
        return False
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    tell(NOT_DONE)
    return False
