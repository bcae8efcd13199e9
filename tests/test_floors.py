"""The house stands: every room imports only from lower floors, and rooms on one floor do not know each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpt_batch_api

PACKAGE = Path(gpt_batch_api.__file__).parent

FLOORS = (
    {"domain", "data"},
    {"tokens", "pricing", "sandbox"},
    {"endpoints", "planning"},
    {"store", "wire", "sinks"},
    {"engine", "monitor", "tables"},
    {"task"},
    {
        "task_manager",
        "gpt_requester",
        "table_task",
        "mapping",
        "task_manager_demo",
        "utils",
        "utils_test",
        "tokens_test",
        "wandb_configure_view",
        "cli",
        "testing",
        "config",
        "__main__",
    },
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
DOORS = len(FLOORS) - 1
SANDBOX_MAY_USE = {"domain.clock", "data"}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names inside the package that *path* imports, anywhere in the file, lazy imports too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            if node.module == "gpt_batch_api":
                yield from (alias.name for alias in node.names)
            elif node.module and node.module.startswith("gpt_batch_api."):
                yield node.module.removeprefix("gpt_batch_api.")
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("gpt_batch_api.")
                for alias in node.names
                if alias.name.startswith("gpt_batch_api.")
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_lower_floors(path: Path) -> None:
    """Calls go down. A door may use another door."""
    room = room_of(path)
    assert room in FLOOR, f"{room} has no floor: say in this test where it belongs"
    for name in imports_of(path):
        other = name.split(".")[0]
        if other == room or other == "__version__":
            continue
        lower = FLOOR[other] < FLOOR[room]
        assert lower or FLOOR[other] == FLOOR[room] == DOORS, f"{path.name} ({room}) imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "sandbox").rglob("*.py")), ids=lambda path: path.name)
def test_the_sandbox_is_an_independent_reading_of_the_api(path: Path) -> None:
    """It may use the clock and packaged data, never our counting or pricing."""
    for name in imports_of(path):
        assert name.startswith("sandbox") or name in SANDBOX_MAY_USE, f"{path.name} imports {name}"


HEAVY = {
    "openai",
    "tiktoken",
    "rich",
    "wandb",
    "trackio",
    "pyarrow",
    "starlette",
    "uvicorn",
    "hydra",
    "omegaconf",
    "yaml",
    "httpx2",
    "aiohttp",
}
OUR_SERVER = "sandbox"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(path) != OUR_SERVER], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    """`--help` must be instant, so nothing heavy is imported at the top of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] not in HEAVY, f"{path.name} imports {name} at its top"
