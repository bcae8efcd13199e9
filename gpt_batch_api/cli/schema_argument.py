"""A schema named on the command line: a JSON schema, or a pydantic model in a module or a script."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import UserError


def load_schema(text: str) -> type | Mapping[str, Any]:
    """What `--schema` names: `FILE.json`, `module:Model`, `path.py:Model`, or a JSON schema itself.

    Raises UserError if it is not there.
    """
    if text.lstrip().startswith("{"):
        return _read(text, text)
    place, colon, name = text.rpartition(":")
    if not colon or not name.replace(".", "").isidentifier():
        return _from_file(Path(text))
    module = _script(Path(place)) if place.endswith(".py") else place
    if not place.endswith(".py"):
        sys.path.insert(0, "")  # as for `python -m`: modules of the present folder
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the user's module raises
        raise UserError(f"schema is {text!r}, but {type(error).__name__}: {error}.") from error
    if not isinstance(found, type):
        raise UserError(f"schema is {text!r}, but that is no class. Name a pydantic model.")
    return found


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"schema is {str(path)!r}, which cannot be read: {error.strerror}. It may be FILE.json, module:Model or "
            "path.py:Model."
        ) from error
    return _read(content, str(path))


def _read(content: str | bytes, name: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"schema is {name!r:.60}, which is no JSON: {error}.") from error
    if not isinstance(document, dict):
        raise UserError(f"schema is {name!r:.60}, which holds no JSON object.")
    return document


def _script(path: Path) -> str:
    """The module that a script is when it is imported; its folder comes first on the way there."""
    if not path.is_file():
        raise UserError(f"schema names the script {path}, which does not exist.")
    sys.path.insert(0, str(path.absolute().parent))
    module = sys.modules.get(path.stem)
    if module is not None and Path(getattr(module, "__file__", None) or "") != path.absolute():
        raise UserError(
            f"schema names {path}, but a module {path.stem!r} is in use already. Give the script another name."
        )
    return path.stem
