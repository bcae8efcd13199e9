"""Find the user's task code: `module:TaskClass`, or `path.py:TaskClass`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from gpt_batch_api.domain.errors import TaskCodeError, UserError
from gpt_batch_api.task_manager import TaskManager


@contextmanager
def task_class(where: str) -> Iterator[type[TaskManager]]:
    """The task's class. Its name may be left out where there is only one. Raises UserError if it is not there.

    While it is used its module also goes by the name `__main__`: models of answers are found again by their module, and
    a script that was run by itself has stored that name.
    """
    place, _, name = where.partition(":")
    module = _load(place)
    main = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield _pick(module, name, place)
    finally:
        sys.modules["__main__"] = main


def _load(place: str) -> ModuleType:
    try:
        return _load_script(Path(place)) if place.endswith(".py") else _load_module(place)
    except UserError:
        raise
    except Exception as error:
        raise TaskCodeError(
            f"The task code {place} cannot be loaded: {type(error).__name__}: {error}.", sample_key=None, location=place
        ) from error


def _load_script(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"There is no file {path}. Name the task's script, or a module: module:TaskClass.")
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_task"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _look_in(path.resolve().parent)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UserError(f"There is no module {name!r}. Name a module, or a file that ends in .py.") from error


def _look_in(folder: Path) -> None:
    """Let the task's code import what lies beside it, as it can when it is run by itself."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _pick(module: ModuleType, name: str, place: str) -> type[TaskManager]:
    own = {
        thing.__name__: thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, TaskManager) and thing.__module__ == module.__name__
    }
    if name:
        found = getattr(module, name, None)
        if not (isinstance(found, type) and issubclass(found, TaskManager)):
            raise UserError(f"{place} has no task {name!r}. It has: {', '.join(own) or 'none'}.")
        return found
    if len(own) != 1:
        has = f"has {len(own)} tasks: say which, for example {place}:{next(iter(own))}" if own else "has no TaskManager"
        raise UserError(f"{place} {has}.")
    return next(iter(own.values()))
