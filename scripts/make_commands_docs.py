"""Write the reference part of docs/commands.md from the parsers of the commands.

    python -m scripts.make_commands_docs

What stands above the mark is written by hand. A test compares the rest with what this script would write.
"""

import argparse
import re
from pathlib import Path

from gpt_batch_api.cli.main import COMMANDS, make_parser
from gpt_batch_api.cli.options import SettingAction

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "commands.md"
MARK = "<!-- Below: made by scripts/make_commands_docs.py from the parsers; do not edit. -->\n"


def with_reference(text: str) -> str:
    """*text* with the reference as it is now below the mark."""
    by_hand, mark, _ = text.partition(MARK)
    assert mark, f"{FILE.name} has lost its mark"
    return by_hand + mark + "".join(_command(name) for name in COMMANDS)


def main() -> None:
    FILE.write_text(with_reference(FILE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(COMMANDS)} commands")


def _command(name: str) -> str:
    parser = make_parser(name)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    words = " ".join(_usage(action) for action in shown if not action.option_strings)
    settings = [action for action in shown if isinstance(action, SettingAction)]
    own = [action for action in shown if not isinstance(action, SettingAction)]
    parts = [f"\n## gpt-batch-api {name}\n\n{_sentence(parser.description or COMMANDS[name])}\n"]
    parts.append(f"\n```\n{' '.join(filter(None, (f'gpt-batch-api {name}', words, '[flags]' if own else '')))}\n```\n")
    if own:
        parts.append("\n| argument | meaning |\n|---|---|\n")
        parts += (f"| {_names(action)} | {_cell(_help(parser, action))} |\n" for action in own)
    if settings:
        names = ", ".join(f"`{action.option_strings[0]}`" for action in settings)
        parts.append(f"\nSettings ([their meaning](settings.md)): {names}.\n")
    if parser.epilog:
        parts.append(f"\n{parser.epilog}\n")
    return "".join(parts)


def _usage(action: argparse.Action) -> str:
    return _choices(action) if action.choices else str(action.metavar or action.dest)


def _choices(action: argparse.Action) -> str:
    return "{" + "|".join(map(str, action.choices or ())) + "}"


def _names(action: argparse.Action) -> str:
    """How it is typed; of two ways to write a flag the first."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    if action.nargs == 0:
        return f"`{action.option_strings[0]}`"
    value = action.metavar or (_choices(action) if action.choices else action.dest.upper())
    return f"`{action.option_strings[0]} {value}`".replace("|", "\\|")


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return argparse.HelpFormatter(parser.prog)._expand_help(action) if action.help else ""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text[0].upper() + text[1:] + ("" if text.endswith(".") or "`" in text[-3:] else ".")


if __name__ == "__main__":
    main()
