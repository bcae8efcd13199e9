"""Write docs/reference.md: every public name with its signature and its docstring, from the code.

    python -m scripts.make_reference

A test compares the file with what this script would write.
"""

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
REFERENCE_FILE = ROOT / "docs" / "reference.md"
MODULES = ("gpt_batch_api", "gpt_batch_api.testing", "gpt_batch_api.utils")
"""The doors that are imported."""
LONGEST_SIGNATURE = 100

HEAD = """\
# Reference

<!-- Made by scripts/make_reference.py from the code; do not edit. -->

Every public name. Settings, which all of these take, stand in [settings.md](settings.md); how it all fits together, in
[the tutorial](tutorial.md) and in [tasks.md](tasks.md).
"""


def reference_text() -> str:
    """The page."""
    parts = [HEAD]
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        parts.append(f"\n## `{module_name}`\n\n{_doc(module)}")
        for name in sorted(_public_names(module), key=str.lower):
            value = getattr(module, name)
            if inspect.isclass(value):
                parts.append(_class_text(name, value))
            elif callable(value):
                parts.append(f"\n### `{name}`\n\n{_signature(name, value)}{_doc(value)}")
    return "".join(parts)


def _public_names(module: ModuleType) -> set[str]:
    """Also those that `import *` leaves out."""
    return {*module.__all__, *getattr(module, "_PUBLIC", ())}


def main() -> None:
    REFERENCE_FILE.write_text(reference_text(), encoding="utf-8")
    print(f"{REFERENCE_FILE.relative_to(ROOT)} written")


def _class_text(name: str, kind: type) -> str:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    parts = [f"\n### `{name}`\n\n", f"A kind of `{bases}`.\n\n" if bases else ""]
    if "__init__" in vars(kind):
        parts.append(_signature(name, kind))
    parts.append(_doc(kind))
    members = [(member_name, member, text) for member_name, member, text in _members(kind) if text]
    parts.append("\n" if members else "")
    for member_name, member, text in members:
        call = f"`{member_name}`" if isinstance(member, property) else _short_call(member_name, member)
        parts.append(f"- {call}: {textwrap.indent(text, '  ').strip()}\n")
    return "".join(parts)


def _members(kind: type) -> Iterator[tuple[str, Any, str]]:
    """(name, member, docstring) of what the class itself defines for others to use."""
    for name, member in vars(kind).items():
        is_member = isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
        if is_member and not name.startswith("_"):
            yield name, member, inspect.cleandoc(member.__doc__ or "")


def _signature(name: str, value: Any) -> str:
    """How it is called, with types and defaults."""
    signature = inspect.signature(value)
    shown = list(_parameters(signature))
    returns = "" if inspect.isclass(value) else f" -> {_type(signature.return_annotation)}"
    line = f"{name}({', '.join(shown)}){returns}"
    if len(line) > LONGEST_SIGNATURE:
        line = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in shown) + f"){returns}"
    return f"```text\n{line}\n```\n\n"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    star_is_due = True
    for each in signature.parameters.values():
        if each.name.startswith("_"):
            continue
        if each.kind is each.KEYWORD_ONLY and star_is_due:
            star_is_due = False
            yield "*"
        star_is_due = star_is_due and each.kind is not each.VAR_POSITIONAL
        stars = "*" * (each.kind is each.VAR_POSITIONAL) + "**" * (each.kind is each.VAR_KEYWORD)
        default = "" if each.default is each.empty else f" = {re.sub('^<.*>$', '…', repr(each.default))}"
        yield f"{stars}{each.name}: {_type(each.annotation)}{default}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _short_call(name: str, member: Any) -> str:
    """The names of the arguments only; those that may be left out with an ellipsis."""
    function = getattr(member, "__func__", member)
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name not in ("self", "cls")]
    return (
        f"`{name}({', '.join(each.name if each.default is each.empty else f'{each.name}=…' for each in parameters)})`"
    )


def _doc(value: Any) -> str:
    """The docstring as it stands."""
    return f"{inspect.cleandoc(value.__doc__ or '')}\n"


if __name__ == "__main__":
    main()
